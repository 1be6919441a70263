//! What the kernel has relayed in place of the engine: words beside each slot, which the cold side
//! writes from the kernel's own counters. Readers add them to those of the engine.
//!
//! A `base` is what counts without the rule's present place in the kernel, whose counters outlive
//! the process: a successor adds those to the base.

use super::owner::OwnerKind;
use super::totals::SlotTotals;

/// The number of words.
pub(super) const KERNEL_WORDS: usize = 12;

/// The words beside one slot.
pub type KernelWords = [u64; KERNEL_WORDS];

/// An interface's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelInterfaceCounts {
    /// Datagrams that the kernel took for a rule.
    pub relayed: u64,
    /// Bytes of their payloads.
    pub relayed_bytes: u64,
    /// The bases of `relayed` and `relayed_bytes`.
    pub base: [u64; 2],
}

/// A rule's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelRuleCounts {
    /// Whether the kernel relays it, in a coding of the cold side; 0 if unknown.
    pub way: u64,
    /// Datagrams that the kernel took.
    pub matched: u64,
    /// Bytes of their payloads.
    pub matched_bytes: u64,
    /// The time of the last one in milliseconds of CLOCK_MONOTONIC_COARSE; 0 for none.
    pub last_seen_ms: u64,
    /// Its source, upper and lower half.
    pub last_source: [u64; 2],
    /// The rule's place in the kernel; 0 for none.
    pub place: u64,
    /// The base of `matched`.
    pub base_matched: u64,
    /// The base of `matched_bytes`.
    pub base_bytes: u64,
}

/// An output's share: `wanted = sent + full + lost + pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelOutputCounts {
    /// Copies that the device accepted.
    pub sent: u64,
    /// Bytes of their payloads.
    pub sent_bytes: u64,
    /// Copies that the device did not accept.
    pub full: u64,
    /// Copies that did not reach the device.
    pub lost: u64,
    /// Copies on their way to the device.
    pub pending: u64,
    /// The bases of `sent`, `sent_bytes`, `full` and `lost`.
    pub base: [u64; 4],
    /// The position in the rule's place, plus one.
    pub position: u64,
    /// When one of `full` or `lost` was found last, in milliseconds of CLOCK_MONOTONIC_COARSE; 0
    /// for never.
    pub loss_ms: u64,
    /// The [`Loss`] of that one, as a number.
    pub loss: u64,
}

impl KernelInterfaceCounts {
    /// As words.
    #[must_use]
    pub fn to_words(self) -> KernelWords {
        let [base, base_bytes] = self.base;
        fill(&[self.relayed, self.relayed_bytes, base, base_bytes])
    }

    /// From words.
    #[must_use]
    pub const fn from_words(words: &KernelWords) -> Self {
        let [relayed, relayed_bytes, base, base_bytes, ..] = *words;
        Self { relayed, relayed_bytes, base: [base, base_bytes] }
    }
}

/// What the kernel's words add to the totals of a slot.
pub(super) fn totals(kind: OwnerKind, words: &KernelWords) -> SlotTotals {
    match kind {
        OwnerKind::Interface => {
            let own = KernelInterfaceCounts::from_words(words);
            SlotTotals { datagrams: own.relayed, bytes: own.relayed_bytes, dropped: 0 }
        }
        OwnerKind::Rule => {
            let own = KernelRuleCounts::from_words(words);
            SlotTotals { datagrams: own.matched, bytes: own.matched_bytes, dropped: 0 }
        }
        OwnerKind::Output => {
            let own = KernelOutputCounts::from_words(words);
            let dropped = own.full.saturating_add(own.lost);
            SlotTotals { datagrams: own.sent, bytes: own.sent_bytes, dropped }
        }
        OwnerKind::Group => SlotTotals::default(),
    }
}

impl KernelRuleCounts {
    /// As words.
    #[must_use]
    pub fn to_words(self) -> KernelWords {
        let [upper, lower] = self.last_source;
        let Self { way, matched, matched_bytes, last_seen_ms, place, .. } = self;
        let (base_matched, base_bytes) = (self.base_matched, self.base_bytes);
        fill(&[
            way,
            matched,
            matched_bytes,
            last_seen_ms,
            upper,
            lower,
            place,
            base_matched,
            base_bytes,
        ])
    }

    /// From words.
    #[must_use]
    pub const fn from_words(words: &KernelWords) -> Self {
        let [way, matched, matched_bytes, last_seen_ms, upper, lower, place, base, bytes, ..] =
            *words;
        Self {
            way,
            matched,
            matched_bytes,
            last_seen_ms,
            last_source: [upper, lower],
            place,
            base_matched: base,
            base_bytes: bytes,
        }
    }
}

impl KernelOutputCounts {
    /// Copies that were due.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        [self.full, self.lost, self.pending].into_iter().fold(self.sent, u64::saturating_add)
    }

    /// As words.
    #[must_use]
    pub fn to_words(self) -> KernelWords {
        let Self { sent, sent_bytes, full, lost, pending, base: [a, b, c, d], .. } = self;
        let Self { position, loss_ms, loss, .. } = self;
        [sent, sent_bytes, full, lost, pending, a, b, c, d, position, loss_ms, loss]
    }

    /// From words.
    #[must_use]
    pub const fn from_words(words: &KernelWords) -> Self {
        let [sent, sent_bytes, full, lost, pending, a, b, c, d, position, loss_ms, loss] = *words;
        let base = [a, b, c, d];
        Self { sent, sent_bytes, full, lost, pending, base, position, loss_ms, loss }
    }
}

fn fill(given: &[u64]) -> KernelWords {
    let mut words = [0; KERNEL_WORDS];
    words[..given.len()].copy_from_slice(given);
    words
}
