//! Sizes of receive buffers, and how a worker's memory is divided among them.
//!
//! The kernel picks a buffer before it knows a frame's size, so the size class belongs to the
//! socket. This file must not know io_uring.

use std::io;

use crate::sys::buffers::Buffers;
use crate::sys::packet_ring::RingShape;

/// Bytes before the frame in a buffer: io_uring's header (16), control messages (40),
/// the virtio header (10); for a UDP socket the address (32) and its control messages (72).
const HEADROOM: u32 = 120;
/// Ethernet header and one VLAN tag that stayed in the frame.
const LINK_HEADER: u32 = 18;

/// Bytes before the frame in a slot of a packet ring: the kernel's headers, aligned.
const SLOT_HEADROOM: u32 = 82;
/// Frames of an MTU of 9000 and more.
const MAX_SLOT_BYTES: u32 = 16 * 1024;
/// Most packet rings of a worker: each is a thing to look at in every turn.
pub const MAX_RINGS: usize = 4;
/// Most slots of a ring: a sixteenth of a second at 500 000 frames a second.
const MAX_SLOTS: usize = 1 << 15;
/// Slots come in such numbers: the smallest fill a block of the kernel's then.
const SLOTS_STEP: usize = 32;

/// How big the buffers of a socket are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SizeClass {
    /// Frames of an MTU of 1500.
    Standard,
    /// Frames of an MTU of 9000.
    Jumbo,
    /// Super-frames and reassembled datagrams of 64 KiB. Only the pages that a frame touches
    /// cost memory.
    Super,
}

impl SizeClass {
    /// All of them, in the order of their sizes.
    pub const ALL: [Self; 3] = [Self::Standard, Self::Jumbo, Self::Super];

    /// The class for an interface of this MTU (bytes); `merged` where GRO or reassembly can
    /// deliver more than the MTU at once.
    #[must_use]
    pub fn for_frames(mtu: u32, merged: bool) -> Self {
        let fits =
            |class: &Self| mtu.saturating_add(HEADROOM + LINK_HEADER) <= class.buffer_bytes();
        let class = Self::ALL.into_iter().find(fits).unwrap_or(Self::Super);
        if merged { Self::Super } else { class }
    }

    /// Bytes of one buffer.
    #[must_use]
    pub const fn buffer_bytes(self) -> u32 {
        match self {
            Self::Standard => 2048,
            Self::Jumbo => 10 * 1024,
            // 64 KiB and all headers, an odd number of pages so that the heads of the buffers
            // spread over the cache.
            Self::Super => 17 * 4096,
        }
    }

    /// How many buffers of the class fit its part of `budget_bytes`, at least 4.
    #[must_use]
    pub fn count(self, budget_bytes: usize) -> u16 {
        let part = match self {
            Self::Standard => budget_bytes / 16,
            Self::Jumbo => budget_bytes / 8,
            Self::Super => budget_bytes / 16 * 13,
        };
        let count = part / self.buffer_bytes() as usize;
        u16::try_from(count.clamp(4, 1 << 14)).unwrap_or(4)
    }

    /// The buffers of this class for a worker with `budget_bytes` for all of its classes.
    ///
    /// # Errors
    /// The kernel's answer: no memory.
    pub fn buffers(self, budget_bytes: usize) -> io::Result<Buffers> {
        Buffers::new(self.buffer_bytes(), self.count(budget_bytes))
    }
}

/// The packet ring for an interface of this MTU (bytes) of a worker that has `open` rings
/// already; `None` where frames would not fit a slot, or there are enough rings.
///
/// A ring is the socket's queue, too: what bursts wait in. So it is beside the buffers' budget,
/// half as much for each, which is what a socket's queue of 16 MiB would hold by default.
#[must_use]
pub fn packet_ring(mtu: u32, budget_bytes: usize, open: usize) -> Option<RingShape> {
    let frame = mtu.saturating_add(SLOT_HEADROOM + LINK_HEADER);
    let slot_bytes = frame.checked_next_power_of_two().filter(|&bytes| bytes <= MAX_SLOT_BYTES)?;
    let slots = (budget_bytes / 2 / slot_bytes as usize).min(MAX_SLOTS);
    let whole = slots / SLOTS_STEP * SLOTS_STEP;
    let slots = u16::try_from(whole).ok().filter(|&slots| slots > 0 && open < MAX_RINGS)?;
    Some(RingShape { slot_bytes, slots })
}

/// Whether [`packet_ring`] makes such a ring of this budget for some interface.
#[must_use]
pub fn is_packet_ring(shape: RingShape, budget_bytes: usize) -> bool {
    let (slots, slot_bytes) = (usize::from(shape.slots), shape.slot_bytes);
    slots > 0
        && slots.is_multiple_of(SLOTS_STEP)
        && slots <= MAX_SLOTS.min(budget_bytes / 2 / slot_bytes.max(1) as usize)
        && slot_bytes.is_power_of_two()
        && (SLOT_HEADROOM + LINK_HEADER..=MAX_SLOT_BYTES).contains(&slot_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_fits_its_class() {
        assert_eq!(SizeClass::for_frames(1500, false), SizeClass::Standard);
        assert_eq!(SizeClass::for_frames(1500, true), SizeClass::Super);
        assert_eq!(SizeClass::for_frames(9000, false), SizeClass::Jumbo);
        assert_eq!(SizeClass::for_frames(65_536, false), SizeClass::Super);
        assert!(SizeClass::Super.buffer_bytes() >= HEADROOM + LINK_HEADER + 65_535);
    }

    #[test]
    fn a_ring_has_slots_for_the_mtu_within_half_of_the_budget() {
        let shape = packet_ring(1500, 32 << 20, 0).unwrap();
        assert_eq!(shape, RingShape { slot_bytes: 2048, slots: 8192 });
        assert_eq!(packet_ring(9000, 32 << 20, 3).unwrap().slot_bytes, 16_384);
        assert_eq!(packet_ring(65_536, 32 << 20, 0), None);
        assert_eq!(packet_ring(1500, 32 << 20, MAX_RINGS), None);
        for budget in [1 << 20, 5_000_000, 32 << 20, 1 << 40] {
            let shape = packet_ring(1500, budget, 0).unwrap();
            let bytes = shape.slot_bytes as usize * usize::from(shape.slots);
            assert!(bytes <= budget / 2 && bytes.is_multiple_of(1 << 16));
            assert!(is_packet_ring(shape, budget));
            assert!(!is_packet_ring(shape, bytes * 2 - 1));
        }
    }

    #[test]
    fn all_classes_together_stay_within_the_budget() {
        for budget in [1 << 20, 32 << 20, 1 << 30] {
            let bytes =
                |class: SizeClass| usize::from(class.count(budget)) * class.buffer_bytes() as usize;
            assert!(SizeClass::ALL.into_iter().map(bytes).sum::<usize>() <= budget);
        }
    }
}
