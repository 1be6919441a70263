//! Sending: batches of a rule's datagrams to each of its outputs, in waves.
//!
//! One wave holds at most one batch of each lane, and is over before the next begins, so that a
//! batch that the kernel refuses can be split and repeated without anything overtaking it.
//! Outputs that take something over from the datagrams send in envelopes, or, where a UDP socket
//! cannot say it, one by one behind headers of their own.
//! This module must not know where datagrams come from or who counts for whom.

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

/// One batch on its way to one output.
#[derive(Clone, Copy)]
struct Cursor {
    /// The rule's number, and the output's place among those of its share.
    rule: u32,
    output: u32,
    /// The output's counters.
    slot: u32,
    /// Bytes of headers that its copies leave behind; 0 where the kernel writes them.
    headers: u32,
    /// Whether it sends in envelopes, or behind headers of its own.
    enveloped: bool,
    batch: u32,
    /// Datagrams of the batch that are done with.
    done: u32,
    /// Datagrams in the send that is under way.
    chunk: u32,
    /// Whether the send before answered for an earlier one, and this is its repetition.
    repeated: bool,
    /// How many datagrams a send in an envelope had that was refused, until one alone shows
    /// whether it was their number; else 0.
    refused: u32,
    /// How often it found the output connected to nobody.
    unconnected: u16,
}

/// How often a batch is sent to an output that is being connected anew, before it is lost: for
/// some milliseconds, of which the connecting takes a part.
const MOST_UNCONNECTED: u16 = 4096;

/// The sending side of an engine.
pub(crate) struct Egress {
    batches: Batches,
    cursors: Vec<Cursor>,
    /// What each output's link has refused, by the output's slot.
    limits: Box<[SendLimits]>,
}

impl Egress {
    pub(crate) fn new(slots: usize) -> Self {
        let limits = vec![SendLimits::default(); slots].into();
        Self { batches: Batches::new(), cursors: Vec::new(), limits }
    }

    /// Makes room, so that nothing is allocated while datagrams flow, and forgets what was
    /// learnt of outputs that are new. What the plan before has too is known already.
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

    /// Sends every datagram that the window's rules took, and counts what became of it.
    ///
    /// # Errors
    /// The ring's; a datagram makes none.
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
                self.settle(ring, counters)?;
            }
            self.batches.clear();
        }
        window.forget_flows();
        Ok(())
    }

    /// Takes the next batch of every lane, as long as there is room, for each output of its rule
    /// that has a carrier: without one the kernel would lose the copies and report success.
    fn gather(&mut self, window: &mut Window, plan: &Plan, counters: &mut Writer) {
        for position in 0..window.active().len() {
            let lane = window.active()[position];
            let rule = window.rule(lane);
            let PlanRule { outputs, kept, .. } = &plan.rules[rule as usize];
            // Only lanes of flows are more than the outputs that the room is made for.
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

    /// Queues the next send of as many cursors as the ring has room for.
    fn queue(&mut self, ring: &mut Ring, window: &Window, plan: &Plan) -> io::Result<()> {
        let Self { batches, cursors, limits } = self;
        batches.forget_messages();
        for (token, cursor) in (0..).zip(cursors.iter_mut().take(MAX_MESSAGES)) {
            let target = &plan.share(cursor.rule)[cursor.output as usize];
            let limits = &limits[cursor.slot as usize];
            let mut post = Post { ring, window, batches, target, token };
            let is_queued = match target.rewrite.as_deref() {
                None => post.plain(cursor, limits)?,
                Some(rewrite) if rewrite.has_headers() => post.add_with_headers(cursor, rewrite)?,
                Some(rewrite) => post.enveloped(cursor, rewrite, limits)?,
            };
            if !is_queued {
                break;
            }
        }
        Ok(())
    }

    /// Awaits the sends that are under way and counts each; cursors with datagrams left stay.
    fn settle(&mut self, ring: &mut Ring, counters: &mut Writer) -> io::Result<()> {
        let Self { batches, cursors, limits } = self;
        let now_ms = counters.now_ms();
        ring.finish_wave(|token, result| {
            let cursor = &mut cursors[token as usize];
            let learnt = &mut limits[cursor.slot as usize];
            let words = counters.slot(cursor.slot);
            match u32::try_from(result) {
                Ok(bytes) => {
                    learnt.accept(cursor.refused);
                    cursor.count_sent(bytes, words, now_ms);
                }
                Err(_) => {
                    let errno = result.unsigned_abs();
                    cursor.count_refused(errno, batches, learnt, words, now_ms);
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
            enveloped: rewrite.is_some(),
            batch,
            done: 0,
            chunk: 0,
            repeated: false,
            refused: 0,
            unconnected: 0,
        }
    }

    /// How many datagrams the send was of whose result has come.
    #[inline]
    fn sent_at_once(&self) -> u32 {
        // Behind headers of their own several single ones may be under way.
        if self.headers > 0 { 1 } else { self.chunk }
    }

    /// The kernel has taken the send; its result counts the headers too.
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

    /// The kernel has not taken the send: learns from that, and counts its datagrams unless they
    /// are to be sent again.
    #[cold]
    fn count_refused(
        &mut self,
        errno: u32,
        batches: &Batches,
        learnt: &mut SendLimits,
        words: &mut SlotWords,
        now_ms: u64,
    ) {
        let mut datagrams = self.sent_at_once();
        let attempt = Attempt {
            datagrams,
            segment: batches.segment(self.batch),
            // A raw socket hears of no answers to earlier datagrams.
            repeated: self.repeated || self.headers > 0,
            enveloped: self.enveloped,
            refused: self.refused,
        };
        match outcome::judge(errno, attempt, learnt) {
            SendOutcome::Again { repeated } => {
                self.repeated = repeated;
                return self.send_again();
            }
            SendOutcome::Alone => {
                self.refused = datagrams;
                return self.send_again();
            }
            SendOutcome::Unconnected if self.awaits_connection() => return self.send_again(),
            SendOutcome::Lost(loss) => stats::count_loss(words, loss, u64::from(datagrams), now_ms),
            SendOutcome::Failed | SendOutcome::Unconnected => {
                stats::count_send_error(words, u64::from(errno), u64::from(datagrams), now_ms);
            }
            SendOutcome::FailedLikeAll => {
                datagrams = batches.left(self.batch, self.done);
                stats::count_send_error(words, u64::from(errno), u64::from(datagrams), now_ms);
            }
        }
        self.advance(datagrams);
    }

    fn send_again(&mut self) {
        self.chunk = 0;
    }

    /// Whether to try once more an output that is being connected anew.
    fn awaits_connection(&mut self) -> bool {
        // Behind headers of their own several are under way, and would overtake each other.
        if self.headers > 0 || self.unconnected == MOST_UNCONNECTED {
            return false;
        }
        self.unconnected += 1;
        // Who connects it may be waiting for this processor.
        thread::yield_now();
        true
    }

    /// So many more datagrams are done with.
    #[inline]
    fn advance(&mut self, datagrams: u32) {
        self.done += datagrams;
        self.chunk = 0;
        self.repeated = false;
        self.refused = 0;
    }
}

/// What the next send to one output is made with.
struct Post<'a> {
    ring: &'a mut Ring,
    window: &'a Window,
    batches: &'a mut Batches,
    target: &'a PlanOutput,
    token: u32,
}

/// Each queues what is next of a cursor, and says whether the wave had room for it.
impl Post<'_> {
    fn plain(&mut self, cursor: &mut Cursor, limits: &SendLimits) -> io::Result<bool> {
        let Self { ring, window, batches, target, token } = self;
        let most = limits.chunk(batches.segment(cursor.batch), batches.datagrams(cursor.batch));
        let made = batches.message(ring, window, cursor.batch, cursor.done, most);
        let Some((message, chunk)) = made else { return Ok(false) };
        cursor.chunk = chunk;
        ring.send(target.fd.as_fd(), message, *token)?;
        Ok(true)
    }

    fn enveloped(
        &mut self,
        cursor: &mut Cursor,
        rewrite: &Rewrite,
        limits: &SendLimits,
    ) -> io::Result<bool> {
        let Self { ring, window, batches, target, token } = self;
        let all = if cursor.refused == 0 { batches.datagrams(cursor.batch) } else { 1 };
        let most = limits.chunk(batches.segment(cursor.batch), all);
        let made = batches.message(ring, window, cursor.batch, cursor.done, most);
        let send_control =
            batches.origin(window, cursor.batch).and_then(|origin| rewrite.send_control(&origin));
        let enclosed = made.zip(send_control).and_then(|((message, chunk), send_control)| {
            Some((ring.add_with_control(message, &send_control)?, chunk))
        });
        let Some((message, chunk)) = enclosed else { return Ok(false) };
        cursor.chunk = chunk;
        ring.send(target.fd.as_fd(), message, *token)?;
        Ok(true)
    }

    /// Nothing is ever split or sent again here, so that one wave takes the whole batch.
    fn add_with_headers(&mut self, cursor: &mut Cursor, rewrite: &Rewrite) -> io::Result<bool> {
        let Self { ring, window, batches, target, token } = self;
        let Some(origin) = batches.origin(window, cursor.batch) else { return Ok(false) };
        let (headers, send_control) = (rewrite.headers(&origin), rewrite.send_control(&origin));
        for datagram in cursor.done..batches.datagrams(cursor.batch) {
            let made = batches.add_with_headers(ring, window, cursor.batch, datagram, &headers);
            let message = match (made, &send_control) {
                (Some(message), Some(send_control)) => ring.add_with_control(message, send_control),
                (made, _) => made,
            };
            let Some(message) = message else { return Ok(false) };
            ring.send(target.fd.as_fd(), message, *token)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
