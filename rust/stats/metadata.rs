//! Metadata for each slot: words that the cold side of the relay writes one by one, at any time,
//! for readers in other processes. The engine does not use them.

use std::sync::atomic::Ordering;

use super::kernel::{KERNEL_WORDS, KernelWords};
use super::{METADATA_START, Slot, SlotOwner, header};
use crate::sys::memory::{SharedWords, WordsView};

/// The number of metadata words for each slot.
pub(super) const WORDS: usize = KERNEL + KERNEL_WORDS;
/// For a rule's slot: the tag of its group's owner.
pub(super) const GROUP: usize = 0;
/// For an interface's slot: frames lost in the kernel before they were received.
pub(super) const KERNEL_DROPS: usize = 0;
/// For an output's slot: the way of its copies, in a coding of the cold side; 0 if unknown.
pub(super) const WAY: usize = 0;
/// For an interface's slot: its name, padded with zeros.
pub(super) const NAME: usize = 1;
/// What the kernel has relayed ([`super::kernel`]), behind the words above.
pub(super) const KERNEL: usize = 3;
/// The longest interface name and a terminating zero (IFNAMSIZ).
const NAME_BYTES: usize = 16;

/// Sets the group whose counters belong to a rule.
pub fn set_group(page: &SharedWords, rule: Slot, group: SlotOwner) {
    write(page, rule, GROUP, group.tag());
}

/// Sets the way of an output's copies.
pub fn set_way(page: &SharedWords, output: Slot, way: u64) {
    write(page, output, WAY, way);
}

/// Sets what the kernel has relayed for an interface, a rule or an output.
pub fn set_kernel(page: &SharedWords, slot: Slot, words: &KernelWords) {
    for (at, word) in words.iter().enumerate() {
        write(page, slot, KERNEL + at, *word);
    }
}

/// Forgets what the kernel has relayed for the last owner of a slot.
pub fn clear_kernel(page: &SharedWords, slot: Slot) {
    set_kernel(page, slot, &[0; KERNEL_WORDS]);
}

/// What the kernel has relayed for an interface, a rule or an output.
#[must_use]
pub fn kernel(page: WordsView<'_>, slot: Slot) -> KernelWords {
    read(page, slot.index).map_or([0; KERNEL_WORDS], |words| kernel_words(&words))
}

/// The same words in the metadata of a slot.
pub(super) fn kernel_words(words: &[u64; WORDS]) -> KernelWords {
    let mut kernel = [0; KERNEL_WORDS];
    kernel.copy_from_slice(&words[KERNEL..]);
    kernel
}

/// Sets the name of the interface that owns the slot.
pub fn set_name(page: &SharedWords, interface: Slot, name: &str) {
    let mut bytes = [0; NAME_BYTES];
    if let Some(room) = bytes.get_mut(..name.len()) {
        room.copy_from_slice(name.as_bytes());
    }
    for (at, half) in bytes.as_chunks().0.iter().enumerate() {
        write(page, interface, NAME + at, u64::from_le_bytes(*half));
    }
}

/// Sets the number of frames that the kernel lost on an interface.
pub fn set_kernel_drops(page: &SharedWords, interface: Slot, frames: u64) {
    write(page, interface, KERNEL_DROPS, frames);
}

/// Sets the time (CLOCK_MONOTONIC_COARSE) at which the process that counts in the page was alive.
pub fn set_alive(page: &SharedWords, now_ms: u64) {
    page.words()[header::ALIVE_MS].store(now_ms, Ordering::Relaxed);
}

/// The metadata of a slot; `None` if the page is too short.
pub(super) fn read(page: WordsView<'_>, index: u32) -> Option<[u64; WORDS]> {
    let mut words = [0; WORDS];
    for (word, cell) in words.iter_mut().zip(page.relaxed(start(index), WORDS)?) {
        *word = cell;
    }
    Some(words)
}

/// The name in an interface's metadata, if it is valid.
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
