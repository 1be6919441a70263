//! Even spacing: each datagram has a deadline independent of when the last one left, so that
//! lateness does not add up. Waiting happens in slices, so that a stop is noticed.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::sched;

/// The last part of a wait is spent on the CPU: sleeps sometimes end this late.
const SPIN: Duration = Duration::from_micros(60);

/// The interval at which a waiting thread checks for a stop.
const SLICE: Duration = Duration::from_millis(50);

/// Deadlines at a fixed rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    start: Instant,
    rate_pps: f64,
}

impl Pace {
    pub(super) fn new(start: Instant, rate_pps: f64) -> Self {
        Self { start, rate_pps }
    }

    /// When datagram `number` is due; `None` if that is out of the clock's range.
    pub(super) fn deadline(&self, number: u64) -> Option<Instant> {
        let after = Duration::try_from_secs_f64(number as f64 / self.rate_pps).ok()?;
        self.start.checked_add(after)
    }
}

/// Asks the kernel to wake the calling thread on time: its sleeps end without the usual delay of up
/// to 50 us, and other threads yield to it. They yield at once while it spends at most a quarter of
/// the time waiting on the CPU; above that it gets only the top priority of an ordinary thread, so
/// that it does not starve the others. This needs CAP_SYS_NICE. Without it the pace is less even on
/// a busy host.
pub(super) fn raise_priority(rate_pps: f64) {
    let _ = nix::sys::prctl::set_timerslack(1);
    let rests = SPIN.as_secs_f64() * rate_pps <= 0.25;
    let _ = if rests { sched::set_realtime_priority() } else { sched::set_highest_nice() };
}

/// Waits until `deadline` (`None`: forever); false if `stop` was set first.
pub(super) fn wait_until(deadline: Option<Instant>, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        let left = deadline
            .map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return true;
        }
        match left.checked_sub(SPIN) {
            Some(nap) if !nap.is_zero() => thread::sleep(nap.min(SLICE)),
            _ => std::hint::spin_loop(),
        }
    }
    false
}

/// Waits until the socket is ready, `end` is reached, or a slice is over, whichever is first.
pub(super) fn wait_ready(fd: BorrowedFd<'_>, events: PollFlags, end: Option<Instant>) {
    let left = end.map_or(SLICE, |end| end.saturating_duration_since(Instant::now()).min(SLICE));
    // Rounded up, to wait up to a millisecond too long rather than busy-loop for the rest of one.
    let ms = u16::try_from(left.as_millis()).unwrap_or(0) + 1;
    // Whatever poll returns, the caller tries again and checks the clock.
    let _ = poll(&mut [PollFd::new(fd, events)], PollTimeout::from(ms));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_do_not_drift() {
        let start = Instant::now();
        let pace = Pace::new(start, 3.0);
        let after = |number| pace.deadline(number).unwrap() - start;
        assert_eq!(after(0), Duration::ZERO);
        assert_eq!(after(3_000_000), Duration::from_secs(1_000_000));
        assert_eq!(Pace::new(start, 1e-300).deadline(1), None);
    }

    #[test]
    fn a_wait_ends_at_its_deadline_or_when_stopped() {
        let stop = AtomicBool::new(false);
        let deadline = Instant::now() + Duration::from_millis(2);
        assert!(wait_until(Some(deadline), &stop));
        assert!(Instant::now() >= deadline);
        stop.store(true, Ordering::Relaxed);
        assert!(!wait_until(None, &stop));
    }
}
