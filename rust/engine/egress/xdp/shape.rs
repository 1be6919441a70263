//! The datagrams of a lane in numbers: what batches they would form.

use crate::engine::egress::batch::{continues, is_open};
use crate::engine::window::Window;

/// The datagrams of one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LaneShape {
    pub(super) datagrams: u32,
    /// The batches that they form, without regard to limits on their length.
    pub(super) batches: u32,
    /// The length of the longest in bytes.
    pub(super) longest: u32,
}

impl LaneShape {
    #[inline]
    pub(super) fn of(window: &Window, lane: u32) -> Self {
        let mut shape = Self::default();
        // The segment size of the current batch, while more datagrams may follow.
        let mut open = None;
        for (_, entry) in window.datagrams(lane) {
            let joins = open.is_some_and(|segment| continues(entry, segment));
            let segment = open.filter(|_| joins).unwrap_or(entry.segment);
            shape.batches += u32::from(!joins);
            shape.datagrams += entry.count;
            shape.longest = shape.longest.max(entry.segment.min(entry.len));
            open = (is_open(entry) && entry.segment == segment).then_some(segment);
        }
        shape
    }
}
