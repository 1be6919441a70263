//! What the kernel has relayed of a rule in all of its places: the counters of the present place,
//! and what those before it had counted in the end.

use std::time::{Duration, Instant};

use crate::offload::{OutputCounters, RuleCounters, Volume};
use crate::stats::Loss;
use crate::stats::kernel::{KernelOutputCounts, KernelRuleCounts};

/// The longest time in which copies reach their device once they are counted as copied.
pub(super) const FLIGHT: Duration = Duration::from_millis(10);
/// The longest time in which they do once their datagram is in the queue of another CPU: that holds
/// 2048 datagrams with at most 64 copies each.
pub(super) const QUEUE_FLIGHT: Duration = Duration::from_millis(500);

/// The counts of a rule without its present place.
#[derive(Clone, Debug, Default)]
pub(super) struct RuleTotals {
    pub(super) matched: Volume,
    pub(super) outputs: Vec<OutputTotals>,
    /// The time of the last datagram in milliseconds of CLOCK_MONOTONIC_COARSE; 0 for none.
    pub(super) last_seen_ms: u64,
    /// Its source, upper and lower half.
    pub(super) last_source: [u64; 2],
}

/// The counts of an output without its present place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OutputTotals {
    pub(super) sent: Volume,
    pub(super) full: u64,
    pub(super) lost: u64,
    losses: DatedLosses,
}

/// When copies of an output were lost last, as far as it was noticed: counters have no times.
#[derive(Clone, Copy, Debug, Default)]
struct DatedLosses {
    /// `full` and `lost`, with the present place, when they were read last.
    known: [u64; 2],
    /// The time in milliseconds of CLOCK_MONOTONIC_COARSE, and the [`Loss`] as a number.
    last: [u64; 2],
}

/// Which copies of a place never reach their devices. Copies on their way look the same, but only
/// for a limited time.
#[derive(Clone, Debug)]
pub(super) struct LostCopies {
    flight: Duration,
    /// A time, and the datagrams that were matched and copied then.
    mark: (Instant, [u64; 2]),
    /// The datagrams that are copied or lost, and those whose copies have arrived or are lost.
    settled: [u64; 2],
    /// The datagrams that the queue of another CPU did not accept.
    pub(super) overflowed: u64,
    /// By output: copies that were made and lost.
    pub(super) lost: Vec<u64>,
}

impl LostCopies {
    /// Of a place with so many outputs, whose copies another CPU makes or not.
    pub(super) fn new(outputs: usize, has_queue: bool) -> Self {
        let flight = if has_queue { QUEUE_FLIGHT } else { FLIGHT };
        let lost = vec![0; outputs];
        Self { flight, mark: (Instant::now(), [0; 2]), settled: [0; 2], overflowed: 0, lost }
    }

    /// Finds out which copies are lost for certain.
    pub(super) fn update(&mut self, counters: &RuleCounters, now: Instant) {
        let copied = counters.copied.datagrams;
        if now.duration_since(self.mark.0) >= self.flight {
            self.settled = self.mark.1;
            self.mark = (now, [counters.matched.datagrams, copied]);
        }
        self.overflowed = self.settled[0].saturating_sub(copied).max(self.overflowed);
        for (lost, output) in self.lost.iter_mut().zip(&counters.outputs) {
            *lost = self.settled[1].saturating_sub(output.handed.datagrams).max(*lost);
        }
    }
}

impl RuleTotals {
    /// Of a rule with so many outputs.
    pub(super) fn new(outputs: usize) -> Self {
        Self { outputs: vec![OutputTotals::default(); outputs], ..Self::default() }
    }

    /// Those that a predecessor has left in the page.
    pub(super) fn resumed(rule: &KernelRuleCounts, outputs: &[KernelOutputCounts]) -> Self {
        let has_place = rule.place != 0;
        let volume = |datagrams, bytes| Volume { datagrams, bytes };
        let each = outputs.iter().map(|of| {
            let [sent, bytes, full, lost] = match has_place {
                true => of.base,
                // Copies on their way have arrived.
                false => [of.sent, of.sent_bytes, of.full, of.lost + of.pending],
            };
            let losses = DatedLosses { known: [of.full, of.lost], last: [of.loss_ms, of.loss] };
            OutputTotals { sent: volume(sent, bytes), full, lost, losses }
        });
        let matched = if has_place {
            volume(rule.base_matched, rule.base_bytes)
        } else {
            volume(rule.matched, rule.matched_bytes)
        };
        let (last_seen_ms, last_source) = (rule.last_seen_ms, rule.last_source);
        Self { matched, outputs: each.collect(), last_seen_ms, last_source }
    }

    /// Adds what a place has counted between two readings.
    pub(super) fn add(&mut self, after: &RuleCounters, before: &RuleCounters) {
        self.matched = self.matched.plus(after.matched.without(before.matched));
        let none = OutputCounters::default();
        for (at, (own, after)) in self.outputs.iter_mut().zip(&after.outputs).enumerate() {
            let before = before.outputs.get(at).unwrap_or(&none);
            own.sent = own.sent.plus(after.sent().without(before.sent()));
            own.full += after.rejected.without(before.rejected).datagrams;
        }
    }

    /// Adds the copies of a place that never reached their devices, once it is out of use.
    pub(super) fn add_lost(&mut self, counters: &RuleCounters) {
        for (at, own) in self.outputs.iter_mut().enumerate().take(counters.outputs.len()) {
            own.full += counters.queued_or_overflowed().datagrams;
            own.lost += counters.unhanded(at).datagrams;
        }
    }

    /// Notes the last datagram.
    pub(super) fn note_last(&mut self, counters: &RuleCounters) {
        const NANOS: u64 = 1_000_000;
        let seen_ms = counters.last_seen_ns / NANOS;
        if let Some(source) = counters.last_source.filter(|_| seen_ms > self.last_seen_ms) {
            let bits = source.bits().to_be_bytes();
            let (halves, _) = bits.as_chunks::<8>();
            self.last_source = [halves[0], halves[1]].map(u64::from_be_bytes);
            self.last_seen_ms = seen_ms;
        }
    }

    /// The rule's share in the page, with the counters of its present place.
    pub(super) fn rule(&self, counters: &RuleCounters, place: u64, way: u64) -> KernelRuleCounts {
        let matched = self.matched.plus(counters.matched);
        KernelRuleCounts {
            way,
            matched: matched.datagrams,
            matched_bytes: matched.bytes,
            last_seen_ms: self.last_seen_ms,
            last_source: self.last_source,
            place,
            base_matched: self.matched.datagrams,
            base_bytes: self.matched.bytes,
        }
    }

    /// An output's share, with the copies lost of its present place before (`overflowed`) and after
    /// they were made, and those of earlier places that may still be on their way.
    pub(super) fn output(
        &self,
        at: usize,
        counters: &RuleCounters,
        [overflowed, lost]: [u64; 2],
        retiring: u64,
    ) -> KernelOutputCounts {
        let Some(own) = self.outputs.get(at) else { return KernelOutputCounts::default() };
        let none = OutputCounters::default();
        let now = counters.outputs.get(at).unwrap_or(&none);
        let sent = own.sent.plus(now.sent());
        let unhanded = counters.matched.without(now.handed).datagrams;
        KernelOutputCounts {
            sent: sent.datagrams,
            sent_bytes: sent.bytes,
            full: own.full + now.rejected.datagrams + overflowed,
            lost: own.lost + lost,
            pending: unhanded.saturating_sub(overflowed + lost) + retiring,
            base: [own.sent.datagrams, own.sent.bytes, own.full, own.lost],
            ..KernelOutputCounts::default()
        }
    }

    /// An output's share with the time of its last loss, which is now if there are more of them.
    pub(super) fn dated(
        &mut self,
        at: usize,
        counts: KernelOutputCounts,
        now_ms: u64,
    ) -> KernelOutputCounts {
        let Some(own) = self.outputs.get_mut(at) else { return counts };
        let found = [counts.full, counts.lost];
        for ((known, now), loss) in
            own.losses.known.iter_mut().zip(found).zip([Loss::DeviceFull, Loss::DeviceLost])
        {
            if now > *known {
                own.losses.last = [now_ms, loss as u64];
            }
            *known = now;
        }
        let [loss_ms, loss] = own.losses.last;
        KernelOutputCounts { loss_ms, loss, ..counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(datagrams: u64) -> Volume {
        Volume { datagrams, bytes: 10 * datagrams }
    }

    fn counters(copied: u64, handed: u64, rejected: u64) -> RuleCounters {
        let output = OutputCounters { handed: volume(handed), rejected: volume(rejected) };
        let (matched, copied) = (volume(copied), volume(copied));
        RuleCounters { matched, copied, outputs: vec![output], ..RuleCounters::default() }
    }

    #[test]
    fn copies_are_lost_once_they_cannot_be_on_their_way() {
        let mut copies = LostCopies::new(1, false);
        let start = copies.mark.0;
        let mut at = |millis, copied, handed| {
            copies.update(&counters(copied, handed, 0), start + Duration::from_millis(millis));
            assert_eq!(copies.overflowed, 0);
            copies.lost[0]
        };
        assert_eq!(at(1, 10, 7), 0);
        assert_eq!(at(10, 10, 7), 0);
        assert_eq!(at(15, 20, 8), 0);
        assert_eq!(at(20, 20, 9), 1);
        assert_eq!(at(30, 20, 17), 3);
        assert_eq!(at(31, 30, 27), 3);
    }

    #[test]
    fn the_last_loss_has_the_time_at_which_it_was_noticed() {
        let mut totals = RuleTotals::new(1);
        let mut read = |full, lost, now_ms| {
            let counts = KernelOutputCounts { full, lost, ..KernelOutputCounts::default() };
            let dated = totals.dated(0, counts, now_ms);
            (dated, [dated.loss_ms, dated.loss])
        };
        let [full, lost] = [Loss::DeviceFull, Loss::DeviceLost].map(|loss| loss as u64);
        assert_eq!(read(0, 0, 10).1, [0, 0]);
        assert_eq!(read(3, 0, 20).1, [20, full]);
        assert_eq!(read(3, 0, 30).1, [20, full]);
        let (counts, last) = read(3, 1, 40);
        assert_eq!(last, [40, lost]);
        for place in [0, 1] {
            let rule = KernelRuleCounts { place, ..KernelRuleCounts::default() };
            let mut resumed = RuleTotals::resumed(&rule, &[counts]);
            let dated = resumed.dated(0, counts, 50);
            assert_eq!([dated.loss_ms, dated.loss], [40, lost]);
        }
    }

    #[test]
    fn datagrams_that_a_queue_did_not_accept_are_told_from_those_that_wait() {
        let mut copies = LostCopies::new(1, true);
        let start = copies.mark.0;
        let mut at = |millis, matched, copied, handed| {
            let counters = RuleCounters { matched: volume(matched), ..counters(copied, handed, 0) };
            copies.update(&counters, start + Duration::from_millis(millis));
            let totals = RuleTotals::new(1);
            let counts = totals.output(0, &counters, [copies.overflowed, copies.lost[0]], 0);
            assert_eq!(counts.wanted(), matched);
            (counts.full, counts.lost, counts.pending)
        };
        assert_eq!(at(499, 50, 30, 20), (0, 0, 30));
        assert_eq!(at(500, 60, 40, 39), (0, 0, 21));
        assert_eq!(at(1000, 80, 55, 54), (5, 0, 21));
        assert_eq!(at(1500, 80, 55, 54), (25, 1, 0));
    }

    #[test]
    fn counts_of_all_places_add_up_and_are_balanced() {
        let mut totals = RuleTotals::new(1);
        let before = counters(100, 90, 5);
        totals.add(&before, &RuleCounters::default());
        let after = counters(102, 92, 6);
        totals.add(&after, &before);
        totals.add_lost(&after);
        let now = counters(50, 40, 3);
        let (rule, output) = (totals.rule(&now, 1, 1), totals.output(0, &now, [0, 4], 0));
        assert_eq!((rule.matched, rule.matched_bytes), (152, 1520));
        assert_eq!((output.sent, output.full, output.lost, output.pending), (123, 9, 14, 6));
        assert_eq!(output.wanted(), rule.matched);
        let resumed = RuleTotals::resumed(&rule, &[output]);
        assert_eq!(resumed.matched, volume(102));
        assert_eq!((resumed.outputs[0].sent, resumed.outputs[0].lost), (volume(86), 10));
        let rule = KernelRuleCounts { place: 0, ..rule };
        let resumed = RuleTotals::resumed(&rule, &[output]);
        assert_eq!((resumed.matched, resumed.outputs[0].lost), (volume(152), 20));
    }
}
