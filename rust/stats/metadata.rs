//! Words beside each slot that the cold side of the relay writes, one by one and at any time: what
//! a reader in another process has to know and the engine does not. It must not know what for.

use std::sync::atomic::Ordering;

use super::{METADATA_START, Slot, SlotOwner, header};
use crate::sys::memory::{SharedWords, WordsView};

/// Words beside a slot.
pub(super) const WORDS: usize = 4;
/// Beside a rule's slot: the tag of its group's owner.
pub(super) const GROUP: usize = 0;
/// Beside an interface's slot: frames lost in the kernel before they were received.
pub(super) const KERNEL_DROPS: usize = 0;
/// Beside an interface's slot: its own name, zeros behind it.
pub(super) const NAME: usize = 1;
/// The longest name that an interface can have, and a zero (IFNAMSIZ).
const NAME_BYTES: usize = 16;

/// Says which group's counters go with a rule's.
pub fn set_group(page: &SharedWords, rule: Slot, group: SlotOwner) {
    write(page, rule, GROUP, group.tag());
}

/// Says what the interface is called whose slot this is.
pub fn set_name(page: &SharedWords, interface: Slot, name: &str) {
    let mut bytes = [0; NAME_BYTES];
    if let Some(room) = bytes.get_mut(..name.len()) {
        room.copy_from_slice(name.as_bytes());
    }
    for (at, half) in bytes.as_chunks().0.iter().enumerate() {
        write(page, interface, NAME + at, u64::from_le_bytes(*half));
    }
}

/// Says how many frames the kernel lost on an interface.
pub fn set_kernel_drops(page: &SharedWords, interface: Slot, frames: u64) {
    write(page, interface, KERNEL_DROPS, frames);
}

/// Says that the process which counts in a page is there (CLOCK_MONOTONIC_COARSE).
pub fn set_alive(page: &SharedWords, now_ms: u64) {
    page.words()[header::ALIVE_MS].store(now_ms, Ordering::Relaxed);
}

/// The words beside a slot; `None` when the page is too short.
pub(super) fn read(page: WordsView<'_>, index: u32) -> Option<[u64; WORDS]> {
    let mut words = [0; WORDS];
    for (word, cell) in words.iter_mut().zip(page.relaxed(start(index), WORDS)?) {
        *word = cell;
    }
    Some(words)
}

/// The name in the words beside an interface's slot, if it can be one.
pub(super) fn name(words: &[u64; WORDS]) -> Option<String> {
    let halves = [words[NAME], words[NAME + 1]];
    let mut bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
    bytes.truncate(bytes.iter().position(|byte| *byte == 0)?);
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}

fn write(page: &SharedWords, slot: Slot, at: usize, word: u64) {
    page.words()[start(slot.index) + at].store(word, Ordering::Relaxed);
}

fn start(index: u32) -> usize {
    METADATA_START + index as usize * WORDS
}
