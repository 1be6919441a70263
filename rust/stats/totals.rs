//! The sums that rates are computed from, for any kind of slot.

use std::ops::AddAssign;

use super::{Discard, Loss, SlotWords, interface, output, rule};

/// What an interface received, a rule matched or an output sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotTotals {
    /// The datagrams or copies.
    pub datagrams: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Those dropped; 0 for a rule.
    pub dropped: u64,
}

impl SlotTotals {
    /// The totals in an interface's slot.
    #[must_use]
    pub fn of_interface(words: &SlotWords) -> Self {
        let dropped = &words[interface::DROPPED..interface::DROPPED + Discard::COUNT];
        let bytes = words[interface::RECEIVED_BYTES];
        Self { datagrams: words[interface::RECEIVED], bytes, dropped: sum(dropped) }
    }

    /// The totals in a rule's slot.
    #[must_use]
    pub const fn of_rule(words: &SlotWords) -> Self {
        Self { datagrams: words[rule::MATCHED], bytes: words[rule::MATCHED_BYTES], dropped: 0 }
    }

    /// The totals in an output's slot.
    #[must_use]
    pub fn of_output(words: &SlotWords) -> Self {
        let dropped = &words[output::DROPPED..output::DROPPED + Loss::COUNT];
        let bytes = words[output::SENT_BYTES];
        Self { datagrams: words[output::SENT], bytes, dropped: sum(dropped) }
    }

    /// The difference; `None` if one of the counts is lower.
    #[must_use]
    pub fn checked_sub(self, before: Self) -> Option<Self> {
        Some(Self {
            datagrams: self.datagrams.checked_sub(before.datagrams)?,
            bytes: self.bytes.checked_sub(before.bytes)?,
            dropped: self.dropped.checked_sub(before.dropped)?,
        })
    }
}

impl AddAssign for SlotTotals {
    fn add_assign(&mut self, other: Self) {
        self.datagrams = self.datagrams.saturating_add(other.datagrams);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.dropped = self.dropped.saturating_add(other.dropped);
    }
}

fn sum(words: &[u64]) -> u64 {
    words.iter().copied().fold(0, u64::saturating_add)
}
