//! Counters in a form that does not depend on the layout of pages, so that a version of mcr with
//! another layout continues them: what flows, histograms and the kernel's share hold stays behind.
//!
//! Each count is an entry of three 64-bit words, little-endian: the tag of its owner, a hash of the
//! name of the count, and its value. A version that does not know a name leaves it out. Names never
//! change their meaning, and the lists of reasons only grow.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;

use super::owner::OwnerKind;
use super::{
    BASIS, GENERATION, LAYOUT, Loss, MAX_SLOTS, PAGE_WORDS, SLOT_WORDS, SlotOwner, TAG, group,
    hashed, header, interface, metadata, output, rule,
};
use crate::packet::Discard;
use crate::sys::memory::SharedWords;

/// The size of an entry in bytes.
const ENTRY_BYTES: usize = 24;

/// The place of a count beside the start of its slot or of its metadata.
#[derive(Clone, Copy)]
enum CountPlace {
    Slot(usize),
    Metadata(usize),
}

/// A count: the hash of its name, and its place.
type Field = (u64, CountPlace);

/// Returns all counts in a page in which nobody counts any more. Whatever the content of the page,
/// the worst result is a wrong number.
///
/// # Errors
/// InvalidData for a page of another layout.
pub fn export(page: &SharedWords) -> io::Result<Vec<u8>> {
    check_layout(page)?;
    let cells = page.words();
    let (fields, mut bytes) = (Fields::new(), Vec::new());
    let used = cells[header::USED].load(Ordering::Relaxed).min(u64::from(MAX_SLOTS));
    for index in 0..usize::try_from(used).unwrap_or(0) {
        let tag = cells[(index + 1) * SLOT_WORDS + TAG].load(Ordering::Relaxed);
        if tag == 0 {
            continue;
        }
        for (name, place) in fields.of(tag) {
            let value = cells[place.of(index)].load(Ordering::Relaxed);
            if value != 0 {
                [tag, *name, value].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
            }
        }
    }
    Ok(bytes)
}

/// Writes counts into a page in which nobody has counted, where the process that takes it over
/// resumes from them.
///
/// # Errors
/// InvalidData for a page of another layout.
pub fn import(page: &SharedWords, bytes: &[u8]) -> io::Result<()> {
    check_layout(page)?;
    let (cells, fields) = (page.words(), Fields::new());
    let mut slots: HashMap<u64, usize> = HashMap::new();
    for entry in bytes.chunks_exact(ENTRY_BYTES) {
        let word =
            |at: usize| entry.as_chunks().0.get(at).map_or(0, |word| u64::from_le_bytes(*word));
        let (tag, name, value) = (word(0), word(1), word(2));
        let known = fields.of(tag).iter().find(|(known, _)| *known == name);
        let Some((_, place)) = known.filter(|_| tag != 0) else { continue };
        let next = slots.len();
        if next >= MAX_SLOTS as usize && !slots.contains_key(&tag) {
            continue;
        }
        let index = *slots.entry(tag).or_insert(next);
        let start = (index + 1) * SLOT_WORDS;
        cells[start + GENERATION].store(1, Ordering::Relaxed);
        cells[start + TAG].store(tag, Ordering::Relaxed);
        cells[place.of(index)].store(value, Ordering::Relaxed);
    }
    cells[header::USED].store(slots.len() as u64, Ordering::Release);
    Ok(())
}

fn check_layout(page: &SharedWords) -> io::Result<()> {
    let cells = page.words();
    if cells.len() == PAGE_WORDS && cells[header::LAYOUT].load(Ordering::Acquire) == LAYOUT {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the counter page has another layout"))
}

impl CountPlace {
    /// The index of the word for the slot with this number.
    const fn of(self, slot: usize) -> usize {
        match self {
            Self::Slot(word) => (slot + 1) * SLOT_WORDS + word,
            Self::Metadata(word) => super::METADATA_START + slot * metadata::WORDS + word,
        }
    }
}

/// The counts of each kind of owner.
struct Fields {
    interface: Vec<Field>,
    group: Vec<Field>,
    rule: Vec<Field>,
    output: Vec<Field>,
}

impl Fields {
    fn new() -> Self {
        let mut interface = named(&[
            ("received", interface::RECEIVED),
            ("matched", interface::MATCHED),
            ("buffer_waits", interface::BUFFER_WAITS),
            ("received_bytes", interface::RECEIVED_BYTES),
        ]);
        let reasons = Discard::ALL.iter().map(|reason| reason.name());
        interface.extend(listed("dropped", reasons, interface::DROPPED));
        interface.push((hash("kernel_drops", ""), CountPlace::Metadata(metadata::KERNEL_DROPS)));
        interface.push((hash("name", "0"), CountPlace::Metadata(metadata::NAME)));
        interface.push((hash("name", "1"), CountPlace::Metadata(metadata::NAME + 1)));
        let group = named(&[
            ("unmatched", group::UNMATCHED),
            ("other_port", group::OTHER_PORT),
            ("last_seen_ms", group::LAST_SEEN_MS),
            ("other_source_upper", group::OTHER_SOURCE),
            ("other_source_lower", group::OTHER_SOURCE + 1),
        ]);
        let rule = named(&[
            ("matched", rule::MATCHED),
            ("matched_bytes", rule::MATCHED_BYTES),
            ("last_seen_ms", rule::LAST_SEEN_MS),
            ("last_source_upper", rule::LAST_SOURCE),
            ("last_source_lower", rule::LAST_SOURCE + 1),
            ("overtaking", rule::OVERTAKING),
            ("flows_evicted", rule::FLOWS_EVICTED),
        ]);
        let mut output = named(&[
            ("wanted", output::WANTED),
            ("sent", output::SENT),
            ("sent_bytes", output::SENT_BYTES),
            ("refused", output::REFUSED),
        ]);
        let losses = Loss::ALL.iter().map(|loss| loss.name());
        output.extend(listed("dropped", losses, output::DROPPED));
        let pairs = (0..2 * output::ERROR_PAIRS).map(|at| at.to_string());
        output.extend(listed("error", pairs, output::ERRORS));
        Self { interface, group, rule, output }
    }

    /// The counts of the owner with this tag.
    fn of(&self, tag: u64) -> &[Field] {
        match SlotOwner::from_tag(tag).kind() {
            OwnerKind::Interface => &self.interface,
            OwnerKind::Group => &self.group,
            OwnerKind::Rule => &self.rule,
            OwnerKind::Output => &self.output,
        }
    }
}

fn named(fields: &[(&str, usize)]) -> Vec<Field> {
    fields.iter().map(|(name, word)| (hash(name, ""), CountPlace::Slot(*word))).collect()
}

/// Consecutive words, one for each of these names.
fn listed(
    list: &str,
    names: impl Iterator<Item = impl AsRef<str>>,
    first: usize,
) -> impl Iterator<Item = Field> {
    names
        .enumerate()
        .map(move |(at, name)| (hash(list, name.as_ref()), CountPlace::Slot(first + at)))
}

fn hash(list: &str, name: &str) -> u64 {
    hashed(hashed(hashed(BASIS, list.as_bytes()), b"."), name.as_bytes())
}

#[cfg(test)]
mod tests;
