//! Sending: batches of a rule's datagrams to each of its outputs, in waves.
//!
//! One wave holds at most one batch of each lane, and completes before the next begins, so that a
//! refused batch can be split and repeated without reordering. Outputs that preserve fields of the
//! datagrams send with control messages or, where a UDP socket cannot express them, one by one
//! behind headers of their own. This module must not depend on where datagrams come from.

mod batch;
mod limits;
mod outcome;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use batch::Batches;
pub(crate) use limits::SendLimits;
use outcome::{Attempt, SendOutcome};

use crate::engine::plan::{Plan, PlanOutput, PlanRule};
use crate::engine::rewrite::Rewrite;
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

/// The sending side of an engine.
pub(crate) struct Egress {
    batches: Batches,
    cursors: Vec<Cursor>,
    /// The learned limits of each output, by its slot.
    limits: Box<[SendLimits]>,
}

impl Egress {
    pub(crate) fn new(slots: usize) -> Self {
        let limits = vec![SendLimits::default(); slots].into();
        Self { batches: Batches::new(), cursors: Vec::new(), limits }
    }

    /// Reserves memory, so that nothing is allocated while datagrams flow, and resets the limits of
    /// new outputs. The limits of outputs in the previous plan stay.
    pub(crate) fn adopt(&mut self, plan: &Plan, before: &Plan) {
        self.batches.reserve(plan.rules.len() + MAX_FLOWS);
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
        while !window.active().is_empty() {
            self.gather(window, plan, counters);
            while !self.cursors.is_empty() {
                self.queue(ring, window, plan)?;
                self.await_sends(ring, counters)?;
            }
            self.batches.clear();
        }
        window.forget_flows();
        Ok(())
    }

    /// Takes the next batch of every lane, as long as there is room, for each output of its rule
    /// that has a carrier. Without a carrier the kernel would lose the copies although sends
    /// succeed.
    fn gather(&mut self, window: &mut Window, plan: &Plan, counters: &mut Writer) {
        for position in 0..window.active().len() {
            let lane = window.active()[position];
            let rule = window.rule(lane);
            let PlanRule { outputs, kept, .. } = &plan.rules[rule as usize];
            // Only lanes of flows can exceed the number of outputs that room is reserved for.
            if self.cursors.len() + outputs.len() > self.cursors.capacity() {
                break;
            }
            let kept = kept.as_ref();
            let Some(batch) = self.batches.take(window, lane, kept) else { continue };
            let datagrams = self.batches.datagrams(batch);
            let origin = kept.and_then(|_| self.batches.origin(window, batch));
            let targets = &plan.share(rule)[outputs.start as usize..outputs.end as usize];
            let now_ms = counters.now_ms();
            for (place, target) in (outputs.start..).zip(targets) {
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
                self.cursors.push(Cursor::new(rule, place, target, batch));
            }
        }
        window.retire_finished();
    }

    /// Queues the next send of each cursor, up to the capacity of the ring.
    fn queue(&mut self, ring: &mut Ring, window: &Window, plan: &Plan) -> io::Result<()> {
        let Self { batches, cursors, limits } = self;
        batches.forget_messages();
        for (token, cursor) in (0..).zip(cursors.iter_mut().take(MAX_MESSAGES)) {
            let target = &plan.share(cursor.rule)[cursor.output as usize];
            let limits = &limits[cursor.slot as usize];
            let mut send = OutputSend { ring, window, batches, target, token };
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
        let Self { batches, cursors, limits } = self;
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
                Err(_) => {
                    let errno = result.unsigned_abs();
                    cursor.count_refused(errno, batches, limit, words, now_ms);
                }
            }
        })?;
        cursors.retain(|cursor| cursor.done < batches.datagrams(cursor.batch));
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
            done: 0,
            chunk: 0,
            repeated: false,
            refused: 0,
            unconnected: 0,
        }
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

/// The context of the next send to one output.
struct OutputSend<'a> {
    ring: &'a mut Ring,
    window: &'a Window,
    batches: &'a mut Batches,
    target: &'a PlanOutput,
    token: u32,
}

/// Each method queues the next send of a cursor; it returns false if the wave is full.
impl OutputSend<'_> {
    fn send_plain(&mut self, cursor: &mut Cursor, limits: &SendLimits) -> io::Result<bool> {
        let Self { ring, window, batches, target, token } = self;
        let most = limits.chunk(batches.segment(cursor.batch), batches.datagrams(cursor.batch));
        let built = batches.message(ring, window, cursor.batch, cursor.done, most);
        let Some((message, chunk)) = built else { return Ok(false) };
        cursor.chunk = chunk;
        ring.send(target.fd.as_fd(), message, *token)?;
        Ok(true)
    }

    fn send_with_control(
        &mut self,
        cursor: &mut Cursor,
        rewrite: &Rewrite,
        limits: &SendLimits,
    ) -> io::Result<bool> {
        let Self { ring, window, batches, target, token } = self;
        let all = if cursor.refused == 0 { batches.datagrams(cursor.batch) } else { 1 };
        let most = limits.chunk(batches.segment(cursor.batch), all);
        let built = batches.message(ring, window, cursor.batch, cursor.done, most);
        let send_control =
            batches.origin(window, cursor.batch).and_then(|origin| rewrite.send_control(&origin));
        let enclosed = built.zip(send_control).and_then(|((message, chunk), send_control)| {
            Some((ring.add_with_control(message, &send_control)?, chunk))
        });
        let Some((message, chunk)) = enclosed else { return Ok(false) };
        cursor.chunk = chunk;
        ring.send(target.fd.as_fd(), message, *token)?;
        Ok(true)
    }

    /// With headers, nothing is ever split or sent again, so one wave takes the whole batch.
    fn add_with_headers(&mut self, cursor: &mut Cursor, rewrite: &Rewrite) -> io::Result<bool> {
        let Self { ring, window, batches, target, token } = self;
        let Some(origin) = batches.origin(window, cursor.batch) else { return Ok(false) };
        let (headers, send_control) = (rewrite.headers(&origin), rewrite.send_control(&origin));
        for datagram in cursor.done..batches.datagrams(cursor.batch) {
            let built = batches.add_with_headers(ring, window, cursor.batch, datagram, &headers);
            let message = match (built, &send_control) {
                (Some(message), Some(send_control)) => ring.add_with_control(message, send_control),
                (built, _) => built,
            };
            let Some(message) = message else { return Ok(false) };
            ring.send(target.fd.as_fd(), message, *token)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
