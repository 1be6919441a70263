//! The owner of a slot, as a number that is the same in every process, so that a process that takes
//! a page over finds its slots again.

use super::{Discard, Loss, Slot, SlotTotals, SlotWords, interface, output, rule};
use crate::addr::Addr;

/// The largest plausible count: far above what can be counted in years, yet small enough to be
/// incremented and added up without overflow.
const MOST: u64 = 1 << 56;

/// The bits of a tag that hold the kind.
const KIND_BITS: u64 = 3;

/// The kind of object that a slot counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum OwnerKind {
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

/// The assignment of a slot to an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The slot.
    pub slot: Slot,
    /// The new owner.
    pub owner: SlotOwner,
    /// Whether the owner already had it in the previous process, and resumes its counts.
    pub is_continued: bool,
}

impl SlotOwner {
    /// The owner for an input interface.
    #[must_use]
    pub fn interface(name: &str) -> Self {
        Self::new(OwnerKind::Interface, &[name.as_bytes()])
    }

    /// The owner for a group, or a block of groups in which the low `bits` bits vary, on an
    /// interface.
    #[must_use]
    pub fn group(interface: &str, group: Addr, bits: u8) -> Self {
        let parts = [interface.as_bytes(), &group.bits().to_le_bytes(), &[bits]];
        Self::new(OwnerKind::Group, &parts)
    }

    /// The owner for a rule.
    #[must_use]
    pub fn rule(id: &str) -> Self {
        Self::new(OwnerKind::Rule, &[id.as_bytes()])
    }

    /// The owner for an output, by its key ([`crate::spec::RuleSpec::output_keys`]).
    #[must_use]
    pub fn output(key: u64) -> Self {
        Self::new(OwnerKind::Output, &[&key.to_le_bytes()])
    }

    /// The owner with this tag, which may be any number.
    pub(super) const fn from_tag(tag: u64) -> Self {
        let kind = match tag & KIND_BITS {
            0 => OwnerKind::Interface,
            1 => OwnerKind::Group,
            2 => OwnerKind::Rule,
            _ => OwnerKind::Output,
        };
        Self { kind, tag }
    }

    /// The totals in its slot; `None` for a group.
    pub(super) fn totals(self, words: &SlotWords) -> Option<SlotTotals> {
        match self.kind {
            OwnerKind::Interface => Some(SlotTotals::of_interface(words)),
            OwnerKind::Rule => Some(SlotTotals::of_rule(words)),
            OwnerKind::Output => Some(SlotTotals::of_output(words)),
            OwnerKind::Group => None,
        }
    }

    /// Whether it is a rule.
    pub(super) fn is_rule(self) -> bool {
        self.kind == OwnerKind::Rule
    }

    /// The kind of object.
    pub(super) const fn kind(self) -> OwnerKind {
        self.kind
    }

    /// Never 0, which marks free slots.
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
        Self { kind, tag: (hash & !KIND_BITS | kind as u64).max(KIND_BITS + 1) }
    }

    /// The counts to resume from a slot of a dead process, made consistent: it may have died
    /// halfway. All zeros if the numbers are not plausible counts.
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
            OwnerKind::Interface => balance_interface(&mut resumed),
            OwnerKind::Output => balance_output(&mut resumed),
            // Any two halves form an address.
            OwnerKind::Group => copy_address(&mut resumed, words, super::group::OTHER_SOURCE),
            OwnerKind::Rule => {
                copy_address(&mut resumed, words, rule::LAST_SOURCE);
                copy_address(&mut resumed, words, rule::LOOPED_SOURCE);
                let others = [rule::FLOWS_EVICTED, rule::LOOPED, rule::LOOPED_MS];
                for at in others.into_iter().chain(rule::RECEIVED..rule::MISSING) {
                    resumed[at] = words[at].min(MOST);
                }
            }
        }
        resumed
    }
}

/// Reception starts again, so the error is cleared.
fn balance_interface(words: &mut SlotWords) {
    words[interface::ERROR] = 0;
    let dropped = &words[interface::DROPPED..interface::DROPPED + Discard::COUNT];
    words[interface::RECEIVED] = words[interface::MATCHED] + dropped.iter().sum::<u64>();
}

/// Copies that were being sent are not counted any more, and those that waited are lost.
fn balance_output(words: &mut SlotWords) {
    let pairs = words[output::ERRORS..].chunks_exact(2).take(output::ERROR_PAIRS);
    let failed = pairs.map(|pair| pair[1]).sum();
    // A layout with more pairs had an errno here.
    words[output::ERRORS + 2 * (output::ERROR_PAIRS - 1)] = 0;
    words[output::DROPPED + Loss::SendError as usize] = failed;
    words[output::DROPPED + Loss::Abandoned as usize] +=
        std::mem::take(&mut words[output::WAITING]);
    let dropped = &words[output::DROPPED..output::DROPPED + Loss::COUNT];
    words[output::WANTED] = words[output::SENT] + dropped.iter().sum::<u64>();
}

fn copy_address(into: &mut SlotWords, words: &SlotWords, at: usize) {
    into[at..at + 2].copy_from_slice(&words[at..at + 2]);
}
