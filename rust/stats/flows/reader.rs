//! The reader of flows. It trusts nothing in a page, as the reader of slots.

use std::sync::atomic::Ordering;

use super::{MAX_FLOWS, PAGE_WORDS, ROW_WORDS, RowWords, row};
use crate::addr::Addr;
use crate::stats::reader::{PAGE_PATIENCE, Patience, is_ours, slot_cells};
use crate::stats::sequences::{self, SequenceWords};
use crate::stats::{BASIS, FLOWS_START, GENERATION, SlotTotals, TAG, hashed, header};
use crate::sys::memory::WordsView;

/// A flow of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRow {
    /// The tag of the rule's owner.
    pub rule: u64,
    /// The sender.
    pub source: Addr,
    /// The sender's port.
    pub source_port: u16,
    /// The destination address.
    pub group: Addr,
    /// The destination port.
    pub port: u16,
    /// Matched datagrams.
    pub datagrams: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// The times of the first and the last one, in milliseconds of CLOCK_MONOTONIC_COARSE.
    pub seen_ms: [u64; 2],
    /// The smallest and the largest TTL.
    pub ttls: [u8; 2],
    /// One bit for each DSCP.
    pub dscps: u64,
    /// What is known of the numbers in its datagrams ([`sequences::word`]).
    pub numbers: SequenceWords,
}

impl FlowRow {
    /// A number that is the same for the same flow in every page.
    #[must_use]
    pub fn tag(&self) -> u64 {
        let ports = [self.source_port.to_le_bytes(), self.port.to_le_bytes()].concat();
        let mut hash = hashed(BASIS, &self.rule.to_le_bytes());
        hash = hashed(hash, &self.source.bits().to_le_bytes());
        hash = hashed(hash, &self.group.bits().to_le_bytes());
        hashed(hash, &ports)
    }

    /// Its totals, for rates.
    #[must_use]
    pub const fn totals(&self) -> SlotTotals {
        SlotTotals { datagrams: self.datagrams, bytes: self.bytes, dropped: 0 }
    }

    /// Adds what another page counted for the same flow.
    pub fn merge(&mut self, other: &Self) {
        self.datagrams = self.datagrams.saturating_add(other.datagrams);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.seen_ms[0] = self.seen_ms[0].min(other.seen_ms[0]);
        self.seen_ms[1] = self.seen_ms[1].max(other.seen_ms[1]);
        self.ttls[0] = self.ttls[0].min(other.ttls[0]);
        self.ttls[1] = self.ttls[1].max(other.ttls[1]);
        self.dscps |= other.dscps;
        sequences::merge(&mut self.numbers, &other.numbers);
    }

    #[expect(clippy::cast_possible_truncation, reason = "each field has these bits")]
    fn of(words: &RowWords) -> Self {
        let address = |at: usize| u128::from(words[at]) << 64 | u128::from(words[at + 1]);
        Self {
            rule: words[row::TAG],
            source: Addr::from_bits(address(row::SOURCE)),
            source_port: (words[row::KEY] >> 16) as u16,
            group: Addr::from_bits(address(row::GROUP)),
            port: words[row::KEY] as u16,
            datagrams: words[row::DATAGRAMS],
            bytes: words[row::BYTES],
            seen_ms: [words[row::FIRST_MS], words[row::LAST_MS]],
            ttls: [words[row::TTLS] as u8, (words[row::TTLS] >> 8) as u8],
            dscps: words[row::DSCPS],
            numbers: [0; sequences::WORDS],
        }
    }
}

/// The flows of the rules in a page. `None` if its writer counts none; if it was publishing all the
/// time, only some.
#[must_use]
pub fn read_flows(page: WordsView<'_>) -> Option<Vec<FlowRow>> {
    if !is_ours(page) || page.load(header::FLOWS, Ordering::Relaxed) != Some(1) {
        return None;
    }
    let mut patience = Patience::new(PAGE_PATIENCE);
    let mut flows = Vec::new();
    for start in (0..MAX_FLOWS).map(|at| FLOWS_START + at * PAGE_WORDS) {
        if page.load(start + row::TAG, Ordering::Relaxed) == Some(0) {
            continue;
        }
        let Some(words) = patience.read_words::<PAGE_WORDS>(page, start..start + PAGE_WORDS) else {
            break;
        };
        let Some((words, numbers)) = words.split_first_chunk::<ROW_WORDS>() else { continue };
        if is_current(page, words) {
            let numbers = numbers.first_chunk().copied().unwrap_or([0; sequences::WORDS]);
            flows.push(FlowRow { numbers, ..FlowRow::of(words) });
        }
    }
    Some(flows)
}

/// Whether the rule that the row belongs to still has its slot.
fn is_current(page: WordsView<'_>, words: &RowWords) -> bool {
    let key = words[row::KEY];
    let Ok(slot) = u32::try_from(key >> 32 & 0xffff) else { return false };
    let start = slot_cells(slot).start;
    let word = |at: usize| page.load(start + at, Ordering::Relaxed).unwrap_or(0);
    words[row::TAG] != 0 && word(TAG) == words[row::TAG] && word(GENERATION) & 0xffff == key >> 48
}
