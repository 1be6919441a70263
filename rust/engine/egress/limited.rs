//! Batches for outputs with a rate: what the rate admits is sent, and the rest is lost.

use super::tapped::CopyOutcome;
use super::{Egress, PlanOutput};
use crate::engine::clocks::monotonic_clock_ns;
use crate::engine::plan::Plan;
use crate::engine::window::Window;
use crate::stats::{self, Loss, Writer};
use crate::sys::ring::Ring;

/// Whether one of these outputs has a rate.
pub(super) fn has_limit(targets: &[PlanOutput]) -> bool {
    targets.iter().any(|target| target.limiter.is_some())
}

impl Egress {
    /// The part of a batch that an output sends; without limits and taps in the plan, all of it.
    #[inline(always)]
    pub(super) fn admitted<const IS_PLAIN: bool>(
        &mut self,
        seen: (&Ring, &Window),
        plan: &Plan,
        place: (u32, u32),
        batch: u32,
        counters: &mut Writer,
    ) -> Option<u32> {
        if IS_PLAIN { Some(batch) } else { self.admit(seen, plan, place, batch, counters) }
    }

    /// The part of a batch that the rate of an output admits, as a batch; `None` if that is nothing.
    /// Counts the rest as lost. `place` is the rule's number and the output's position in its share.
    #[inline(never)]
    fn admit(
        &mut self,
        (ring, window): (&Ring, &Window),
        plan: &Plan,
        place: (u32, u32),
        batch: u32,
        counters: &mut Writer,
    ) -> Option<u32> {
        let (rule, output) = place;
        let target = &plan.share(rule)[output as usize];
        let Some(limiter) = target.limiter.as_deref() else { return Some(batch) };
        let load = self.batches.load(window, batch);
        let admitted = limiter.admit(monotonic_clock_ns(), load);
        if admitted == load.datagrams {
            return Some(batch);
        }
        let (now_ms, lost) = (counters.now_ms(), load.datagrams - admitted);
        let words = counters.slot(target.slot.index);
        stats::count_loss(words, Loss::RateLimited, lost.into(), now_ms);
        let (datagrams, loss) = (admitted..load.datagrams, Some((Loss::RateLimited, 0)));
        self.record((ring, window), plan, &CopyOutcome { rule, output, batch, datagrams, loss });
        (admitted > 0).then(|| self.batches.add_head(batch, admitted))
    }
}
