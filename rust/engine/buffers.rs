//! The size classes of receive buffers, and the division of an engine's memory among them.
//!
//! The kernel picks a buffer before it knows a frame's size, so the size class belongs to the
//! socket.

use std::io;

use crate::sockets::ring_shape::LINK_HEADER_BYTES;
use crate::sys::buffers::Buffers;

/// Bytes before the payload in a buffer of a UDP socket: io_uring's header (16), the address (32)
/// and control messages (104). Those before a frame are fewer.
const HEADROOM: u32 = 152;

/// The size of a socket's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SizeClass {
    /// Frames for an MTU of 1500.
    Standard,
    /// Frames for an MTU of 9000.
    Jumbo,
    /// Super-frames and reassembled datagrams of 64 KiB. Only the pages that a frame touches use
    /// memory.
    Super,
}

impl SizeClass {
    /// All classes, in increasing size.
    pub const ALL: [Self; 3] = [Self::Standard, Self::Jumbo, Self::Super];

    /// The class for an interface with this MTU (bytes); `merged` if GRO or reassembly can deliver
    /// more than the MTU at once.
    #[must_use]
    pub fn for_frames(mtu: u32, merged: bool) -> Self {
        let fits =
            |class: &Self| mtu.saturating_add(HEADROOM + LINK_HEADER_BYTES) <= class.buffer_bytes();
        let class = Self::ALL.into_iter().find(fits).unwrap_or(Self::Super);
        if merged { Self::Super } else { class }
    }

    /// The size of one buffer in bytes.
    #[must_use]
    pub const fn buffer_bytes(self) -> u32 {
        match self {
            Self::Standard => 2048,
            Self::Jumbo => 10 * 1024,
            // 64 KiB and all headers, an odd number of pages so that the starts of the buffers
            // spread over the cache.
            Self::Super => 17 * 4096,
        }
    }

    /// How many buffers of the class fit its share of `budget_bytes`; at least 4.
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

    /// Allocates the buffers of this class for a worker with `budget_bytes` for all of its classes.
    ///
    /// # Errors
    /// The kernel's: no memory.
    pub fn buffers(self, budget_bytes: usize) -> io::Result<Buffers> {
        Buffers::new(self.buffer_bytes(), self.count(budget_bytes))
    }
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
        assert!(SizeClass::Super.buffer_bytes() >= HEADROOM + LINK_HEADER_BYTES + 65_535);
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
