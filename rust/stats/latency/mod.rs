//! Latency through the relay: for each rule, a histogram of the times from the kernel's time stamp
//! of a datagram to the completion of its sends, in a bounded table behind the flows of a page.
//!
//! Cells only grow, and no sum over several of them has to hold. So the engine adds to the page
//! itself, without a sequence number: a reader gets each count as of some moment of its reading.

mod buckets;
mod reader;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clocks::{ClockSteps, Clocks};
use super::{LATENCY_START, MAX_SLOTS};
use crate::sys::memory::{PrivateArray, SharedWords};
pub use reader::{LatencyRow, LatencyRows, read_latency};

/// Rules in a page that can have a histogram.
pub(super) const MAX_HISTOGRAMS: usize = 10_240;
/// Words of one histogram.
pub(super) const ROW_WORDS: usize = row::BUCKETS + buckets::COUNT;
/// Words of the tags of all rows, and of the rows behind them.
pub(super) const WORDS: usize = MAX_HISTOGRAMS * (1 + ROW_WORDS);
/// Datagrams that can wait for the end of a turn; more are not measured.
const MOST_WAITING: usize = 16_384;

/// The words of a row.
pub(super) mod row {
    /// The sum of all measured times, in nanoseconds.
    pub(in crate::stats) const SUM_NS: usize = 0;
    /// The longest of them.
    pub(in crate::stats) const MAX_NS: usize = 1;
    /// Datagrams without a usable time.
    pub(in crate::stats) const UNMEASURED: usize = 2;
    /// Measured datagrams, one word for each bucket.
    pub(in crate::stats) const BUCKETS: usize = 3;
}

/// A datagram, or those of a super-frame, for a rule: received, and not yet sent.
struct Waiting {
    slot: u32,
    datagrams: u32,
    /// The kernel's time stamp.
    arrived_ns: u64,
}

/// The histograms of the rules of one engine.
pub(super) struct LatencyTable {
    page: Arc<SharedWords>,
    /// For each slot, the number of its rule's row, plus one; 0 for none.
    rows: PrivateArray<u32>,
    free: Vec<u32>,
    /// The rows of an earlier process that this one has not claimed, by the tag of their rule.
    found: HashMap<u64, u32>,
    waiting: Vec<Waiting>,
    steps: ClockSteps,
}

impl LatencyTable {
    /// The table of a page, in which an earlier process may have measured.
    pub(super) fn new(page: Arc<SharedWords>) -> Self {
        let (mut free, mut found) = (Vec::new(), HashMap::new());
        // The first ones last, since they are taken from the end.
        for row in (0..u32::try_from(MAX_HISTOGRAMS).unwrap_or(0)).rev() {
            let tag = tag(&page, row).load(Ordering::Relaxed);
            if tag == 0 || found.insert(tag, row).is_some() {
                free.push(row);
            }
        }
        let rows = PrivateArray::new(MAX_SLOTS as usize);
        let waiting = Vec::with_capacity(MOST_WAITING);
        Self { page, rows, free, found, waiting, steps: ClockSteps::default() }
    }

    /// Gives a rule the row of its predecessor if it continues, else an empty one, as long as there
    /// is any.
    #[cold]
    pub(super) fn grant(&mut self, slot: u32, owner: u64, is_continued: bool) {
        let known = if is_continued { self.found.remove(&owner) } else { None };
        let Some(row) = known.or_else(|| self.free.pop()) else { return };
        if known.is_none() {
            cells(&self.page, row).iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
            tag(&self.page, row).store(owner, Ordering::Relaxed);
        }
        self.rows[slot as usize] = row + 1;
    }

    /// Takes the row of a rule back, which may be one of an earlier process.
    #[cold]
    pub(super) fn release(&mut self, slot: u32, owner: u64) {
        let own = std::mem::take(&mut self.rows[slot as usize]).checked_sub(1);
        let Some(row) = own.or_else(|| self.found.remove(&owner)) else { return };
        tag(&self.page, row).store(0, Ordering::Relaxed);
        self.free.push(row);
    }

    /// Remembers datagrams that a rule matched until their copies are sent.
    #[inline]
    pub(super) fn await_sends(&mut self, slot: u32, datagrams: u32, arrived_ns: Option<u64>) {
        match arrived_ns.filter(|_| self.waiting.len() < MOST_WAITING) {
            Some(arrived_ns) => self.waiting.push(Waiting { slot, datagrams, arrived_ns }),
            None => self.count_unmeasured(slot, datagrams),
        }
    }

    #[inline]
    fn count_unmeasured(&self, slot: u32, datagrams: u32) {
        if let Some(row) = self.rows[slot as usize].checked_sub(1) {
            add(&cells(&self.page, row)[row::UNMEASURED], datagrams.into());
        }
    }

    /// Measures what has waited, now that its copies are sent.
    #[inline]
    pub(super) fn measure(&mut self, clocks: impl FnOnce() -> Clocks) {
        if self.waiting.is_empty() {
            return;
        }
        let now = clocks();
        self.steps.observe(now);
        for Waiting { slot, datagrams, arrived_ns } in self.waiting.drain(..) {
            let Some(row) = self.rows[slot as usize].checked_sub(1) else { continue };
            let is_valid = self.steps.is_valid(arrived_ns);
            let waited_ns = now.real_ns.checked_sub(arrived_ns).filter(|_| is_valid);
            count(cells(&self.page, row), waited_ns, datagrams.into());
        }
    }
}

/// Counts datagrams that waited this long.
#[inline]
fn count(cells: &[AtomicU64], waited_ns: Option<u64>, datagrams: u64) {
    let measured = waited_ns.and_then(|ns| Some((ns, buckets::find(ns)?)));
    let Some((ns, bucket)) = measured else { return add(&cells[row::UNMEASURED], datagrams) };
    add(&cells[row::BUCKETS + bucket], datagrams);
    add(&cells[row::SUM_NS], ns.wrapping_mul(datagrams));
    if ns > cells[row::MAX_NS].load(Ordering::Relaxed) {
        cells[row::MAX_NS].store(ns, Ordering::Relaxed);
    }
}

/// Adds to a cell that nobody else writes.
#[inline]
fn add(cell: &AtomicU64, count: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

/// The tag of the rule that a row belongs to; 0 for a free row.
fn tag(page: &SharedWords, row: u32) -> &AtomicU64 {
    &page.words()[LATENCY_START + row as usize]
}

fn cells(page: &SharedWords, row: u32) -> &[AtomicU64] {
    &page.words()[row_start(row)..][..ROW_WORDS]
}

const fn row_start(row: u32) -> usize {
    LATENCY_START + MAX_HISTOGRAMS + row as usize * ROW_WORDS
}

#[cfg(test)]
mod tests;
