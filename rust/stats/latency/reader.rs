//! The reader of histograms. It trusts nothing in a page, as the reader of slots.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::{LATENCY_START, MAX_HISTOGRAMS, ROW_WORDS, buckets, row, row_start};
use crate::stats::reader::is_ours;
use crate::stats::{SlotOwner, header};
use crate::sys::memory::WordsView;

/// The histogram of a rule: how long its datagrams took through the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyRow([u64; ROW_WORDS]);

/// The histograms in a page.
pub struct LatencyRows<'a> {
    page: WordsView<'a>,
    /// The number of the row of each rule, by tag.
    rows: HashMap<u64, u32>,
}

/// The histograms in a page; `None` if its writer measures nothing.
#[must_use]
pub fn read_latency(page: WordsView<'_>) -> Option<LatencyRows<'_>> {
    if !is_ours(page) || page.load(header::LATENCY, Ordering::Relaxed) != Some(1) {
        return None;
    }
    let tags = (0..).zip(page.relaxed(LATENCY_START, MAX_HISTOGRAMS)?);
    let rows = tags.filter(|(_, tag)| *tag != 0).map(|(row, tag)| (tag, row)).collect();
    Some(LatencyRows { page, rows })
}

impl LatencyRows<'_> {
    /// The histogram of a rule; `None` if it has none.
    #[must_use]
    pub fn find(&self, rule: SlotOwner) -> Option<LatencyRow> {
        let row = *self.rows.get(&rule.tag())?;
        let mut words = [0; ROW_WORDS];
        for (word, cell) in words.iter_mut().zip(self.page.relaxed(row_start(row), ROW_WORDS)?) {
            *word = cell;
        }
        Some(LatencyRow(words))
    }
}

impl Default for LatencyRow {
    fn default() -> Self {
        Self([0; ROW_WORDS])
    }
}

impl LatencyRow {
    /// Adds what another engine measured for the same rule.
    pub fn merge(&mut self, other: &Self) {
        let longest = self.max_ns().max(other.max_ns());
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word = word.saturating_add(more);
        }
        self.0[row::MAX_NS] = longest;
    }

    /// The sum of all measured times, in nanoseconds.
    #[must_use]
    pub const fn sum_ns(&self) -> u64 {
        self.0[row::SUM_NS]
    }

    /// The longest measured time, in nanoseconds.
    #[must_use]
    pub const fn max_ns(&self) -> u64 {
        self.0[row::MAX_NS]
    }

    /// Datagrams without a usable time.
    #[must_use]
    pub const fn unmeasured(&self) -> u64 {
        self.0[row::UNMEASURED]
    }

    /// The buckets that count any datagram: the least time, the least of the next bucket, in
    /// nanoseconds, and the datagrams.
    pub fn buckets(&self) -> impl Iterator<Item = ([u64; 2], u64)> {
        let counts = self.0[row::BUCKETS..].iter().enumerate();
        counts.filter(|(_, count)| **count != 0).map(|(at, count)| (buckets::bounds(at), *count))
    }
}
