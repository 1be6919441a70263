//! Batches for outputs with a rate: what the rate admits is sent, and the rest waits or is lost.

use std::ops::Range;

use super::tapped::CopyOutcome;
use super::{Egress, PlanOutput};
use crate::engine::clocks::monotonic_clock_ns;
use crate::engine::plan::Plan;
use crate::engine::rewrite::Origin;
use crate::engine::window::Window;
use crate::stats::{self, Loss, Writer, output};
use crate::sys::ring::Ring;

/// A batch of a lane for one output.
pub(super) struct OutputBatch<'a> {
    /// The rule's number, and the output's position in its share.
    pub(super) rule: u32,
    pub(super) output: u32,
    pub(super) batch: u32,
    /// The origin of its datagrams, as far as the rule preserves it.
    pub(super) origin: Option<&'a Origin>,
}

/// Whether one of these outputs has a rate.
pub(super) fn has_limit(targets: &[PlanOutput]) -> bool {
    targets.iter().any(|target| target.buckets.is_some())
}

impl Egress {
    /// The part of a batch that an output sends; without limits and taps in the plan, all of it.
    #[inline(always)]
    pub(super) fn admitted<const IS_PLAIN: bool>(
        &mut self,
        seen: (&mut Ring, &Window),
        plan: &Plan,
        of: &OutputBatch<'_>,
        counters: &mut Writer,
    ) -> Option<u32> {
        if IS_PLAIN { Some(of.batch) } else { self.admit(seen, plan, of, counters) }
    }

    /// The part of a batch that the rates of an output and of its interface admit, as a batch;
    /// `None` if that is nothing. The rest waits, or is counted as lost.
    #[inline(never)]
    fn admit(
        &mut self,
        (ring, window): (&mut Ring, &Window),
        plan: &Plan,
        of: &OutputBatch<'_>,
        counters: &mut Writer,
    ) -> Option<u32> {
        let batch = self.admit_to_output((ring, window), plan, of, counters)?;
        self.admit_to_interface((ring, window), plan, &OutputBatch { batch, ..*of }, counters)
    }

    /// The part of a batch that the rate of its output admits.
    fn admit_to_output(
        &mut self,
        (ring, window): (&mut Ring, &Window),
        plan: &Plan,
        of: &OutputBatch<'_>,
        counters: &mut Writer,
    ) -> Option<u32> {
        let OutputBatch { rule, output, batch, .. } = *of;
        let target = &plan.share(rule)[output as usize];
        let Some(limiter) = target.limiter() else { return Some(batch) };
        let (load, now_ns) = (self.batches.load(window, batch), monotonic_clock_ns());
        let queue = self.queue_of(target.slot.index);
        let is_behind = queue.is_some_and(|(_, is_waiting)| is_waiting);
        let admitted =
            if is_behind || limiter.is_paced() { 0 } else { limiter.admit(now_ns, load) };
        let rest = admitted..load.datagrams;
        if rest.is_empty() {
            return Some(batch);
        }
        if let Some((queue, _)) = queue {
            self.queue_rest((ring, window), plan, of, (queue, now_ns, rest), counters);
        } else {
            self.lose((ring, window), plan, of, (rest, Loss::RateLimited), counters);
        }
        (admitted > 0).then(|| self.batches.add_head(batch, admitted))
    }

    /// The part of a batch that the rate of the interface leaves for its class; the rest is lost.
    pub(super) fn admit_to_interface(
        &mut self,
        (ring, window): (&Ring, &Window),
        plan: &Plan,
        of: &OutputBatch<'_>,
        counters: &mut Writer,
    ) -> Option<u32> {
        let target = &plan.share(of.rule)[of.output as usize];
        let class = target.buckets.as_ref().and_then(|buckets| buckets.class.as_ref());
        let Some(class) = class else { return Some(of.batch) };
        let load = self.batches.load(window, of.batch);
        let admitted = class.admit(monotonic_clock_ns(), load);
        let rest = admitted..load.datagrams;
        if rest.is_empty() {
            return Some(of.batch);
        }
        self.lose((ring, window), plan, of, (rest, Loss::ClassLimited), counters);
        (admitted > 0).then(|| self.batches.add_head(of.batch, admitted))
    }

    /// Counts these datagrams of a batch as lost.
    fn lose(
        &mut self,
        seen: (&Ring, &Window),
        plan: &Plan,
        of: &OutputBatch<'_>,
        (datagrams, loss): (Range<u32>, Loss),
        counters: &mut Writer,
    ) {
        let OutputBatch { rule, output, batch, .. } = *of;
        let slot = plan.share(rule)[output as usize].slot.index;
        let now_ms = counters.now_ms();
        stats::count_loss(
            counters.slot(slot),
            loss,
            u64::from(datagrams.end - datagrams.start),
            now_ms,
        );
        let outcome = CopyOutcome { rule, output, batch, datagrams, loss: Some((loss, 0)) };
        self.record(seen, plan, &outcome);
    }

    /// Has these datagrams of a batch wait, as far as they may.
    fn queue_rest(
        &mut self,
        (ring, window): (&mut Ring, &Window),
        plan: &Plan,
        of: &OutputBatch<'_>,
        (queue, now_ns, rest): (u16, u64, Range<u32>),
        counters: &mut Writer,
    ) {
        let OutputBatch { rule, output, batch, origin } = *of;
        let slot = plan.share(rule)[output as usize].slot.index;
        for datagram in rest {
            if self.wait((ring, window), queue, (batch, datagram), now_ns, origin) {
                counters.slot(slot)[output::WAITING] += 1;
                continue;
            }
            let datagrams = datagram..datagram + 1;
            self.lose((ring, window), plan, of, (datagrams, Loss::QueueFull), counters);
        }
    }
}
