//! Which slots of the counters' pages are in use, for the how-manieth time, and by whom. It must not
//! know what is counted.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::stats::{Found, Grant, MAX_SLOTS, Slot, SlotOwner, metadata};
use crate::sys::memory::SharedWords;

/// The slots whose owners change with a plan.
#[derive(Default)]
pub(in crate::relay) struct SlotChanges {
    pub(in crate::relay) granted: Vec<Grant>,
    pub(in crate::relay) released: Vec<Slot>,
}

/// Hands out slots, the same for the pages of all workers.
pub(in crate::relay) struct SlotAllocator {
    /// Slots that were used before and are free now, with the generation they had.
    free: Vec<Slot>,
    /// Slots from here on were never used.
    fresh: u32,
    /// What a process before has counted, by the tags of its owners, until they are all here again.
    found: HashMap<u64, Slot>,
    pages: Vec<Arc<SharedWords>>,
}

impl SlotAllocator {
    /// Of pages in which `found` was found.
    pub(in crate::relay) fn new(found: Found, pages: Vec<Arc<SharedWords>>) -> Self {
        Self { free: found.free, fresh: found.used, found: found.owned, pages }
    }

    /// The slot of an interface, which readers of the pages know by its name.
    pub(in crate::relay) fn allocate_interface(&mut self, name: &str) -> Result<Grant> {
        let grant = self.allocate(SlotOwner::interface(name))?;
        self.pages.iter().for_each(|page| metadata::set_name(page, grant.slot, name));
        Ok(grant)
    }

    /// Tells the readers of the pages which group's counters go with a rule's.
    pub(in crate::relay) fn set_group(&self, rule: Slot, group: SlotOwner) {
        self.pages.iter().for_each(|page| metadata::set_group(page, rule, group));
    }

    /// Tells the readers of the pages how many frames the kernel lost on an interface.
    pub(in crate::relay) fn set_kernel_drops(&self, interface: Slot, frames: u64) {
        self.pages.iter().for_each(|page| metadata::set_kernel_drops(page, interface, frames));
    }

    /// The slot in which the owner counted before, or one of a generation that nobody has had.
    pub(in crate::relay) fn allocate(&mut self, owner: SlotOwner) -> Result<Grant> {
        if let Some(slot) = self.found.remove(&owner.tag()) {
            return Ok(Grant { slot: next(slot), owner, is_continued: true });
        }
        if let Some(slot) = self.free.pop() {
            return Ok(Grant { slot: next(slot), owner, is_continued: false });
        }
        if self.fresh == MAX_SLOTS {
            return Err(Error::Invalid(format!(
                "too many rules and outputs: there are counters for {MAX_SLOTS} of them together"
            )));
        }
        self.fresh += 1;
        let slot = Slot { index: self.fresh - 1, generation: 1 };
        Ok(Grant { slot, owner, is_continued: false })
    }

    /// Takes a slot back that no plan names any more.
    pub(in crate::relay) fn free(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    /// Takes a slot back that no plan has named yet; its owner may come again.
    pub(in crate::relay) fn return_grant(&mut self, grant: Grant) {
        if grant.is_continued {
            self.found.insert(grant.owner.tag(), grant.slot);
        } else {
            self.free.push(grant.slot);
        }
    }

    /// The slots of those who have not come again; nobody finds them any more.
    pub(in crate::relay) fn release_unclaimed(&mut self) -> Vec<Slot> {
        self.found.drain().map(|(_, slot)| slot).collect()
    }
}

fn next(slot: Slot) -> Slot {
    Slot { generation: slot.generation.wrapping_add(1).max(1), ..slot }
}
