//! The progress of a batch to an output: what each result of a send means for its datagrams.

use std::thread;

use super::batch::Batches;
use super::limits::SendLimits;
use super::outcome::{self, Attempt, SendOutcome};
use crate::engine::plan::PlanOutput;
use crate::engine::rewrite::Rewrite;
use crate::stats::{self, Loss, SlotWords, output};

/// The progress of one batch to one output.
#[derive(Clone, Copy)]
pub(super) struct Cursor {
    /// The rule's number, and the output's position in its share.
    pub(super) rule: u32,
    pub(super) output: u32,
    /// The output's counter slot.
    pub(super) slot: u32,
    /// Bytes of headers in front of each copy; 0 if the kernel writes them.
    pub(super) headers: u32,
    /// Whether it sends with control messages or with headers of its own.
    pub(super) has_control: bool,
    pub(super) batch: u32,
    /// The first batch of the chain that it belongs to.
    pub(super) chain: u32,
    /// Whether it sends behind the previous cursor, and the next one behind it.
    pub(super) follows: bool,
    pub(super) is_followed: bool,
    /// The number of handled datagrams of the batch.
    pub(super) done: u32,
    /// The number of datagrams in the pending send.
    pub(super) chunk: u32,
    /// Whether the pending send repeats one that failed with the error of an earlier datagram.
    pub(super) repeated: bool,
    /// The number of datagrams in a refused send with control messages, until a single one shows
    /// whether the number was the cause; else 0.
    pub(super) refused: u32,
    /// How often the output was found unconnected.
    pub(super) unconnected: u16,
    /// Whether it belongs to a loose chain.
    pub(super) is_loose: bool,
    /// The errno of its refused send, if that can be repeated and the chain is loose; else 0.
    pub(super) refusal: u32,
}

/// How often a batch is tried on an output that is being reconnected before it is lost: for some
/// milliseconds, of which reconnecting takes a part.
const MOST_UNCONNECTED: u16 = 4096;

impl Cursor {
    #[inline]
    pub(super) fn new(rule: u32, output: u32, target: &PlanOutput, batch: u32) -> Self {
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
            is_loose: false,
            refusal: 0,
        }
    }

    /// The chain and the output: cursors with the same ones send in sequence.
    #[inline]
    pub(super) fn place(&self) -> (u32, u32) {
        (self.chain, self.slot)
    }

    /// Whether all datagrams of the batch have been handled.
    #[inline]
    pub(super) fn is_finished(&self, batches: &Batches) -> bool {
        self.done >= batches.datagrams(self.batch)
    }

    /// Whether its next send takes the whole batch.
    #[inline]
    pub(super) fn is_whole(&self, batches: &Batches, limits: &SendLimits) -> bool {
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
    pub(super) fn count_sent(&mut self, bytes: u32, words: &mut SlotWords, now_ms: u64) {
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
    /// again; returns why they are lost.
    #[cold]
    pub(super) fn count_refused(
        &mut self,
        errno: u32,
        batches: &Batches,
        limit: &mut SendLimits,
        words: &mut SlotWords,
        now_ms: u64,
    ) -> Option<Loss> {
        let mut datagrams = self.sent_at_once();
        let attempt = Attempt {
            datagrams,
            segment: batches.segment(self.batch),
            // A raw socket does not report errors of earlier datagrams.
            repeated: self.repeated || self.headers > 0,
            has_control: self.has_control,
            refused: self.refused,
        };
        let loss = match outcome::classify(errno, attempt, limit) {
            SendOutcome::Retry { repeated } => {
                self.repeated = repeated;
                return self.defer(errno);
            }
            SendOutcome::RetryAlone => {
                self.refused = datagrams;
                return self.defer(errno);
            }
            SendOutcome::Unconnected if self.retry_unconnected() => return self.defer(errno),
            SendOutcome::Lost(loss) => loss,
            SendOutcome::Failed | SendOutcome::Unconnected => Loss::SendError,
            SendOutcome::BatchFailed => {
                datagrams = batches.left(self.batch, self.done);
                Loss::SendError
            }
        };
        match loss {
            Loss::SendError => {
                stats::count_send_error(words, u64::from(errno), u64::from(datagrams), now_ms);
            }
            loss => stats::count_loss(words, loss, u64::from(datagrams), now_ms),
        }
        self.advance(datagrams);
        Some(loss)
    }

    /// Sends again, unless it belongs to a loose chain and was overtaken.
    fn defer(&mut self, errno: u32) -> Option<Loss> {
        if self.is_loose {
            self.refusal = errno;
        }
        self.send_again();
        None
    }

    /// Counts the datagrams of a refused send that was overtaken.
    pub(super) fn count_overtaken(
        &mut self,
        batches: &Batches,
        words: &mut SlotWords,
        now_ms: u64,
    ) {
        let left = batches.left(self.batch, self.done);
        stats::count_send_error(words, u64::from(self.refusal), u64::from(left), now_ms);
        self.advance(left);
    }

    pub(super) fn send_again(&mut self) {
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
        if !self.is_loose {
            thread::yield_now();
        }
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
