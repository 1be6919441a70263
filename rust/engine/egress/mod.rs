//! Sending: batches of a rule's datagrams to each of its outputs, in waves.
//!
//! A wave completes before the next begins. It holds one batch of each lane or, where few sends
//! would fill it, a chain: several batches of a lane, one behind the other at each output, linked or
//! loose ([`chain`]). Outputs that preserve fields of the datagrams send with control messages or,
//! where a UDP socket cannot express them, one by one behind headers of their own. Copies that form
//! no batches may leave as complete frames instead ([`xdp`]), and those that exceed a rate later
//! ([`waiting`]). This module must not depend on where datagrams come from.

mod batch;
mod chain;
mod cursor;
mod limited;
mod limits;
mod outcome;
mod send;
mod tapped;
mod waiting;
mod xdp;

use std::io;
use std::sync::Arc;

use batch::Batches;
use chain::{CHAIN_SENDS, Chain, FULL_WAVE, LOOSE_SENDS};
use cursor::Cursor;
use limited::OutputBatch;
pub(crate) use limits::SendLimits;
use send::OutputSend;
use tapped::CopyOutcome;
use waiting::OutputQueues;
use xdp::XdpEgress;

use crate::engine::plan::{Plan, PlanOutput, PlanRule};
use crate::engine::tap::{PlanTaps, Taps};
use crate::engine::window::{MAX_FLOWS, Window};
use crate::stats::{self, Loss, Writer, output};
use crate::sys::messages::MAX_MESSAGES;
use crate::sys::ring::Ring;

/// The time in microseconds after which a driver that was full is tried again.
const RETRY_US: u64 = 200;

/// The sending side of an engine.
pub(crate) struct Egress {
    batches: Batches,
    cursors: Vec<Cursor>,
    /// The learned limits of each output, by its slot.
    limits: Box<[SendLimits]>,
    xdp: XdpEgress,
    /// What waits for the rate of its output; `None` if no output has a queue.
    waiting: Option<Box<OutputQueues>>,
    /// What records copies; `None` without a tap.
    pub(super) taps: Option<Box<Taps>>,
    /// What has become of copies in this wave, for the taps.
    outcomes: Vec<CopyOutcome>,
    /// Whether some output has a rate.
    has_limits: bool,
    /// Whether copies leave through sockets alone at any rate, and nothing records them.
    is_plain: bool,
}

impl Egress {
    pub(crate) fn new(slots: usize) -> Self {
        let limits = vec![SendLimits::default(); slots].into();
        let (batches, xdp) = (Batches::new(), XdpEgress::default());
        Self {
            batches,
            cursors: Vec::new(),
            limits,
            xdp,
            waiting: None,
            taps: None,
            outcomes: Vec::new(),
            has_limits: false,
            is_plain: true,
        }
    }

    /// Reserves memory, so that nothing is allocated while datagrams flow, and resets the limits of
    /// new outputs. The limits of outputs in the previous plan stay.
    pub(crate) fn adopt(&mut self, plan: &Plan, before: &Plan) {
        self.cursors.reserve(plan.count_outputs().max(MAX_MESSAGES));
        self.has_limits = plan.has_limits;
        // An output with a rate may get a part of a batch, as a batch of its own, and of that what
        // the rate of its interface admits.
        let parts = if plan.has_limits { 2 * self.cursors.capacity() } else { 0 };
        let whole = plan.rules.len() + MAX_FLOWS + CHAIN_SENDS + LOOSE_SENDS;
        self.batches.reserve(whole + parts);
        for grant in &plan.grants {
            self.limits[grant.slot.index as usize] = SendLimits::default();
        }
        for (at, share) in plan.outputs.iter().enumerate() {
            if before.outputs.get(at).is_some_and(|known| Arc::ptr_eq(known, share)) {
                continue;
            }
            for output in share.iter() {
                self.limits[output.slot.index as usize].start(output.max_segment, output.burst);
            }
        }
        self.xdp.adopt(plan, before);
        self.note_plain();
    }

    /// Sets what records datagrams and copies of windows of `entries` buffers. `verify` says whether
    /// checksums are verified.
    pub(crate) fn set_taps(&mut self, taps: Option<&Arc<PlanTaps>>, entries: usize, verify: bool) {
        let before = self.taps.take();
        self.taps = taps.map(|taps| Taps::new(taps.clone(), (entries, verify), before));
        // Each send of a wave has one result, and each cursor may be overtaken once.
        let most = if self.taps.is_some() { MAX_MESSAGES + self.cursors.capacity() } else { 0 };
        self.outcomes = Vec::with_capacity(most);
        self.forget_noted();
        self.note_plain();
    }

    fn note_plain(&mut self) {
        self.is_plain = self.taps.is_none() && !self.xdp.is_active() && !self.has_limits;
    }

    /// Completes what the current plan has begun, before `next` replaces it.
    ///
    /// # Errors
    /// The ring's.
    pub(crate) fn settle(
        &mut self,
        ring: &mut Ring,
        (plan, next): (&Plan, &Plan),
        counters: &mut Writer,
    ) -> io::Result<()> {
        self.end_queues(ring, (plan, next), counters)?;
        self.xdp.settle(next, counters);
        Ok(())
    }

    /// Whether copies wait for the kernel without a notification, or for their rate.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.is_plain && (self.xdp.has_waiting() || self.has_queued())
    }

    /// How long to sleep at most while copies wait, in microseconds.
    #[cold]
    pub(crate) fn rest_us(&self) -> u32 {
        let of_links = self.xdp.has_waiting().then_some(RETRY_US);
        let rest = of_links.into_iter().chain(self.queue_rest_us()).min();
        u32::try_from(rest.unwrap_or(RETRY_US)).unwrap_or(u32::MAX)
    }

    /// Completes everything before the end, and counts what cannot be completed.
    ///
    /// # Errors
    /// The ring's.
    pub(crate) fn finish(
        &mut self,
        ring: &mut Ring,
        plan: &Plan,
        counters: &mut Writer,
    ) -> io::Result<()> {
        self.empty_queues(ring, plan, counters)?;
        self.xdp.finish(counters);
        Ok(())
    }

    /// Sends every matched datagram of the window, and counts the results.
    ///
    /// # Errors
    /// The ring's; datagrams cause no errors.
    pub(crate) fn send_window(
        &mut self,
        ring: &mut Ring,
        window: &mut Window,
        plan: &Plan,
        counters: &mut Writer,
    ) -> io::Result<()> {
        if self.is_plain {
            return self.send_lanes::<true>(ring, window, plan, counters);
        }
        self.send_special(ring, window, plan, counters)
    }

    /// The same where outputs may take datagrams as frames, or copies are recorded.
    #[inline(never)]
    fn send_special(
        &mut self,
        ring: &mut Ring,
        window: &mut Window,
        plan: &Plan,
        counters: &mut Writer,
    ) -> io::Result<()> {
        self.send_due(ring, plan, counters)?;
        if self.xdp.is_active() {
            self.xdp.send_window(ring, window, plan, counters, self.taps.as_deref_mut());
        }
        self.send_lanes::<false>(ring, window, plan, counters)?;
        self.send_due(ring, plan, counters)
    }

    #[inline(always)]
    fn send_lanes<const IS_PLAIN: bool>(
        &mut self,
        ring: &mut Ring,
        window: &mut Window,
        plan: &Plan,
        counters: &mut Writer,
    ) -> io::Result<()> {
        while !window.active().is_empty() {
            self.gather::<IS_PLAIN>(ring, window, plan, counters);
            let mut has_chains = true;
            while !self.cursors.is_empty() {
                self.queue(ring, window, plan, has_chains)?;
                self.await_sends::<IS_PLAIN>(ring, window, plan, counters)?;
                // What was cancelled is sent one by one, since the next refusal is likely.
                has_chains = false;
            }
            self.batches.clear();
        }
        window.forget_flows();
        Ok(())
    }

    /// Takes the next batches of every lane, as long as there is room, for each output of its rule
    /// that has a carrier. Without a carrier the kernel would lose the copies although sends
    /// succeed.
    #[inline(always)]
    fn gather<const IS_PLAIN: bool>(
        &mut self,
        ring: &mut Ring,
        window: &mut Window,
        plan: &Plan,
        counters: &mut Writer,
    ) {
        let lanes = window.active().len();
        for position in 0..lanes {
            let lane = window.active()[position];
            let rule = window.rule(lane);
            let PlanRule { outputs, kept, .. } = &plan.rules[rule as usize];
            // Only lanes of flows can exceed the number of outputs that room is reserved for.
            if self.cursors.len() + outputs.len() > self.cursors.capacity() {
                break;
            }
            let kept = kept.as_ref();
            let targets = &plan.share(rule)[outputs.start as usize..outputs.end as usize];
            let Some(first) = self.batches.take(window, lane, kept) else { continue };
            let datagrams = self.batches.datagrams(first);
            let mut chain = Chain { batches: first..first + 1, datagrams, is_loose: false };
            let sends = lanes * outputs.len();
            let may_chain = may_chain::<IS_PLAIN>(targets, sends) && kept.is_none();
            if may_chain && window.peek(lane).is_some() {
                self.lengthen_chain(&mut chain, window, lane, targets, sends);
            }
            let datagrams = chain.datagrams;
            let origin = kept.and_then(|_| self.batches.origin(window, first));
            let now_ms = counters.now_ms();
            let is_mixed = !IS_PLAIN && self.xdp.is_active() && self.xdp.takes_rule(rule);
            for (place, target) in (outputs.start..).zip(targets) {
                if is_mixed && self.xdp.takes(target.slot.index) {
                    continue;
                }
                let words = counters.slot(target.slot.index);
                words[output::WANTED] += u64::from(datagrams);
                if !target.has_carrier() {
                    stats::count_loss(words, Loss::NoCarrier, u64::from(datagrams), now_ms);
                    if !IS_PLAIN {
                        let (batches, loss) = (chain.batches.clone(), (Loss::NoCarrier, 0));
                        self.record_unsent((&*ring, &*window), plan, (rule, place), batches, loss);
                    }
                    continue;
                }
                let rewrite = origin.as_ref().zip(target.rewrite.as_deref());
                if let Some(errno) = rewrite.and_then(|(origin, rewrite)| rewrite.refusal(origin)) {
                    let errno = errno.unsigned_abs();
                    stats::count_send_error(words, errno.into(), u64::from(datagrams), now_ms);
                    if !IS_PLAIN {
                        let (batches, loss) = (chain.batches.clone(), (Loss::SendError, errno));
                        self.record_unsent((&*ring, &*window), plan, (rule, place), batches, loss);
                    }
                    continue;
                }
                let of = OutputBatch { rule, output: place, batch: first, origin: origin.as_ref() };
                let admitted =
                    self.admitted::<IS_PLAIN>((&mut *ring, &*window), plan, &of, counters);
                let Some(batch) = admitted else { continue };
                self.cursors.push(Cursor::new(rule, place, target, batch));
                if chain.batches.len() > 1 {
                    self.add_cursors(&chain);
                }
            }
            if chain.is_loose && self.cursors.len() >= LOOSE_SENDS {
                break;
            }
        }
        window.retire_finished();
    }

    /// Queues the next send of each cursor, up to the capacity of the ring; those of a chain only
    /// behind the one before, if `has_chains`, else only the first.
    fn queue(
        &mut self,
        ring: &mut Ring,
        window: &Window,
        plan: &Plan,
        has_chains: bool,
    ) -> io::Result<()> {
        let Self { batches, cursors, limits, .. } = self;
        batches.forget_messages();
        let mut is_linked = false;
        for (token, cursor) in (0..).zip(cursors.iter_mut().take(MAX_MESSAGES)) {
            if cursor.follows && !is_linked {
                continue;
            }
            if cursor.is_followed && !cursor.follows {
                ring.make_room(CHAIN_SENDS)?;
            }
            let target = &plan.share(cursor.rule)[cursor.output as usize];
            let limits = &limits[cursor.slot as usize];
            is_linked = has_chains && cursor.is_followed && cursor.is_whole(batches, limits);
            let mut send = OutputSend { ring, window, batches, target, token, is_linked };
            let is_queued = match target.rewrite.as_deref() {
                None => send.send_plain(cursor, limits)?,
                Some(rewrite) if rewrite.has_headers() => send.add_with_headers(cursor, rewrite)?,
                Some(rewrite) => send.send_with_control(cursor, rewrite, limits)?,
            };
            if !is_queued {
                break;
            }
        }
        Ok(())
    }

    /// Waits for the pending sends and counts each; cursors with remaining datagrams stay.
    fn await_sends<const IS_PLAIN: bool>(
        &mut self,
        ring: &mut Ring,
        window: &Window,
        plan: &Plan,
        counters: &mut Writer,
    ) -> io::Result<()> {
        let Self { batches, cursors, limits, outcomes, taps, .. } = self;
        let records = !IS_PLAIN && taps.is_some();
        let now_ms = counters.now_ms();
        let mut are_refused = false;
        ring.finish_wave(|token, result| {
            let cursor = &mut cursors[token as usize];
            let limit = &mut limits[cursor.slot as usize];
            let words = counters.slot(cursor.slot);
            let (done, mut loss) = (cursor.done, None);
            match u32::try_from(result) {
                Ok(bytes) => {
                    limit.accept(cursor.refused, cursor.chunk);
                    cursor.count_sent(bytes, words, now_ms);
                }
                Err(_) if result == -libc::ECANCELED => cursor.send_again(),
                Err(_) => {
                    let errno = result.unsigned_abs();
                    loss = cursor.count_refused(errno, batches, limit, words, now_ms);
                    are_refused |= cursor.refusal != 0;
                }
            }
            if records && cursor.done > done {
                let loss = loss.map(|loss| (loss, result.unsigned_abs()));
                outcomes.push(CopyOutcome::since(done, cursor, loss));
            }
        })?;
        if are_refused {
            self.settle_chains(counters);
        }
        if !IS_PLAIN {
            self.record_outcomes((ring, window), plan);
        }
        chain::retain_unfinished(&mut self.cursors, &self.batches);
        Ok(())
    }
}

/// Whether further batches of a lane may follow the first at once: where that fills the ring, or to
/// groups, and only if no output has a rate, which each batch needs to be held against.
#[inline(always)]
fn may_chain<const IS_PLAIN: bool>(targets: &[PlanOutput], sends: usize) -> bool {
    (sends < FULL_WAVE || targets.first().is_some_and(|to| to.is_group))
        && (IS_PLAIN || !limited::has_limit(targets))
}

#[cfg(test)]
mod tests;
