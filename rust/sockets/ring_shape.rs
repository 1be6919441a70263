//! The dimensions of packet rings: slots for an interface's frames, within an engine's memory
//! budget.

use crate::sys::packet_ring::RingShape;

/// Ethernet header and one VLAN tag left in the frame.
pub(crate) const LINK_HEADER_BYTES: u32 = 18;
/// Bytes before the frame in a slot of a packet ring: the kernel's headers, aligned.
const SLOT_HEADROOM: u32 = 82;
/// Slots of this size hold frames for an MTU of 9000 and more.
const MAX_SLOT_BYTES: u32 = 16 * 1024;
/// The most packet rings of a worker: it polls each of them in every turn.
pub const MAX_RINGS: usize = 4;
/// The most slots of a ring: a sixteenth of a second at 500 000 frames a second.
const MAX_SLOTS: usize = 1 << 15;
/// The slot count is a multiple of this, so that even the smallest slots fill a kernel block.
const SLOTS_STEP: usize = 32;

/// The packet ring for an interface of this MTU (bytes), in a worker that already has `open` rings;
/// `None` if frames would not fit a slot, or there are enough rings.
///
/// A ring is also the socket's queue, which absorbs bursts. It therefore comes on top of the
/// buffers' budget, half of it for each ring: as much as a socket's queue of 16 MiB would hold by
/// default.
#[must_use]
pub fn packet_ring(mtu: u32, budget_bytes: usize, open: usize) -> Option<RingShape> {
    let frame = mtu.saturating_add(SLOT_HEADROOM + LINK_HEADER_BYTES);
    let slot_bytes = frame.checked_next_power_of_two().filter(|&bytes| bytes <= MAX_SLOT_BYTES)?;
    let slots = (budget_bytes / 2 / slot_bytes as usize).min(MAX_SLOTS);
    let whole = slots / SLOTS_STEP * SLOTS_STEP;
    let slots = u16::try_from(whole).ok().filter(|&slots| slots > 0 && open < MAX_RINGS)?;
    Some(RingShape { slot_bytes, slots })
}

/// Whether [`packet_ring`] creates a ring of this shape from this budget for some interface.
#[must_use]
pub fn is_packet_ring(shape: RingShape, budget_bytes: usize) -> bool {
    let (slots, slot_bytes) = (usize::from(shape.slots), shape.slot_bytes);
    slots > 0
        && slots.is_multiple_of(SLOTS_STEP)
        && slots <= MAX_SLOTS.min(budget_bytes / 2 / slot_bytes.max(1) as usize)
        && slot_bytes.is_power_of_two()
        && (SLOT_HEADROOM + LINK_HEADER_BYTES..=MAX_SLOT_BYTES).contains(&slot_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
