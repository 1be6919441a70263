//! Whose a slot is: a number that says it in any process, so that who takes a page over finds what
//! it counted before. It must not know where a slot lies.

use super::{Discard, Loss, Slot, SlotWords, interface, output, rule};
use crate::addr::Addr;

/// Far above what can be counted in years, far enough below the end to be counted on and added up.
const MOST: u64 = 1 << 56;

/// What a slot counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum OwnerKind {
    Interface,
    Group,
    Rule,
    Output,
}

/// The owner of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotOwner {
    kind: OwnerKind,
    tag: u64,
}

/// A slot that gets an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which one.
    pub slot: Slot,
    /// Who gets it.
    pub owner: SlotOwner,
    /// Whether it was the owner's already in the process before, and is counted on.
    pub goes_on: bool,
}

impl SlotOwner {
    /// An input interface.
    #[must_use]
    pub fn interface(name: &str) -> Self {
        Self::new(OwnerKind::Interface, &[name.as_bytes()])
    }

    /// A group, or a block of groups in which `bits` low bits vary, on an interface.
    #[must_use]
    pub fn group(interface: &str, group: Addr, bits: u8) -> Self {
        let parts = [interface.as_bytes(), &group.bits().to_le_bytes(), &[bits]];
        Self::new(OwnerKind::Group, &parts)
    }

    /// A rule.
    #[must_use]
    pub fn rule(id: &str) -> Self {
        Self::new(OwnerKind::Rule, &[id.as_bytes()])
    }

    /// An output of a rule, by its place in it.
    #[must_use]
    pub fn output(rule: &str, place: u16) -> Self {
        Self::new(OwnerKind::Output, &[rule.as_bytes(), &place.to_le_bytes()])
    }

    /// Never 0, which stands in slots that are free.
    #[must_use]
    pub const fn tag(self) -> u64 {
        self.tag
    }

    fn new(kind: OwnerKind, parts: &[&[u8]]) -> Self {
        let mut hash = super::hashed(super::BASIS, &[kind as u8]);
        for part in parts {
            hash = super::hashed(hash, &part.len().to_le_bytes());
            hash = super::hashed(hash, part);
        }
        Self { kind, tag: hash.max(1) }
    }

    /// What a process that died has left of a slot, made to balance: it may have died half-way.
    /// All zeros where the numbers are none that can have been counted.
    pub(super) fn resumed(self, words: &SlotWords) -> SlotWords {
        let mut resumed = [0; super::SLOT_WORDS];
        let counters = match self.kind {
            OwnerKind::Interface => interface::RECEIVED..interface::DROPPED + Discard::COUNT,
            OwnerKind::Group => super::group::UNMATCHED..super::group::OTHER_SOURCE,
            OwnerKind::Rule => rule::MATCHED..rule::LAST_SOURCE,
            OwnerKind::Output => output::WANTED..output::END,
        };
        if words[counters.clone()].iter().any(|word| *word > MOST) {
            return resumed;
        }
        resumed[counters.clone()].copy_from_slice(&words[counters]);
        match self.kind {
            OwnerKind::Interface => settle_interface(&mut resumed),
            OwnerKind::Output => settle_output(&mut resumed),
            // Any two halves are an address.
            OwnerKind::Group => copy_address(&mut resumed, words, super::group::OTHER_SOURCE),
            OwnerKind::Rule => copy_address(&mut resumed, words, rule::LAST_SOURCE),
        }
        resumed
    }
}

/// Reception begins anew.
fn settle_interface(words: &mut SlotWords) {
    words[interface::ERROR] = 0;
    let dropped = &words[interface::DROPPED..interface::DROPPED + Discard::COUNT];
    words[interface::RECEIVED] = words[interface::MATCHED] + dropped.iter().sum::<u64>();
}

/// What was on its way is told by nobody any more.
fn settle_output(words: &mut SlotWords) {
    let pairs = words[output::ERRORS..].chunks_exact(2).take(output::ERROR_PAIRS);
    let failed = pairs.map(|pair| pair[1]).sum();
    words[output::DROPPED + Loss::SendError as usize] = failed;
    let dropped = &words[output::DROPPED..output::DROPPED + Loss::COUNT];
    words[output::WANTED] = words[output::SENT] + dropped.iter().sum::<u64>();
}

fn copy_address(into: &mut SlotWords, words: &SlotWords, at: usize) {
    into[at..at + 2].copy_from_slice(&words[at..at + 2]);
}
