//! The two clocks of arrivals: CLOCK_REALTIME, by which the kernel stamps what it receives and which
//! may be set at any time, and CLOCK_MONOTONIC, by which durations are measured.

/// The clocks of a host drift by less between two turns; more is a step.
const STEP_NS: u64 = 1_000_000;

/// The same moment by two clocks, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clocks {
    /// CLOCK_REALTIME, by which the kernel stamps what it receives.
    pub real_ns: u64,
    /// CLOCK_MONOTONIC, which nobody sets.
    pub monotonic_ns: u64,
}

/// Finds out when CLOCK_REALTIME was set.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClockSteps {
    /// By how much CLOCK_REALTIME is ahead of CLOCK_MONOTONIC.
    ahead_ns: Option<u64>,
    /// The last time at which CLOCK_REALTIME was found to have been set: earlier stamps are void.
    set_ns: u64,
}

impl ClockSteps {
    /// Compares the clocks; true if CLOCK_REALTIME was set since the last call.
    #[inline]
    pub(super) fn observe(&mut self, now: Clocks) -> bool {
        let ahead_ns = now.real_ns.wrapping_sub(now.monotonic_ns);
        let before = self.ahead_ns.replace(ahead_ns);
        let is_step = before.is_some_and(|before| before.abs_diff(ahead_ns) > STEP_NS);
        if is_step {
            self.set_ns = now.real_ns;
        }
        is_step
    }

    /// Whether a stamp of the kernel is one of the present CLOCK_REALTIME; 0 is none.
    #[inline]
    pub(super) const fn is_valid(&self, stamp_ns: u64) -> bool {
        stamp_ns != 0 && stamp_ns >= self.set_ns
    }
}

/// The arrivals of a turn by CLOCK_MONOTONIC, so that the times between them survive a step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ArrivalClock {
    steps: ClockSteps,
    /// The beginning of the turn.
    now: Clocks,
    /// Whether stamps may be those of a clock that has been set meanwhile.
    is_doubtful: bool,
}

impl ArrivalClock {
    /// Begins a turn.
    #[inline]
    pub(super) fn begin_turn(&mut self, now: Clocks) {
        (self.is_doubtful, self.now) = (self.steps.observe(now), now);
    }

    /// When a datagram arrived that the kernel stamped, if it did; else it has arrived now.
    #[inline(always)]
    pub(super) fn arrival_ns(&self, stamp_ns: Option<u64>) -> u64 {
        /// What a stopped worker finds in its sockets is not older.
        const OLDEST_NS: u64 = 60_000_000_000;
        /// A turn receives what arrives while it lasts.
        const NEWEST_NS: u64 = 1_000_000_000;
        let Clocks { real_ns, monotonic_ns } = self.now;
        let Some(stamp_ns) = stamp_ns else { return monotonic_ns };
        let since_oldest_ns = stamp_ns.wrapping_add(OLDEST_NS).wrapping_sub(real_ns);
        if self.is_doubtful || since_oldest_ns > OLDEST_NS + NEWEST_NS {
            return monotonic_ns;
        }
        monotonic_ns.wrapping_add(stamp_ns.wrapping_sub(real_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL_NS: u64 = 1_800_000_000_000_000_000;

    #[test]
    fn a_step_of_the_clock_changes_no_time_between_arrivals() {
        const HOUR_NS: i64 = 3_600_000_000_000;
        for step_ns in [HOUR_NS, -HOUR_NS, 5_000_000, -5_000_000] {
            let real_ns = |ns: u64, is_set: bool| {
                (REAL_NS + ns).checked_add_signed(if is_set { step_ns } else { 0 }).unwrap()
            };
            let (mut clock, mut before_ns) = (ArrivalClock::default(), None);
            for number in 0..100_u64 {
                let arrived_ns = 100_000_000_000 + number * 1_000_000;
                let monotonic_ns = arrived_ns + 1000;
                // One datagram has the stamp of the clock before.
                let now_ns = real_ns(monotonic_ns, number >= 50);
                clock.begin_turn(Clocks { real_ns: now_ns, monotonic_ns });
                let arrival_ns = clock.arrival_ns(Some(real_ns(arrived_ns, number > 50)));
                let gap_ns = before_ns.replace(arrival_ns).map_or(1_000_000, |it| arrival_ns - it);
                assert!((999_000..=1_001_000).contains(&gap_ns), "{step_ns}: {number}, {gap_ns}");
            }
        }
    }

    #[test]
    fn arrivals_without_a_plausible_stamp_are_those_of_the_turn() {
        let mut clock = ArrivalClock::default();
        clock.begin_turn(Clocks { real_ns: REAL_NS, monotonic_ns: 200_000_000_000 });
        assert_eq!(clock.arrival_ns(None), 200_000_000_000);
        assert_eq!(clock.arrival_ns(Some(REAL_NS - 7_000_000_000)), 193_000_000_000);
        assert_eq!(clock.arrival_ns(Some(REAL_NS + 20_000)), 200_000_020_000);
        for stamp_ns in [0, REAL_NS / 2, REAL_NS - 61_000_000_000, REAL_NS + 2_000_000_000] {
            assert_eq!(clock.arrival_ns(Some(stamp_ns)), 200_000_000_000);
        }
    }
}
