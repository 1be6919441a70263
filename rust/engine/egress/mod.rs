//! Sending: batches of a rule's datagrams to each of its outputs, in waves.
//!
//! A wave completes before the next begins. It holds one batch of each lane or, where few sends
//! would fill it, a chain: several batches of a lane, of which the kernel begins none before the
//! previous one has succeeded. So a refused batch can be split and repeated without reordering, as
//! the kernel cancels what follows it. Outputs that preserve fields of the
//! datagrams send with control messages or, where a UDP socket cannot express them, one by one
//! behind headers of their own. Copies that form no batches may leave as complete frames instead
//! ([`xdp`]). This module must not depend on where datagrams come from.

mod batch;
mod limits;
mod outcome;
mod send;
mod xdp;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use batch::Batches;
pub(crate) use limits::SendLimits;
use outcome::{Attempt, SendOutcome};
use send::OutputSend;
use xdp::XdpEgress;

use crate::engine::plan::{Plan, PlanOutput, PlanRule};
use crate::engine::rewrite::{Preserved, Rewrite};
use crate::engine::window::{MAX_FLOWS, Window};
use crate::stats::{self, Loss, SlotWords, Writer, output};
use crate::sys::messages::MAX_MESSAGES;
use crate::sys::ring::Ring;

/// The progress of one batch to one output.
#[derive(Clone, Copy)]
struct Cursor {
    /// The rule's number, and the output's position in its share.
    rule: u32,
    output: u32,
    /// The output's counter slot.
    slot: u32,
    /// Bytes of headers in front of each copy; 0 if the kernel writes them.
    headers: u32,
    /// Whether it sends with control messages or with headers of its own.
    has_control: bool,
    batch: u32,
    /// The first batch of the chain that it belongs to.
    chain: u32,
    /// Whether it sends behind the previous cursor, and the next one behind it.
    follows: bool,
    is_followed: bool,
    /// The number of handled datagrams of the batch.
    done: u32,
    /// The number of datagrams in the pending send.
    chunk: u32,
    /// Whether the pending send repeats one that failed with the error of an earlier datagram.
    repeated: bool,
    /// The number of datagrams in a refused send with control messages, until a single one shows
    /// whether the number was the cause; else 0.
    refused: u32,
    /// How often the output was found unconnected.
    unconnected: u16,
}

/// How often a batch is tried on an output that is being reconnected before it is lost: for some
/// milliseconds, of which reconnecting takes a part.
const MOST_UNCONNECTED: u16 = 4096;
/// The number of sends that chains fill a wave to: enough that the system call of the wave costs
/// each of them little.
const CHAIN_SENDS: usize = 64;
/// The number of sends from which a wave needs no chains: the links would cost more than the system
/// calls that they save.
const FULL_WAVE: usize = 8;

/// The sending side of an engine.
pub(crate) struct Egress {
    batches: Batches,
    cursors: Vec<Cursor>,
    /// The learned limits of each output, by its slot.
    limits: Box<[SendLimits]>,
    xdp: XdpEgress,
}

impl Egress {
    pub(crate) fn new(slots: usize) -> Self {
        let limits = vec![SendLimits::default(); slots].into();
        let (batches, xdp) = (Batches::new(), XdpEgress::default());
        Self { batches, cursors: Vec::new(), limits, xdp }
    }

    /// Reserves memory, so that nothing is allocated while datagrams flow, and resets the limits of
    /// new outputs. The limits of outputs in the previous plan stay.
    pub(crate) fn adopt(&mut self, plan: &Plan, before: &Plan) {
        self.batches.reserve(plan.rules.len() + MAX_FLOWS + CHAIN_SENDS);
        self.cursors.reserve(plan.count_outputs().max(MAX_MESSAGES));
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
    }

    /// Completes what the current plan has begun, before `next` replaces it.
    pub(crate) fn settle(&mut self, next: &Plan, counters: &mut Writer) {
        self.xdp.settle(next, counters);
    }

    /// Whether copies wait for the kernel without a notification.
    pub(crate) fn has_waiting(&self) -> bool {
        self.xdp.has_waiting()
    }

    /// Completes everything before the end, and counts what cannot be completed.
    pub(crate) fn finish(&mut self, counters: &mut Writer) {
        self.xdp.finish(counters);
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
        if self.xdp.is_active() {
            self.xdp.send_window(ring, window, plan, counters);
        }
        while !window.active().is_empty() {
            if self.xdp.is_active() {
                self.gather_others(window, plan, counters);
            } else {
                self.gather::<false>(window, plan, counters);
            }
            let mut has_chains = true;
            while !self.cursors.is_empty() {
                self.queue(ring, window, plan, has_chains)?;
                self.await_sends(ring, counters)?;
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
    fn gather<const HAS_LINKS: bool>(
        &mut self,
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
            let sends = lanes * outputs.len();
            let Some((chain, datagrams)) = self.take_chain(window, lane, kept, sends) else {
                continue;
            };
            let Range { start: first, end } = chain;
            let origin = kept.and_then(|_| self.batches.origin(window, first));
            let targets = &plan.share(rule)[outputs.start as usize..outputs.end as usize];
            let now_ms = counters.now_ms();
            let is_mixed = HAS_LINKS && self.xdp.takes_rule(rule);
            for (place, target) in (outputs.start..).zip(targets) {
                if is_mixed && self.xdp.takes(target.slot.index) {
                    continue;
                }
                let words = counters.slot(target.slot.index);
                words[output::WANTED] += u64::from(datagrams);
                if !target.has_carrier() {
                    stats::count_loss(words, Loss::NoCarrier, u64::from(datagrams), now_ms);
                    continue;
                }
                let rewrite = origin.as_ref().zip(target.rewrite.as_deref());
                if let Some(errno) = rewrite.and_then(|(origin, rewrite)| rewrite.refusal(origin)) {
                    let errno = u64::from(errno.unsigned_abs());
                    stats::count_send_error(words, errno, u64::from(datagrams), now_ms);
                    continue;
                }
                self.cursors.push(Cursor::new(rule, place, target, first));
                if end - first > 1 {
                    self.extend_chain(first..end);
                }
            }
        }
        window.retire_finished();
    }

    /// Adds the rest of a chain behind the cursor of its first batch.
    #[inline(never)]
    fn extend_chain(&mut self, chain: Range<u32>) {
        let Some(first) = self.cursors.last_mut() else { return };
        first.is_followed = true;
        let first = *first;
        self.cursors.extend((chain.start + 1..chain.end).map(|batch| Cursor {
            batch,
            follows: true,
            is_followed: batch + 1 < chain.end,
            ..first
        }));
    }

    /// Takes the next batches of a lane; returns them and the number of their datagrams. Several
    /// only if the wave would have few `sends` with one batch of each lane.
    #[inline(always)]
    fn take_chain(
        &mut self,
        window: &mut Window,
        lane: u32,
        kept: Option<&Preserved>,
        sends: usize,
    ) -> Option<(Range<u32>, u32)> {
        let first = self.batches.take(window, lane, kept)?;
        let (mut end, mut datagrams) = (first + 1, self.batches.datagrams(first));
        if sends < FULL_WAVE && kept.is_none() && window.peek(lane).is_some() {
            let room = self.cursors.capacity() - self.cursors.len();
            let most = CHAIN_SENDS.min(room) / sends.max(1);
            while ((end - first) as usize) < most
                && let Some(batch) = self.batches.take(window, lane, kept)
            {
                (end, datagrams) = (batch + 1, datagrams + self.batches.datagrams(batch));
            }
        }
        Some((first..end, datagrams))
    }

    /// The same where outputs may take datagrams as frames.
    #[inline(never)]
    fn gather_others(&mut self, window: &mut Window, plan: &Plan, counters: &mut Writer) {
        self.gather::<true>(window, plan, counters);
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
    fn await_sends(&mut self, ring: &mut Ring, counters: &mut Writer) -> io::Result<()> {
        let Self { batches, cursors, limits, .. } = self;
        let now_ms = counters.now_ms();
        ring.finish_wave(|token, result| {
            let cursor = &mut cursors[token as usize];
            let limit = &mut limits[cursor.slot as usize];
            let words = counters.slot(cursor.slot);
            match u32::try_from(result) {
                Ok(bytes) => {
                    limit.accept(cursor.refused);
                    cursor.count_sent(bytes, words, now_ms);
                }
                Err(_) if result == -libc::ECANCELED => cursor.send_again(),
                Err(_) => {
                    let errno = result.unsigned_abs();
                    cursor.count_refused(errno, batches, limit, words, now_ms);
                }
            }
        })?;
        cursors.retain(|cursor| cursor.done < batches.datagrams(cursor.batch));
        let mut previous = None;
        for cursor in cursors {
            cursor.follows = previous.replace(cursor.place()) == Some(cursor.place());
        }
        Ok(())
    }
}

impl Cursor {
    #[inline]
    fn new(rule: u32, output: u32, target: &PlanOutput, batch: u32) -> Self {
        let rewrite = target.rewrite.as_deref();
        Self {
            rule,
            output,
            slot: target.slot.index,
            headers: rewrite.map_or(0, Rewrite::header_bytes),
            has_control: rewrite.is_some(),
            batch,
            chain: batch,
            follows: false,
            is_followed: false,
            done: 0,
            chunk: 0,
            repeated: false,
            refused: 0,
            unconnected: 0,
        }
    }

    /// The chain and the output: cursors with the same ones send in sequence.
    #[inline]
    fn place(&self) -> (u32, u32) {
        (self.chain, self.slot)
    }

    /// Whether its next send takes the whole batch.
    #[inline]
    fn is_whole(&self, batches: &Batches, limits: &SendLimits) -> bool {
        let datagrams = batches.datagrams(self.batch);
        limits.chunk(batches.segment(self.batch), datagrams) == datagrams
    }

    /// The number of datagrams in the completed send.
    #[inline]
    fn sent_at_once(&self) -> u32 {
        // With headers of their own, several single datagrams may be pending.
        if self.headers > 0 { 1 } else { self.chunk }
    }

    /// Counts a successful send; its result includes the headers.
    #[inline]
    fn count_sent(&mut self, bytes: u32, words: &mut SlotWords, now_ms: u64) {
        let datagrams = self.sent_at_once();
        words[output::SENT] += u64::from(datagrams);
        words[output::SENT_BYTES] += u64::from(bytes - self.headers);
        if self.repeated {
            words[output::REFUSED] += 1;
            words[output::REFUSED_MS] = now_ms;
        }
        self.advance(datagrams);
    }

    /// Handles a failed send: learns from it, and counts its datagrams unless they will be sent
    /// again.
    #[cold]
    fn count_refused(
        &mut self,
        errno: u32,
        batches: &Batches,
        limit: &mut SendLimits,
        words: &mut SlotWords,
        now_ms: u64,
    ) {
        let mut datagrams = self.sent_at_once();
        let attempt = Attempt {
            datagrams,
            segment: batches.segment(self.batch),
            // A raw socket does not report errors of earlier datagrams.
            repeated: self.repeated || self.headers > 0,
            has_control: self.has_control,
            refused: self.refused,
        };
        match outcome::classify(errno, attempt, limit) {
            SendOutcome::Retry { repeated } => {
                self.repeated = repeated;
                return self.send_again();
            }
            SendOutcome::RetryAlone => {
                self.refused = datagrams;
                return self.send_again();
            }
            SendOutcome::Unconnected if self.retry_unconnected() => return self.send_again(),
            SendOutcome::Lost(loss) => stats::count_loss(words, loss, u64::from(datagrams), now_ms),
            SendOutcome::Failed | SendOutcome::Unconnected => {
                stats::count_send_error(words, u64::from(errno), u64::from(datagrams), now_ms);
            }
            SendOutcome::BatchFailed => {
                datagrams = batches.left(self.batch, self.done);
                stats::count_send_error(words, u64::from(errno), u64::from(datagrams), now_ms);
            }
        }
        self.advance(datagrams);
    }

    fn send_again(&mut self) {
        self.chunk = 0;
    }

    /// Whether to try again on an output that is being reconnected.
    fn retry_unconnected(&mut self) -> bool {
        // With headers of their own several sends are pending, and would be reordered.
        if self.headers > 0 || self.unconnected == MOST_UNCONNECTED {
            return false;
        }
        self.unconnected += 1;
        // The thread that connects it may be waiting for this processor.
        thread::yield_now();
        true
    }

    /// Advances by this many datagrams.
    #[inline]
    fn advance(&mut self, datagrams: u32) {
        self.done += datagrams;
        self.chunk = 0;
        self.repeated = false;
        self.refused = 0;
    }
}

#[cfg(test)]
mod tests;
