//! The counters: their layout in a shared page, the engine's writer, and the reader. `owner`
//! identifies the owner of a slot, `metadata` holds what other processes need besides the counters,
//! `kernel` what the kernel has relayed in place of the engine, `takeover` lets a page outlive the process that
//! counts in it, and `carried` brings counts into a page of another layout.
//!
//! A page is a header and slots of equal size. A slot belongs to one interface, group, rule or
//! output and has a generation, so that a reader notices when it was given to another owner. The
//! writer keeps its own copy and publishes the changes once per turn under a sequence number
//! (`sequence_lock`), so that a reader gets consistent numbers without stopping the writer. `flows`
//! is a table of senders behind the slots, `latency` one of the times that datagrams took, `merged`
//! and `sent_payloads` those of what merging rules have sent; `clocks` keeps a step of the host's
//! clock out of the first two.

pub mod carried;
mod clocks;
mod flows;
pub mod kernel;
mod latency;
mod log_linear;
mod loss;
pub mod merged;
pub mod metadata;
mod owner;
mod reader;
pub mod sent_payloads;
mod sequence_lock;
pub mod sequences;
pub mod skew;
mod takeover;
mod totals;
mod words;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::packet::Discard;
use crate::sys::memory::{PrivateArray, SharedWords};
use clocks::ArrivalClock;
pub use clocks::Clocks;
use flows::FlowTable;
pub use flows::{Content, FlowRow, MAX_FLOWS, read_flows};
use latency::LatencyTable;
pub use latency::{LatencyRow, LatencyRows, read_latency};
pub use loss::{Loss, count_loss, count_send_error};
pub use owner::{Grant, SlotOwner};
pub use reader::{InterfaceCopy, Snapshot, alive_ms, read};
use sent_payloads::PayloadRows;
pub use takeover::{Found, incarnations, take_over};
pub use totals::SlotTotals;
pub use words::{group, interface, output, rule};

/// Words in a slot, and in the header.
pub const SLOT_WORDS: usize = 32;
/// Slots in a page: enough for 10 000 rules with five outputs each. Only used slots take memory.
pub const MAX_SLOTS: u32 = 65_536;
/// The offset of the metadata, behind the header and the slots.
const METADATA_START: usize = (MAX_SLOTS as usize + 1) * SLOT_WORDS;
/// The offset of the flows, behind the metadata.
const FLOWS_START: usize = METADATA_START + MAX_SLOTS as usize * metadata::WORDS;
/// The offset of the histograms of latency, behind the flows.
const LATENCY_START: usize = FLOWS_START + flows::WORDS;
/// The offset of what merging rules have sent, behind the histograms.
const MERGED_START: usize = LATENCY_START + latency::WORDS;
/// The offset of the payloads that they have sent, behind the numbers.
const SENT_PAYLOADS_START: usize = MERGED_START + merged::WORDS;
/// Words in a page.
const PAGE_WORDS: usize = SENT_PAYLOADS_START + sent_payloads::WORDS;
/// A hash of the layout, which readers check.
pub const LAYOUT: u64 = layout();

/// The words of the header.
mod header {
    pub(super) const LAYOUT: usize = 0;
    pub(super) const SEQUENCE: usize = 1;
    pub(super) const SLOTS: usize = 2;
    /// The number of processes that have counted in the page, one after the other.
    pub(super) const INCARNATIONS: usize = 3;
    /// The end of the used slots, where a search may stop.
    pub(super) const USED: usize = 4;
    /// The last time at which the current process was alive, in milliseconds of
    /// CLOCK_MONOTONIC_COARSE.
    pub(super) const ALIVE_MS: usize = 5;
    /// 1 while the current process counts flows.
    pub(super) const FLOWS: usize = 6;
    /// 1 while the current process measures latency.
    pub(super) const LATENCY: usize = 7;
}

/// The word of every slot that holds its generation.
const GENERATION: usize = 0;
/// The word of every slot that holds its owner's tag, the same in every process; 0 for none.
const TAG: usize = SLOT_WORDS - 1;

/// A slot in use: its number and the generation of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The position in the page.
    pub index: u32,
    /// Never 0; it increases each time the slot is assigned.
    pub generation: u32,
}

/// One copy of a slot's words.
pub type SlotWords = [u64; SLOT_WORDS];

/// The position of each word, for the layout hash.
const PLACES: &[usize] = &[
    SLOT_WORDS,
    header::LAYOUT,
    header::SEQUENCE,
    header::SLOTS,
    header::INCARNATIONS,
    header::USED,
    header::ALIVE_MS,
    header::FLOWS,
    header::LATENCY,
    METADATA_START,
    FLOWS_START,
    flows::WORDS,
    flows::PAGE_WORDS,
    LATENCY_START,
    latency::WORDS,
    latency::ROW_WORDS,
    MERGED_START,
    merged::ROW_WORDS,
    SENT_PAYLOADS_START,
    sent_payloads::WORDS,
    sent_payloads::ROW_WORDS,
    sequences::word::FORMAT,
    sequences::word::NUMBERED,
    sequences::word::UNFIT,
    sequences::word::LOST,
    sequences::word::DUPLICATED,
    sequences::word::REORDERED,
    sequences::word::GAPS,
    sequences::word::LARGEST_GAP,
    sequences::word::RESETS,
    sequences::word::TS_LOST,
    sequences::word::JITTER,
    sequences::word::STREAM,
    sequences::word::NEXT,
    sequences::word::ARRIVALS,
    metadata::WORDS,
    metadata::GROUP,
    metadata::KERNEL_DROPS,
    metadata::WAY,
    metadata::NAME,
    metadata::KERNEL,
    GENERATION,
    TAG,
    interface::RECEIVED,
    interface::MATCHED,
    interface::BUFFER_WAITS,
    interface::ERROR,
    interface::RECEIVED_BYTES,
    interface::DROPPED,
    group::UNMATCHED,
    group::OTHER_PORT,
    group::LAST_SEEN_MS,
    group::OTHER_SOURCE,
    rule::MATCHED,
    rule::MATCHED_BYTES,
    rule::LAST_SEEN_MS,
    rule::LAST_SOURCE,
    rule::OVERTAKING,
    rule::FLOWS_EVICTED,
    rule::LOOPED,
    rule::LOOPED_MS,
    rule::LOOPED_SOURCE,
    rule::RECEIVED,
    rule::SKEW,
    rule::SWITCHES,
    output::WANTED,
    output::SENT,
    output::SENT_BYTES,
    output::REFUSED,
    output::DROPPED,
    output::WAITING,
    output::ERRORS,
    output::ERROR_PAIRS,
    output::LOST_MS,
    output::LAST_LOSS,
    output::LAST_ERRNO,
    output::REFUSED_MS,
];

/// A hash (FNV-1a) of the position of each word and the meaning of the reason words.
const fn layout() -> u64 {
    let (mut hash, mut at) = (BASIS, 0);
    while at < PLACES.len() {
        hash = hashed(hash, &PLACES[at].to_le_bytes());
        at += 1;
    }
    at = 0;
    while at < Discard::COUNT {
        hash = hashed(hash, Discard::ALL[at].name().as_bytes());
        at += 1;
    }
    at = 0;
    while at < Loss::COUNT {
        hash = hashed(hash, Loss::ALL[at].name().as_bytes());
        at += 1;
    }
    hash
}

/// The initial value of FNV-1a.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;

const fn hashed(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

/// Creates a page with room for [`MAX_SLOTS`].
///
/// # Errors
/// The kernel's: no memory, no free descriptor.
pub fn create_page() -> std::io::Result<Arc<SharedWords>> {
    let page = SharedWords::create(PAGE_WORDS)?;
    page.words()[header::SLOTS].store(u64::from(MAX_SLOTS), Ordering::Relaxed);
    page.words()[header::LAYOUT].store(LAYOUT, Ordering::Release);
    Ok(Arc::new(page))
}

/// The engine's counters: plain numbers, published once per turn.
pub struct Writer {
    page: Arc<SharedWords>,
    /// The words of all slots in sequence; zeroed memory is allocated by the kernel only when used.
    words: PrivateArray<u64>,
    changed: Vec<u32>,
    is_changed: Box<[bool]>,
    /// The flows of rules, if they are counted.
    flows: Option<Box<FlowTable>>,
    /// The latency of rules, if it is measured.
    latency: Option<Box<LatencyTable>>,
    payload_rows: PayloadRows,
    sequence: u64,
    now_ms: u64,
    arrivals: ArrivalClock,
}

impl Writer {
    /// Creates the only writer of `page`, which is new or was taken over.
    #[must_use]
    pub fn new(page: Arc<SharedWords>) -> Self {
        let sequence = page.words()[header::SEQUENCE].load(Ordering::Relaxed);
        for feature in [header::FLOWS, header::LATENCY] {
            page.words()[feature].store(0, Ordering::Relaxed);
        }
        let slots = MAX_SLOTS as usize;
        Self {
            payload_rows: PayloadRows::new(&page),
            page,
            words: PrivateArray::new(slots * SLOT_WORDS),
            changed: Vec::with_capacity(slots),
            is_changed: vec![false; slots].into(),
            flows: None,
            latency: None,
            sequence,
            now_ms: 0,
            arrivals: ArrivalClock::default(),
        }
    }

    /// Counts flows too, continuing those of an earlier process in the page.
    pub fn count_flows(&mut self) {
        let cells = &self.page.words()[FLOWS_START..FLOWS_START + flows::WORDS];
        let found = cells.chunks_exact(flows::PAGE_WORDS).filter_map(|cells| {
            let mut words = [0; flows::PAGE_WORDS];
            copy(cells, &mut words);
            flows::resumed(&words)
        });
        let seed = RandomState::new().hash_one(0);
        self.flows = Some(Box::new(FlowTable::new(found, seed)));
        self.page.words()[header::FLOWS].store(1, Ordering::Relaxed);
    }

    /// Whether flows are counted.
    #[inline]
    #[must_use]
    pub const fn counts_flows(&self) -> bool {
        self.flows.is_some()
    }

    /// Counts datagrams for their flow, if flows are counted.
    #[inline(always)]
    pub fn count_flow(&mut self, slot: u32, content: &Content<'_>) {
        let Some(flows) = &mut self.flows else { return };
        let slots: &[SlotWords] = self.words.as_chunks().0;
        if let Some(evicted) = flows.count(slot, slots, content, self.now_ms) {
            self.slot(evicted)[rule::FLOWS_EVICTED] += 1;
        }
    }

    /// Measures latency too, continuing the histograms of an earlier process in the page.
    pub fn measure_latency(&mut self) {
        self.latency = Some(Box::new(LatencyTable::new(self.page.clone())));
        self.page.words()[header::LATENCY].store(1, Ordering::Relaxed);
    }

    /// Whether latency is measured.
    #[inline]
    #[must_use]
    pub const fn measures_latency(&self) -> bool {
        self.latency.is_some()
    }

    /// Remembers datagrams that the rule in a slot matched and that the kernel received at this
    /// time (CLOCK_REALTIME), until [`Writer::measure`], if latency is measured.
    #[inline]
    pub fn await_sends(&mut self, slot: u32, datagrams: u32, arrived_ns: Option<u64>) {
        if let Some(latency) = &mut self.latency {
            latency.await_sends(slot, datagrams, arrived_ns);
        }
    }

    /// Measures the latency of what was received, now that its copies are sent.
    #[inline]
    pub fn measure(&mut self, clocks: impl FnOnce() -> Clocks) {
        if let Some(latency) = &mut self.latency {
            latency.measure(clocks);
        }
    }

    /// Sets the time of subsequent counts, in milliseconds of CLOCK_MONOTONIC_COARSE.
    #[inline]
    pub const fn set_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Sets the time of subsequent arrivals.
    #[inline]
    pub fn set_clocks(&mut self, now: Clocks) {
        self.arrivals.begin_turn(now);
    }

    /// When a datagram arrived, in nanoseconds of CLOCK_MONOTONIC: as the kernel stamped it (in
    /// nanoseconds of CLOCK_REALTIME), else now.
    #[inline(always)]
    #[must_use]
    pub fn arrival_ns(&self, stamp_ns: Option<u64>) -> u64 {
        self.arrivals.arrival_ns(stamp_ns)
    }

    /// The time of the counts, in milliseconds.
    #[inline]
    #[must_use]
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The words of a slot, to count in; [`Writer::publish`] publishes them.
    #[inline]
    pub fn slot(&mut self, index: u32) -> &mut SlotWords {
        let at = index as usize;
        if !self.is_changed[at] {
            self.is_changed[at] = true;
            self.changed.push(index);
        }
        &mut self.words.as_chunks_mut().0[at]
    }

    /// Assigns a slot to its new owner, with all counters at zero or resumed.
    #[cold]
    pub fn grant(&mut self, grant: &Grant) {
        let Grant { slot, owner, is_continued } = *grant;
        let words =
            if is_continued { owner.resumed(&self.published(slot)) } else { [0; SLOT_WORDS] };
        let own = self.slot(slot.index);
        *own = words;
        own[GENERATION] = u64::from(slot.generation);
        own[TAG] = owner.tag();
        if let Some(latency) = self.latency.as_mut().filter(|_| owner.is_rule()) {
            latency.grant(slot.index, owner.tag(), is_continued);
        }
        if owner.is_rule() && !is_continued {
            self.forget_sent(slot.index);
            self.release_payload_row(owner.tag());
        }
        let used = u64::from(slot.index) + 1;
        self.page.words()[header::USED].fetch_max(used, Ordering::Relaxed);
    }

    /// Removes the owner of a slot; the counts stay readable.
    #[cold]
    pub fn release(&mut self, slot: Slot) {
        let owner = self.published(slot)[TAG];
        if let Some(latency) = &mut self.latency {
            latency.release(slot.index, owner);
        }
        if owner != 0 {
            self.release_payload_row(owner);
        }
        self.slot(slot.index)[TAG] = 0;
    }

    /// The published words of a slot.
    fn published(&self, slot: Slot) -> SlotWords {
        let mut words = [0; SLOT_WORDS];
        let start = (slot.index as usize + 1) * SLOT_WORDS;
        copy(&self.page.words()[start..], &mut words);
        words
    }

    /// Publishes all changes since the last call.
    pub fn publish(&mut self) {
        if self.changed.is_empty() {
            return;
        }
        let cells = self.page.words();
        let slots: &[SlotWords] = self.words.as_chunks().0;
        self.sequence = sequence_lock::write(cells, header::SEQUENCE, self.sequence, || {
            for index in self.changed.drain(..) {
                let at = index as usize;
                self.is_changed[at] = false;
                let start = (at + 1) * SLOT_WORDS;
                for (cell, word) in cells[start..start + SLOT_WORDS].iter().zip(&slots[at]) {
                    cell.store(*word, Ordering::Relaxed);
                }
            }
            let changes = self.flows.iter_mut().flat_map(|flows| flows.take_changes());
            for (at, words, numbers) in changes {
                let start = FLOWS_START + at * flows::PAGE_WORDS;
                let words = words.iter().chain(numbers);
                for (cell, word) in cells[start..start + flows::PAGE_WORDS].iter().zip(words) {
                    cell.store(*word, Ordering::Relaxed);
                }
            }
        });
    }
}

fn copy<const N: usize>(cells: &[AtomicU64], words: &mut [u64; N]) {
    for (cell, word) in cells.iter().zip(words) {
        *word = cell.load(Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
