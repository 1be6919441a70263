//! The allocator of counter slots: which are in use, by which owner, and at which generation.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::relay::egress::way::OutputWay;
use crate::stats::kernel::KernelWords;
use crate::stats::{Found, Grant, MAX_SLOTS, Slot, SlotOwner, metadata};
use crate::sys::memory::SharedWords;

/// Slots whose owners change together with the plans.
#[derive(Default)]
pub(in crate::relay) struct SlotChanges {
    pub(in crate::relay) granted: Vec<Grant>,
    pub(in crate::relay) released: Vec<Slot>,
}

/// Allocates slots, the same ones in the pages of all engines.
pub(in crate::relay) struct SlotAllocator {
    /// Free slots that were used before, with their last generation.
    free: Vec<Slot>,
    /// The index of the first slot that was never used.
    unused: u32,
    /// Slots with the counters of an earlier process, by the tag of their owner, until this process
    /// has claimed them or has all of its rules.
    unclaimed: HashMap<u64, Slot>,
    pages: Vec<Arc<SharedWords>>,
}

impl SlotAllocator {
    /// An allocator for pages that contain `found`.
    pub(in crate::relay) fn new(found: Found, pages: Vec<Arc<SharedWords>>) -> Self {
        Self { free: found.free, unused: found.used, unclaimed: found.owned, pages }
    }

    /// Allocates the slot of an interface, and writes the name to the pages for their readers.
    ///
    /// # Errors
    /// All slots are in use.
    pub(in crate::relay) fn allocate_interface(&mut self, name: &str) -> Result<Grant> {
        let grant = self.allocate(SlotOwner::interface(name))?;
        self.pages.iter().for_each(|page| metadata::set_name(page, grant.slot, name));
        Ok(grant)
    }

    /// Writes to the pages which group's counters belong to a rule.
    pub(in crate::relay) fn set_group(&self, rule: Slot, group: SlotOwner) {
        self.pages.iter().for_each(|page| metadata::set_group(page, rule, group));
    }

    /// Writes to the pages how many frames the kernel lost on an interface.
    pub(in crate::relay) fn set_kernel_drops(&self, interface: Slot, frames: u64) {
        self.pages.iter().for_each(|page| metadata::set_kernel_drops(page, interface, frames));
    }

    /// Publishes the way of an output's copies.
    pub(in crate::relay) fn set_way(&self, output: Slot, way: OutputWay) {
        self.pages.iter().for_each(|page| metadata::set_way(page, output, way.to_word()));
    }

    /// Publishes what the kernel has relayed for the owner of a slot, in one page.
    #[cfg(feature = "offload")]
    pub(in crate::relay) fn set_kernel(&self, slot: Slot, words: &KernelWords) {
        self.pages.iter().take(1).for_each(|page| metadata::set_kernel(page, slot, words));
    }

    /// The words that were last published.
    pub(in crate::relay) fn kernel(&self, slot: Slot) -> KernelWords {
        let page = self.pages.first();
        page.map_or(KernelWords::default(), |page| metadata::kernel(page.view(), slot))
    }

    /// Allocates the slot in which an earlier process counted for the owner, or else a free one, at
    /// a new generation.
    ///
    /// # Errors
    /// All slots are in use.
    pub(in crate::relay) fn allocate(&mut self, owner: SlotOwner) -> Result<Grant> {
        if let Some(slot) = self.unclaimed.remove(&owner.tag()) {
            return Ok(Grant { slot: next(slot), owner, is_continued: true });
        }
        if let Some(slot) = self.free.pop() {
            // Of its last owner.
            self.pages.iter().for_each(|page| metadata::clear_kernel(page, slot));
            return Ok(Grant { slot: next(slot), owner, is_continued: false });
        }
        if self.unused == MAX_SLOTS {
            return Err(Error::Invalid(format!(
                "too many rules and outputs: there are counters for {MAX_SLOTS} of them together"
            )));
        }
        self.unused += 1;
        let slot = Slot { index: self.unused - 1, generation: 1 };
        Ok(Grant { slot, owner, is_continued: false })
    }

    /// Frees a slot that no plan contains any more.
    pub(in crate::relay) fn free(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    /// Undoes a grant that no plan has contained yet; a slot with inherited counters remains
    /// reserved for its owner.
    pub(in crate::relay) fn return_grant(&mut self, grant: Grant) {
        if grant.is_continued {
            self.unclaimed.insert(grant.owner.tag(), grant.slot);
        } else {
            self.free.push(grant.slot);
        }
    }

    /// Ends the takeover: removes and returns the slots that this process has not claimed.
    pub(in crate::relay) fn release_unclaimed(&mut self) -> Vec<Slot> {
        self.unclaimed.drain().map(|(_, slot)| slot).collect()
    }
}

fn next(slot: Slot) -> Slot {
    Slot { generation: slot.generation.wrapping_add(1).max(1), ..slot }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_slots_is_refused_and_those_in_use_stay() {
        let mut slots = SlotAllocator::new(Found::default(), Vec::new());
        let mut granted: Vec<Grant> = (0..u64::from(MAX_SLOTS))
            .map(|key| slots.allocate(SlotOwner::output(key)).unwrap())
            .collect();
        let refused = slots.allocate(SlotOwner::output(u64::MAX)).unwrap_err().to_string();
        assert!(refused.contains("there are counters for 65536 of them together"), "{refused}");
        let last = granted.pop().unwrap().slot;
        slots.free(last);
        let next = slots.allocate(SlotOwner::output(u64::MAX)).unwrap().slot;
        assert_eq!((next.index, next.generation), (last.index, last.generation + 1));
    }
}
