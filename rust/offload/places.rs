//! Which places of the maps are free: slots for rules, and ranges for their outputs.

use std::collections::VecDeque;
use std::ops::Range;

/// Free slots. The one that was freed first is used first, so that frames on their way, which name
/// their slot, have long arrived.
#[derive(Debug)]
pub(super) struct FreeSlots(VecDeque<u32>);

/// Free ranges in the map of outputs, in order, none next to another.
#[derive(Debug)]
pub(super) struct FreeOutputs(Vec<Range<u32>>);

impl FreeSlots {
    /// All slots but those in use.
    pub(super) fn new(count: u32, is_used: impl Fn(u32) -> bool) -> Self {
        Self((0..count).filter(|slot| !is_used(*slot)).collect())
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        self.0.pop_front()
    }

    pub(super) fn put(&mut self, slot: u32) {
        self.0.push_back(slot);
    }
}

impl FreeOutputs {
    /// All places but those in use.
    pub(super) fn new(count: u32, mut used: Vec<Range<u32>>) -> Self {
        used.sort_by_key(|range| range.start);
        let mut free = Vec::new();
        let mut at = 0;
        for range in used {
            if at < range.start {
                free.push(at..range.start);
            }
            at = at.max(range.end);
        }
        if at < count {
            free.push(at..count);
        }
        Self(free)
    }

    /// A range of this length.
    pub(super) fn take(&mut self, count: u32) -> Option<Range<u32>> {
        let at = self.0.iter().position(|range| range.end - range.start >= count)?;
        let range = &mut self.0[at];
        let taken = range.start..range.start + count;
        range.start = taken.end;
        if range.start == range.end {
            self.0.remove(at);
        }
        Some(taken)
    }

    pub(super) fn put(&mut self, range: Range<u32>) {
        let at = self.0.partition_point(|free| free.start < range.start);
        self.0.insert(at, range);
        // Merges with the next, then with the previous.
        for at in [Some(at), at.checked_sub(1)].into_iter().flatten() {
            if at + 1 < self.0.len() && self.0[at].end == self.0[at + 1].start {
                self.0[at].end = self.0.remove(at + 1).end;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_freed_first_is_used_first() {
        let mut slots = FreeSlots::new(3, |slot| slot == 1);
        assert_eq!([slots.take(), slots.take(), slots.take()], [Some(0), Some(2), None]);
        slots.put(2);
        slots.put(0);
        assert_eq!([slots.take(), slots.take()], [Some(2), Some(0)]);
    }

    #[test]
    fn ranges_are_taken_apart_and_merged_again() {
        let mut outputs = FreeOutputs::new(10, vec![4..6, 0..1]);
        assert_eq!(outputs.0, [1..4, 6..10]);
        let [one, two] = [outputs.take(4), outputs.take(2)].map(Option::unwrap);
        assert_eq!((one.clone(), two.clone()), (6..10, 1..3));
        assert_eq!(outputs.take(2), None);
        outputs.put(4..6);
        outputs.put(one);
        outputs.put(0..1);
        outputs.put(two);
        assert_eq!((outputs.0.len(), outputs.0[0].clone()), (1, 0..10));
    }
}
