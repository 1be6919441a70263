//! How far merging rules have sent, in a table behind the histograms of latency: a row for each slot.
//! The engine writes a number before it sends what has it, so that a process that takes the page
//! over sends nothing again, whenever its predecessor died.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{MAX_SLOTS, MERGED_START, Writer};
use crate::sys::memory::SharedWords;

/// Streams of a rule that are known at once.
pub const STREAMS: usize = 8;
/// Words of a row: for each stream its name, and the number after the last one that was sent, plus
/// one; 0 for none.
pub(super) const ROW_WORDS: usize = 2 * STREAMS;
/// Words of the table. Only rows in use take memory.
pub(super) const WORDS: usize = MAX_SLOTS as usize * ROW_WORDS;

/// How far a stream was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentStream {
    /// What tells it from other streams of the rule: an SSRC, a session.
    pub id: u64,
    /// The number after the last one.
    pub next: u64,
}

impl Writer {
    /// Records how far a stream of the merging rule in a slot was sent.
    #[inline]
    pub fn set_sent(&mut self, slot: u32, stream: usize, sent: SentStream) {
        let [id, next] = cells(&self.page, slot, stream);
        id.store(sent.id, Ordering::Relaxed);
        next.store(sent.next.wrapping_add(1), Ordering::Relaxed);
    }

    /// How far the streams of the merging rule in a slot were sent, by this process or another one.
    #[must_use]
    pub fn sent_streams(&self, slot: u32) -> [Option<SentStream>; STREAMS] {
        std::array::from_fn(|stream| {
            let [id, next] =
                cells(&self.page, slot, stream).map(|cell| cell.load(Ordering::Relaxed));
            next.checked_sub(1).map(|next| SentStream { id, next })
        })
    }

    /// Forgets them, as the slot has another owner.
    pub(super) fn forget_sent(&mut self, slot: u32) {
        for stream in 0..STREAMS {
            cells(&self.page, slot, stream)[1].store(0, Ordering::Relaxed);
        }
    }
}

fn cells(page: &SharedWords, slot: u32, stream: usize) -> [&AtomicU64; 2] {
    let at = MERGED_START + slot as usize * ROW_WORDS + 2 * stream;
    let words = page.words();
    [&words[at], &words[at + 1]]
}
