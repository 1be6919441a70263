//! The counters of what was seen of each group, or block of groups, on each interface that no rule
//! took: one slot, as long as some rule names it there. It must not know what is counted.

use std::collections::HashMap;

use super::slots::SlotAllocator;
use crate::addr::Addr;
use crate::error::Result;
use crate::spec::InputSpec;
use crate::stats::{Grant, Slot, SlotOwner};

/// The slots of the groups, by the interface's name, which outlives its index.
#[derive(Default)]
pub(in crate::relay) struct GroupSlots {
    held: HashMap<(String, Addr, u8), GroupSlot>,
}

struct GroupSlot {
    slot: Slot,
    rules: usize,
}

impl GroupSlots {
    /// The slot for one more rule on the interface `name`, and how it is new if it is.
    ///
    /// # Errors
    /// All slots are in use.
    pub(in crate::relay) fn add(
        &mut self,
        name: &str,
        input: &InputSpec,
        slots: &mut SlotAllocator,
    ) -> Result<(Slot, Option<Grant>)> {
        if let Some(held) = self.held.get_mut(&key(name, input)) {
            held.rules += 1;
            return Ok((held.slot, None));
        }
        let grant = slots.allocate(owner(name, input))?;
        self.held.insert(key(name, input), GroupSlot { slot: grant.slot, rules: 1 });
        Ok((grant.slot, Some(grant)))
    }

    /// Takes one [`GroupSlots::add`] back; says the slot with the last one.
    pub(in crate::relay) fn remove(&mut self, name: &str, input: &InputSpec) -> Option<Slot> {
        let held = self.held.get_mut(&key(name, input))?;
        held.rules -= 1;
        if held.rules > 0 {
            return None;
        }
        self.held.remove(&key(name, input)).map(|held| held.slot)
    }
}

/// Whose slot the one of an input on the interface `name` is.
pub(in crate::relay) fn owner(name: &str, input: &InputSpec) -> SlotOwner {
    SlotOwner::group(name, input.group, input.group_bits)
}

fn key(name: &str, input: &InputSpec) -> (String, Addr, u8) {
    (name.to_owned(), input.group, input.group_bits)
}
