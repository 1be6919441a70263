//! The takeover of a page in which an earlier process has counted: its slots and their owners. It
//! trusts nothing in the page: whatever the content, the worst result is a wrong number.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    GENERATION, LAYOUT, MAX_SLOTS, PAGE_WORDS, SLOT_WORDS, Slot, SlotOwner, TAG, copy, header,
};
use crate::sys::memory::SharedWords;

/// The sequence limit, which counting cannot reach.
const LAST_SEQUENCE: u64 = 1 << 62;

/// The slots of a page that was taken over.
#[derive(Debug, Default)]
pub struct Found {
    /// The slots with an owner, by its tag.
    pub owned: HashMap<u64, Slot>,
    /// The slots that were used and have no owner.
    pub free: Vec<Slot>,
    /// The end of the used slots.
    pub used: u32,
}

/// Takes a page over from a dead process, or a new one, and increments its incarnation. The caller
/// is its only writer from here on.
///
/// # Errors
/// InvalidData if it was not created by [`super::create_page`] of this version.
pub fn take_over(page: &SharedWords) -> io::Result<Found> {
    let cells = page.words();
    let has_size = cells.len() == PAGE_WORDS;
    if !has_size || cells[header::LAYOUT].load(Ordering::Acquire) != LAYOUT {
        let text = "the counter page has another layout";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    cells[header::INCARNATIONS].fetch_add(1, Ordering::Relaxed);
    let used = cells[header::USED].load(Ordering::Relaxed).min(u64::from(MAX_SLOTS));
    let mut found = Found { used: u32::try_from(used).unwrap_or(0), ..Found::default() };
    let sequence = cells[header::SEQUENCE].load(Ordering::Relaxed);
    if !sequence.is_multiple_of(2) {
        (0..found.used).for_each(|index| mend(cells, index));
    }
    // Readers wait for an even number.
    let next = if sequence < LAST_SEQUENCE { sequence.next_multiple_of(2) } else { 0 };
    cells[header::SEQUENCE].store(next, Ordering::Release);
    for index in 0..found.used {
        let start = (index as usize + 1) * SLOT_WORDS;
        let word = |at: usize| cells[start + at].load(Ordering::Relaxed);
        let generation = u32::try_from(word(GENERATION)).unwrap_or(0);
        let slot = Slot { index, generation };
        // A duplicate tag is an error; the first one counts.
        match found.owned.entry(word(TAG)) {
            std::collections::hash_map::Entry::Vacant(place) if word(TAG) != 0 => {
                place.insert(slot);
            }
            _ => found.free.push(slot),
        }
    }
    Ok(found)
}

/// Makes the counts of a slot consistent, half of which may be those of the turn that the process
/// was publishing when it died: until the owner's first turn they are read as they are.
fn mend(cells: &[AtomicU64], index: u32) {
    let start = (index as usize + 1) * SLOT_WORDS;
    let mut words = [0; SLOT_WORDS];
    copy(&cells[start..], &mut words);
    let mended = SlotOwner::from_tag(words[TAG]).resumed(&words);
    for (at, word) in mended.into_iter().enumerate() {
        if at != GENERATION && at != TAG {
            cells[start + at].store(word, Ordering::Relaxed);
        }
    }
}

/// The number of processes that have counted in a page, one after the other; 0 if it is not valid.
#[must_use]
pub fn incarnations(page: &SharedWords) -> u64 {
    let cells = page.words();
    let word = |at: usize| cells.get(at).map_or(0, |cell| cell.load(Ordering::Acquire));
    if word(header::LAYOUT) == LAYOUT { word(header::INCARNATIONS) } else { 0 }
}

#[cfg(test)]
mod tests;
