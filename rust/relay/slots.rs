//! Which slots of the counters' pages are in use, and for the how-manieth time.

use crate::error::{Error, Result};
use crate::stats::{MAX_SLOTS, Slot};

/// Hands out slots, the same for the pages of all workers.
pub(super) struct Slots {
    /// Slots that were used before and are free now, with the generation they had.
    free: Vec<Slot>,
    /// Slots from here on were never used.
    fresh: u32,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { free: Vec::new(), fresh: 0 }
    }

    /// A slot of a generation that nobody has had.
    pub(super) fn take(&mut self) -> Result<Slot> {
        if let Some(slot) = self.free.pop() {
            return Ok(Slot { generation: slot.generation.wrapping_add(1).max(1), ..slot });
        }
        if self.fresh == MAX_SLOTS {
            return Err(Error::Invalid(format!(
                "too many rules and outputs: there are counters for {MAX_SLOTS} of them together"
            )));
        }
        self.fresh += 1;
        Ok(Slot { index: self.fresh - 1, generation: 1 })
    }

    /// Takes a slot back that no plan names any more.
    pub(super) fn free(&mut self, slot: Slot) {
        self.free.push(slot);
    }
}
