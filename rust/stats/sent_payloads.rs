//! What merging rules without numbers have sent, in a table behind the numbers of the others: a row
//! of hashes for each of some rules. The merger works in its row, so that a process that takes the
//! page over sends none of it again.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{SENT_PAYLOADS_START, TAG, Writer};
use crate::sys::memory::SharedWords;

/// Rules that can have a row.
const ROWS: usize = 64;
/// Words of a row. Only those in use take memory.
pub const ROW_WORDS: usize = 1 << 16;
/// The word with the time of the last turn, in microseconds of CLOCK_MONOTONIC.
const TIME: usize = SENT_PAYLOADS_START;
/// The first of the words with the tags of the rules that have the rows; 0 for none.
const OWNERS: usize = TIME + 1;
/// The first of the words with the seeds of the hashes of the rows.
const SEEDS: usize = OWNERS + ROWS;
const CELLS: usize = SEEDS + ROWS;
/// Words of the table.
pub(super) const WORDS: usize = 1 + 2 * ROWS + ROWS * ROW_WORDS;

/// The row of a rule.
pub struct PayloadRow {
    page: Arc<SharedWords>,
    row: usize,
    /// When the process that used it before ran its last turn, in microseconds; 0 for none.
    pub used_until_us: u64,
}

impl PayloadRow {
    /// The seed of its hashes.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.page.words()[SEEDS + self.row].load(Ordering::Relaxed)
    }

    /// Its words, which are 0, or those of a rule with another seed, if the rule is new.
    #[inline]
    #[must_use]
    pub fn cells(&self) -> &[AtomicU64] {
        &self.page.words()[CELLS + self.row * ROW_WORDS..][..ROW_WORDS]
    }
}

/// The rows that this process uses, and when the one before it ran its last turn.
pub(super) struct PayloadRows {
    in_use: u64,
    before_us: u64,
}

const _: () = assert!(ROWS <= u64::BITS as usize);

impl PayloadRows {
    pub(super) fn new(page: &SharedWords) -> Self {
        Self { in_use: 0, before_us: page.words()[TIME].load(Ordering::Relaxed) }
    }
}

impl Writer {
    /// Records that a turn begins, in microseconds of CLOCK_MONOTONIC.
    #[inline]
    pub fn note_turn(&self, now_us: u64) {
        self.page.words()[TIME].store(now_us, Ordering::Relaxed);
    }

    /// The row of the merging rule in a slot, if one is free: that which it had in the process
    /// before, or another one.
    #[cold]
    pub fn payload_row(&mut self, slot: u32) -> Option<PayloadRow> {
        let owner = self.slot(slot)[TAG];
        let known = self.find_payload_row(owner);
        let row = known.or_else(|| self.find_payload_row(0)).or_else(|| {
            // Rules that were removed while no process had the page still own theirs.
            let first = self.payload_rows.in_use.trailing_ones() as usize;
            (first < ROWS).then_some(first)
        })?;
        let words = self.page.words();
        if known.is_none() {
            words[SEEDS + row].store(RandomState::new().hash_one(0), Ordering::Relaxed);
            words[OWNERS + row].store(owner, Ordering::Relaxed);
        }
        self.payload_rows.in_use |= 1 << row;
        let used_until_us = if known.is_some() { self.payload_rows.before_us } else { 0 };
        Some(PayloadRow { page: self.page.clone(), row, used_until_us })
    }

    /// Takes the row of a rule back, if it has one.
    pub(super) fn release_payload_row(&mut self, owner: u64) {
        let owners = &self.page.words()[OWNERS..][..ROWS];
        if let Some(row) = owners.iter().position(|cell| cell.load(Ordering::Relaxed) == owner) {
            owners[row].store(0, Ordering::Relaxed);
            self.payload_rows.in_use &= !(1 << row);
        }
    }

    /// The row with this owner that this process does not use.
    fn find_payload_row(&self, owner: u64) -> Option<usize> {
        let in_use = self.payload_rows.in_use;
        let mut owners = self.page.words()[OWNERS..][..ROWS].iter().enumerate();
        let is_found = |(row, cell): &(usize, &AtomicU64)| {
            in_use >> row & 1 == 0 && cell.load(Ordering::Relaxed) == owner
        };
        owners.find(is_found).map(|(row, _)| row)
    }
}
