//! Counter slots for datagrams that no rule matched: one for each group, or block of groups, on
//! each interface, while any rule names it there.

use std::collections::HashMap;

use super::slots::SlotAllocator;
use crate::addr::Addr;
use crate::error::Result;
use crate::spec::InputSpec;
use crate::stats::{Grant, Slot, SlotOwner};

/// The slots of the groups, by the interface's name, which outlasts its index.
#[derive(Default)]
pub(in crate::relay) struct GroupSlots {
    slots: HashMap<(String, Addr, u8), GroupSlot>,
}

struct GroupSlot {
    slot: Slot,
    rules: usize,
}

impl GroupSlots {
    /// The slot for one more rule on the interface `name`, and its grant if it is new.
    ///
    /// # Errors
    /// All slots are in use.
    pub(in crate::relay) fn add(
        &mut self,
        name: &str,
        input: &InputSpec,
        slots: &mut SlotAllocator,
    ) -> Result<(Slot, Option<Grant>)> {
        if let Some(group) = self.slots.get_mut(&key(name, input)) {
            group.rules += 1;
            return Ok((group.slot, None));
        }
        let grant = slots.allocate(owner(name, input))?;
        self.slots.insert(key(name, input), GroupSlot { slot: grant.slot, rules: 1 });
        Ok((grant.slot, Some(grant)))
    }

    /// Undoes one [`GroupSlots::add`]; returns the slot if no rule uses it any more.
    pub(in crate::relay) fn remove(&mut self, name: &str, input: &InputSpec) -> Option<Slot> {
        let group = self.slots.get_mut(&key(name, input))?;
        group.rules -= 1;
        if group.rules > 0 {
            return None;
        }
        self.slots.remove(&key(name, input)).map(|group| group.slot)
    }
}

/// The owner of the slot for an input on the interface `name`.
pub(in crate::relay) fn owner(name: &str, input: &InputSpec) -> SlotOwner {
    SlotOwner::group(name, input.group, input.group_bits)
}

fn key(name: &str, input: &InputSpec) -> (String, Addr, u8) {
    (name.to_owned(), input.group, input.group_bits)
}
