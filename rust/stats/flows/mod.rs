//! The flows of rules: who sends what to which, in a bounded table behind the slots of a page. It
//! is published under the page's sequence number, like the slots.
//!
//! A row belongs to the rule in a slot, of one generation. A row of an earlier owner matches no
//! more and gives way to others; readers ignore it.

mod reader;

use super::sequences::{self, Sequence, SequenceSpec, SequenceWords};
use super::{GENERATION, MAX_SLOTS, SlotWords, TAG};
use crate::addr::Addr;
use crate::packet::Datagram;
use crate::sys::memory::PrivateArray;
pub use reader::{FlowRow, read_flows};

/// Rows in a page: flows of all rules together.
pub const MAX_FLOWS: usize = 8192;
/// Words in a row.
pub(super) const ROW_WORDS: usize = 12;
/// Words of a flow in a page: its row, then what is known of its numbers.
pub(super) const PAGE_WORDS: usize = ROW_WORDS + sequences::WORDS;
/// Words of all flows.
pub(super) const WORDS: usize = MAX_FLOWS * PAGE_WORDS;
/// The number of rows that a flow may be in. The least recent of them gives way to a new flow.
const WAYS: usize = 8;

/// The words of a row.
pub(super) mod row {
    /// The tag of the rule's owner; 0 for a free row.
    pub(in crate::stats) const TAG: usize = 0;
    /// From the upper bits: the generation of the rule's slot, its number, the source port and the
    /// destination port, 16 bits each.
    pub(in crate::stats) const KEY: usize = 1;
    /// The source address, upper and lower half.
    pub(in crate::stats) const SOURCE: usize = 2;
    /// The destination address, upper and lower half.
    pub(in crate::stats) const GROUP: usize = 4;
    /// Matched datagrams.
    pub(in crate::stats) const DATAGRAMS: usize = 6;
    /// Bytes of their payloads.
    pub(in crate::stats) const BYTES: usize = 7;
    /// The time of the first one, in milliseconds of CLOCK_MONOTONIC_COARSE.
    pub(in crate::stats) const FIRST_MS: usize = 8;
    /// The time of the last one.
    pub(in crate::stats) const LAST_MS: usize = 9;
    /// The smallest TTL, the largest in the next 8 bits, then TTL and DSCP of the last datagram.
    pub(in crate::stats) const TTLS: usize = 10;
    /// One bit for each DSCP.
    pub(in crate::stats) const DSCPS: usize = 11;
}

/// One row.
type RowWords = [u64; ROW_WORDS];
/// What distinguishes flows: the words from `KEY` to the end of `GROUP`.
type FlowId = [u64; row::DATAGRAMS - row::KEY];

/// What a frame holds for a flow: a datagram, or the equal-sized ones of a super-frame.
pub struct Content<'a> {
    /// Its headers.
    pub datagram: &'a Datagram,
    /// What its rule says about the numbers in its datagrams.
    pub sequence: SequenceSpec,
    /// The bytes of its datagrams, one after the other.
    pub payload: &'a [u8],
    /// The size in bytes of each datagram but the last.
    pub segment: usize,
    /// When it arrived, in nanoseconds of CLOCK_MONOTONIC.
    pub arrival_ns: u64,
}

/// The flows that one engine counts.
pub(super) struct FlowTable {
    rows: PrivateArray<RowWords>,
    /// The numbers of the flow in each row.
    numbers: Box<[Sequence]>,
    /// For each slot, the row of its last datagram.
    recent: PrivateArray<u32>,
    changed: Vec<u32>,
    is_changed: Box<[bool]>,
    /// So that no sender knows which flows share rows.
    seed: u64,
}

impl FlowTable {
    /// A table with these rows, which an earlier process has counted, or none.
    pub(super) fn new(found: impl Iterator<Item = (RowWords, SequenceWords)>, seed: u64) -> Self {
        let mut table = Self {
            rows: PrivateArray::new(MAX_FLOWS),
            numbers: vec![Sequence::new(); MAX_FLOWS].into(),
            recent: PrivateArray::new(MAX_SLOTS as usize),
            changed: Vec::with_capacity(MAX_FLOWS),
            is_changed: vec![false; MAX_FLOWS].into(),
            seed,
        };
        let mut has_found = false;
        for (words, numbers) in found {
            has_found = true;
            // Among other rows than before, since the seed is another one.
            let mut id = FlowId::default();
            id.copy_from_slice(&words[row::KEY..row::DATAGRAMS]);
            let (at, _) = table.place(&id);
            *table.row(at) = words;
            table.numbers[at] = Sequence::resumed(&numbers);
        }
        if has_found {
            // The places of all are published again.
            (0..MAX_FLOWS).for_each(|at| table.mark(at));
        }
        table
    }

    /// Counts a datagram that matches the rule in `slot`, whose words are in `slots`. Returns the
    /// slot of the rule whose flow gave way, if one did.
    // Most datagrams belong to the flow of the one before: a comparison and two additions.
    #[inline(always)]
    pub(super) fn count(
        &mut self,
        slot: u32,
        slots: &[SlotWords],
        content: &Content<'_>,
        now_ms: u64,
    ) -> Option<u32> {
        let datagram = content.datagram;
        let id = flow_id(slot, slots[slot as usize][GENERATION], datagram);
        let traits = traits(datagram);
        let mut at = self.recent[slot as usize] as usize;
        let mut evicted = None;
        let words = self.row(at);
        // Word by word: a comparison of slices is a call.
        let differs = |sum, (word, id): (&u64, &u64)| sum | (word ^ id);
        let other = words[row::KEY..row::DATAGRAMS].iter().zip(&id).fold(0, differs);
        let is_same = other | (words[row::TTLS] >> 16 ^ traits) == 0;
        if !is_same || !self.is_changed[at] {
            (at, evicted) = self.begin(slot, slots, id, traits, now_ms);
            self.numbers[at].tell(content.sequence);
        }
        let words = self.row(at);
        words[row::DATAGRAMS] += u64::from(datagram.segments);
        words[row::BYTES] += u64::from(datagram.payload.len);
        self.numbers[at].count(content.payload, content.segment, content.arrival_ns);
        evicted
    }

    /// Prepares the row of a flow for the datagrams of this turn that have these traits: its
    /// number, and the slot of the rule whose flow gave way.
    #[inline(never)]
    fn begin(
        &mut self,
        slot: u32,
        slots: &[SlotWords],
        id: FlowId,
        traits: u64,
        now_ms: u64,
    ) -> (usize, Option<u32>) {
        let mut at = self.recent[slot as usize] as usize;
        let mut evicted = None;
        if self.row(at)[row::KEY..row::DATAGRAMS] != id {
            (at, evicted) = self.find(slot, slots, id, traits, now_ms);
        }
        self.mark(at);
        let words = self.row(at);
        words[row::LAST_MS] = now_ms;
        let (ttl, dscp, seen) = (traits & 0xff, traits >> 8, words[row::TTLS]);
        let (least, most) = (ttl.min(seen & 0xff), ttl.max(seen >> 8 & 0xff));
        words[row::TTLS] = least | most << 8 | traits << 16;
        words[row::DSCPS] |= 1 << (dscp & 63);
        (at, evicted)
    }

    /// The row of a flow, new or not, and the slot of the rule whose flow gave way.
    fn find(
        &mut self,
        slot: u32,
        slots: &[SlotWords],
        id: FlowId,
        traits: u64,
        now_ms: u64,
    ) -> (usize, Option<u32>) {
        let (at, is_known) = self.place(&id);
        self.recent[slot as usize] = u32::try_from(at).unwrap_or(0);
        if is_known {
            return (at, None);
        }
        let words = self.row(at);
        let owner = words[row::KEY] >> 32 & 0xffff;
        let was_counted = words[row::TAG] != 0
            && slots.get(owner as usize).is_some_and(|its| its[TAG] == words[row::TAG]);
        *words = [0; ROW_WORDS];
        self.numbers[at] = Sequence::new();
        let words = self.row(at);
        words[row::TAG] = slots[slot as usize][TAG];
        words[row::KEY..row::DATAGRAMS].copy_from_slice(&id);
        words[row::FIRST_MS] = now_ms;
        words[row::TTLS] = traits & 0xff | (traits & 0xff) << 8;
        (at, was_counted.then(|| u32::try_from(owner).unwrap_or(0)))
    }

    /// The row of a flow, and whether it is there; if not, the row that gives way.
    fn place(&self, id: &FlowId) -> (usize, bool) {
        let first = bucket(self.seed, id) * WAYS;
        let ways = || self.rows[first..first + WAYS].iter().enumerate();
        let known = ways().find(|(_, words)| words[row::KEY..row::DATAGRAMS] == *id);
        if let Some((way, _)) = known {
            return (first + way, true);
        }
        // A free row has the time 0.
        let oldest = ways().min_by_key(|(_, words)| words[row::LAST_MS]);
        (first + oldest.map_or(0, |(way, _)| way), false)
    }

    /// The rows that have changed since the last call, with their numbers.
    pub(super) fn take_changes(
        &mut self,
    ) -> impl Iterator<Item = (usize, &RowWords, &SequenceWords)> {
        let Self { rows, numbers, changed, is_changed, .. } = self;
        for &at in &*changed {
            is_changed[at as usize] = false;
            numbers[at as usize].end_turn();
        }
        let (rows, numbers): (&[RowWords], &[Sequence]) = (rows, numbers);
        changed
            .drain(..)
            .map(move |at| (at as usize, &rows[at as usize], &numbers[at as usize].words))
    }

    #[inline]
    fn row(&mut self, at: usize) -> &mut RowWords {
        &mut self.rows[at]
    }

    #[inline]
    fn mark(&mut self, at: usize) {
        if !self.is_changed[at] {
            self.is_changed[at] = true;
            self.changed.push(u32::try_from(at).unwrap_or(0));
        }
    }
}

/// The row that a successor resumes, and its numbers, if its counts are plausible. The slot's
/// generation grows by one when the successor claims it.
pub(super) fn resumed(found: &[u64; PAGE_WORDS]) -> Option<(RowWords, SequenceWords)> {
    const MOST: u64 = 1 << 56;
    let (words, numbers) = found.split_first_chunk::<ROW_WORDS>()?;
    let counts = &words[row::DATAGRAMS..=row::LAST_MS];
    if words[row::TAG] == 0 || counts.iter().any(|word| *word > MOST) {
        return None;
    }
    let mut next = *words;
    next[row::KEY] = words[row::KEY].wrapping_add(1 << 48);
    next[row::TTLS] &= 0xffff;
    Some((next, *numbers.first_chunk()?))
}

/// What may differ between the datagrams of a flow: the TTL, and the DSCP in the next 8 bits.
#[inline(always)]
fn traits(datagram: &Datagram) -> u64 {
    u64::from(datagram.ttl) | u64::from(datagram.dscp) << 8
}

#[inline(always)]
fn flow_id(slot: u32, generation: u64, datagram: &Datagram) -> FlowId {
    let ports = u64::from(datagram.source_port) << 16 | u64::from(datagram.port);
    let key = generation << 48 | u64::from(slot) << 32 | ports;
    let [s_upper, s_lower] = halves(datagram.source);
    let [g_upper, g_lower] = halves(datagram.group);
    [key, s_upper, s_lower, g_upper, g_lower]
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
fn halves(address: Addr) -> [u64; 2] {
    [(address.bits() >> 64) as u64, address.bits() as u64]
}

/// The bucket of a flow: multiplications mix each word into the upper bits.
fn bucket(seed: u64, id: &FlowId) -> usize {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: &u64| (hash ^ word).wrapping_mul(MIX).rotate_left(29);
    let hash = id.iter().fold(seed, mix).wrapping_mul(MIX);
    (hash >> 32) as usize % (MAX_FLOWS / WAYS)
}

#[cfg(test)]
mod tests;
