//! From a filled buffer to the datagram in it, for both kinds of input socket.
//! It must not know rules, outputs or who reads the socket.

mod frame;
mod socket;
#[cfg(test)]
mod tests;

use crate::addr::Addr;
use crate::packet::{Datagram, Discard};
use crate::sys::ring::ReceiveLayout;

/// How a socket delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// AF_PACKET: whole frames.
    Frame {
        /// Whether each starts with a virtio header (PACKET_VNET_HDR).
        vnet_hdr: bool,
    },
    /// AF_PACKET: whole frames in the slots of a packet ring, each behind a virtio header.
    Slot,
    /// An ordinary UDP socket that is bound to one destination.
    Datagram {
        /// The destination address.
        group: Addr,
        /// The destination port.
        port: u16,
    },
}

/// A datagram, or the equal-sized datagrams of one super-frame, in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// What the headers say; the payload's span counts from the start of the buffer.
    pub datagram: Datagram,
    /// Bytes of each datagram but the last; 0 when it is one.
    pub segment: u16,
}

impl Kind {
    /// The areas before the data in its buffers; `None` where nothing is to be received.
    #[must_use]
    pub const fn layout(self) -> Option<ReceiveLayout> {
        match self {
            Self::Frame { .. } => Some(ReceiveLayout::Frame),
            Self::Slot => None,
            Self::Datagram { .. } => Some(ReceiveLayout::Datagram),
        }
    }

    /// Reads a buffer that a receive has filled. `verify` says whether a UDP checksum that nobody
    /// has looked at is looked at here; of a UDP socket's datagrams the kernel has verified each.
    ///
    /// # Errors
    /// The reason why it holds nothing to relay.
    #[inline]
    pub fn read(self, buffer: &[u8], verify: bool) -> Result<Arrival, Discard> {
        match self {
            Self::Frame { vnet_hdr } => frame::read(buffer, vnet_hdr, verify),
            Self::Slot => frame::read_slot(buffer, verify),
            Self::Datagram { group, port } => socket::read(buffer, group, port),
        }
    }
}

/// Bytes of `struct io_uring_recvmsg_out`: the lengths of address, control messages and payload,
/// and the flags, each a native-endian 32-bit number.
const OUT_HEADER: usize = 16;

/// Whether the kernel had to cut what it delivered.
fn is_cut(buffer: &[u8]) -> Option<bool> {
    let flags = u32::from_ne_bytes(*buffer.get(12..)?.first_chunk()?);
    Some(flags & libc::MSG_TRUNC.cast_unsigned() != 0)
}

/// The first control message of the area, as (level, type, data).
fn control_message(area: &[u8]) -> Option<(i32, i32, &[u8])> {
    let len = usize::try_from(u64::from_ne_bytes(*area.first_chunk()?)).ok()?;
    let level = i32::from_ne_bytes(*area.get(8..)?.first_chunk()?);
    let kind = i32::from_ne_bytes(*area.get(12..)?.first_chunk()?);
    Some((level, kind, area.get(16..len)?))
}

/// Bytes of control messages that the kernel wrote.
fn control_len(buffer: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_ne_bytes(*buffer.get(4..)?.first_chunk()?)).ok()
}
