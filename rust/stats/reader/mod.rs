//! The reader of a page: one slot, or all slots with an owner. It trusts nothing in a page:
//! whatever the content, a reader ends in time, and the worst result is a wrong number.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::kernel::{self, KERNEL_WORDS, KernelWords};
use super::owner::OwnerKind;
use super::{
    GENERATION, LAYOUT, MAX_SLOTS, PAGE_WORDS, SLOT_WORDS, Slot, SlotOwner, SlotTotals, SlotWords,
    TAG, header, metadata, sequence_lock,
};
use crate::sys::memory::WordsView;

/// How long a reader waits for the writer of one slot, which may have died while publishing.
const SLOT_PATIENCE: Duration = Duration::from_millis(500);
/// How long a reader of a whole page waits for all slots together.
pub(super) const PAGE_PATIENCE: Duration = Duration::from_millis(100);

/// The most interfaces read from a page: no host has more.
const MAX_INTERFACES: usize = 4096;

/// Reads a slot consistently. `None` if it has another generation, if the page is not a valid one,
/// or if its writer died while publishing.
#[must_use]
pub fn read(page: WordsView<'_>, slot: Slot) -> Option<SlotWords> {
    if !is_ours(page) || slot.index >= MAX_SLOTS {
        return None;
    }
    let words = Patience::new(SLOT_PATIENCE).read(page, slot.index)?;
    (words[GENERATION] == u64::from(slot.generation)).then_some(words)
}

/// When the process that counts in a page was last alive, in milliseconds of
/// CLOCK_MONOTONIC_COARSE; 0 for never, or if the page is not a valid one.
#[must_use]
pub fn alive_ms(page: WordsView<'_>) -> u64 {
    let alive = page.load(header::ALIVE_MS, Ordering::Relaxed);
    alive.filter(|_| is_ours(page)).unwrap_or(0)
}

pub(super) fn is_ours(page: WordsView<'_>) -> bool {
    page.count() == PAGE_WORDS && page.load(header::LAYOUT, Ordering::Acquire) == Some(LAYOUT)
}

/// The slots of a page that have an owner, each consistent in itself.
#[derive(Default)]
pub struct Snapshot {
    /// The place of each owner's slot, by tag.
    places: HashMap<u64, Place>,
    /// The words of the slots in which something was counted.
    counted: Vec<SlotWords>,
    /// What the kernel has relayed for the slots for which it has.
    kernel: Vec<KernelWords>,
    interfaces: Vec<(String, Place)>,
}

#[derive(Clone, Copy)]
struct Place {
    /// Which of the words are the slot's; `None` while nothing was counted.
    counted: Option<u32>,
    /// Of an interface: frames that the kernel lost. Of a rule: the tag of its group's owner. Of
    /// an output: the way of its copies.
    beside: u64,
    /// Which of the kernel's words are the slot's; `None` if these are all zero.
    kernel: Option<u32>,
}

/// An interface in a [`Snapshot`].
pub struct InterfaceCopy<'a> {
    /// Its name.
    pub name: &'a str,
    /// The counters in its slot.
    pub words: &'a SlotWords,
    /// Frames lost in the kernel before they were received.
    pub kernel_drops: u64,
    /// What the kernel has relayed.
    pub kernel: &'a KernelWords,
}

impl Snapshot {
    /// Reads a page. `None` if it is not a valid one, or if its writer was publishing all the time,
    /// because it has died, was stopped or is malicious.
    #[must_use]
    pub fn take(page: WordsView<'_>) -> Option<Self> {
        if !is_ours(page) {
            return None;
        }
        let used = page.load(header::USED, Ordering::Relaxed)?.min(u64::from(MAX_SLOTS));
        let mut patience = Patience::new(PAGE_PATIENCE);
        let mut snapshot = Self::default();
        for index in 0..u32::try_from(used).ok()? {
            let words = patience.read(page, index)?;
            if words[TAG] != 0 {
                snapshot.add(&words, &metadata::read(page, index)?);
            }
        }
        Some(snapshot)
    }

    /// The slot of an owner.
    #[must_use]
    pub fn find(&self, owner: SlotOwner) -> Option<&SlotWords> {
        Some(self.words(*self.places.get(&owner.tag())?))
    }

    /// Whether anything was counted for an owner.
    #[must_use]
    pub fn has_counted(&self, owner: SlotOwner) -> bool {
        let place = self.places.get(&owner.tag());
        place.is_some_and(|place| place.counted.is_some() || place.kernel.is_some())
    }

    /// The slot for traffic of a rule's group that matched no rule.
    #[must_use]
    pub fn find_group(&self, rule: SlotOwner) -> Option<&SlotWords> {
        let group = self.places.get(&rule.tag())?.beside;
        Some(self.words(*self.places.get(&group)?))
    }

    /// The way of an output's copies, as [`metadata::set_way`] got it; 0 if unknown.
    #[must_use]
    pub fn find_way(&self, output: SlotOwner) -> u64 {
        self.places.get(&output.tag()).map_or(0, |place| place.beside)
    }

    /// The totals of the owners that have counted something.
    pub fn totals(&self) -> impl Iterator<Item = (SlotOwner, SlotTotals)> {
        let has_any = |place: &Place| place.counted.is_some() || place.kernel.is_some();
        let counted = self.places.iter().filter(move |(_, place)| has_any(place));
        counted.filter_map(|(tag, place)| {
            let owner = SlotOwner::from_tag(*tag);
            let mut totals = owner.totals(self.words(*place))?;
            totals += kernel::totals(owner.kind(), self.kernel(*place));
            Some((owner, totals))
        })
    }

    /// The slots of outputs that have counted something, each with what the kernel has relayed.
    pub fn outputs(&self) -> impl Iterator<Item = (&SlotWords, &KernelWords)> {
        let is_output = |tag| SlotOwner::from_tag(tag).kind() == OwnerKind::Output;
        let places = self.places.iter().filter(move |(tag, _)| is_output(**tag));
        places.map(|(_, place)| (self.words(*place), self.kernel(*place)))
    }

    /// What the kernel has relayed for a rule or an output.
    #[must_use]
    pub fn find_kernel(&self, owner: SlotOwner) -> Option<&KernelWords> {
        Some(self.kernel(*self.places.get(&owner.tag())?))
    }

    /// The interfaces, in the order of their slots.
    pub fn interfaces(&self) -> impl Iterator<Item = InterfaceCopy<'_>> {
        self.interfaces.iter().map(|(name, place)| {
            let (words, kernel) = (self.words(*place), self.kernel(*place));
            InterfaceCopy { name, words, kernel_drops: place.beside, kernel }
        })
    }

    fn add(&mut self, words: &SlotWords, metadata: &[u64; metadata::WORDS]) {
        const _: () = assert!(metadata::GROUP == metadata::KERNEL_DROPS);
        const _: () = assert!(metadata::GROUP == metadata::WAY);
        // Most rules of many are idle, and cost next to nothing.
        let is_idle = words[GENERATION + 1..TAG].iter().all(|word| *word == 0);
        let counted = if is_idle { None } else { u32::try_from(self.counted.len()).ok() };
        if counted.is_some() {
            self.counted.push(*words);
        }
        let relayed = metadata::kernel_words(metadata);
        let kernel = if relayed.iter().all(|word| *word == 0) {
            None
        } else {
            u32::try_from(self.kernel.len()).ok()
        };
        if kernel.is_some() {
            self.kernel.push(relayed);
        }
        let place = Place { counted, beside: metadata[metadata::GROUP], kernel };
        // A duplicate tag is an error; the first one counts.
        self.places.entry(words[TAG]).or_insert(place);
        let name = metadata::name(metadata).filter(|_| self.interfaces.len() < MAX_INTERFACES);
        if let Some(name) = name.filter(|name| SlotOwner::interface(name).tag() == words[TAG]) {
            self.interfaces.push((name, place));
        }
    }

    fn kernel(&self, place: Place) -> &KernelWords {
        const NOTHING: &KernelWords = &[0; KERNEL_WORDS];
        place.kernel.and_then(|at| self.kernel.get(at as usize)).unwrap_or(NOTHING)
    }

    fn words(&self, place: Place) -> &SlotWords {
        const NOTHING: &SlotWords = &[0; SLOT_WORDS];
        place.counted.and_then(|at| self.counted.get(at as usize)).unwrap_or(NOTHING)
    }
}

/// The time limit of a reader.
pub(super) struct Patience {
    attempts: u32,
    ends: Instant,
}

impl Patience {
    pub(super) fn new(most: Duration) -> Self {
        Self { attempts: 0, ends: Instant::now() + most }
    }

    /// Reads a slot, unless the writer publishes all the time.
    fn read(&mut self, page: WordsView<'_>, index: u32) -> Option<SlotWords> {
        self.read_words(page, slot_cells(index))
    }

    /// Reads these cells, unless the writer publishes all the time.
    pub(super) fn read_words<const N: usize>(
        &mut self,
        page: WordsView<'_>,
        cells: Range<usize>,
    ) -> Option<[u64; N]> {
        loop {
            if let Some(words) = read_undisturbed(page, cells.clone()) {
                return Some(words);
            }
            if !self.wait() {
                return None;
            }
        }
    }

    /// Waits for the writer; false when the time is over.
    fn wait(&mut self) -> bool {
        /// Longer than publishing takes; a writer that takes longer was preempted.
        const SPINS: u32 = 1_000;
        const REST: Duration = Duration::from_micros(50);
        /// The number of waits between two looks at the clock.
        const CHECKED: u32 = 64;
        self.attempts += 1;
        if self.attempts.is_multiple_of(CHECKED) && Instant::now() >= self.ends {
            return false;
        }
        if self.attempts < SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::sleep(REST);
        }
        true
    }
}

pub(super) fn slot_cells(index: u32) -> Range<usize> {
    let start = (index as usize + 1) * SLOT_WORDS;
    start..start + SLOT_WORDS
}

/// Reads these cells, unless the writer published meanwhile.
fn read_undisturbed<const N: usize>(page: WordsView<'_>, cells: Range<usize>) -> Option<[u64; N]> {
    sequence_lock::read(&page, header::SEQUENCE, || {
        let mut words = [0; N];
        for (word, cell) in words.iter_mut().zip(page.relaxed(cells.start, cells.len())?) {
            *word = cell;
        }
        Some(words)
    })
}

#[cfg(test)]
mod tests;
