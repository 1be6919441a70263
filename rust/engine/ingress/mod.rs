//! The step from a filled buffer to the datagram in it, for both kinds of input socket.

mod frame;
mod gro_order;
mod offload;
mod raw;
mod socket;
#[cfg(test)]
mod tests;

use crate::addr::Addr;
use crate::packet::{Datagram, Discard, LinkType};
use crate::sys::recv::{self, ControlMessages};
use crate::sys::ring::ReceiveLayout;
pub use gro_order::OrderCheck;
pub use raw::RawFrame;

/// The form in which a socket delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// AF_PACKET: whole frames.
    Frame {
        /// Whether each starts with a virtio header (PACKET_VNET_HDR).
        vnet_hdr: bool,
        /// The link layer before its network header.
        link: LinkType,
    },
    /// AF_PACKET: whole frames in the slots of a packet ring, each behind a virtio header.
    Slot {
        /// The link layer before its network header.
        link: LinkType,
    },
    /// An ordinary UDP socket bound to one destination.
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
    /// The parsed headers; the payload's span is relative to the start of the buffer.
    pub datagram: Datagram,
    /// The size in bytes of each datagram but the last; 0 for a single one.
    pub segment: u16,
}

impl Delivery {
    /// The areas before the data in its buffers; `None` if it is not read with receive calls.
    #[must_use]
    pub const fn layout(self) -> Option<ReceiveLayout> {
        match self {
            Self::Frame { .. } => Some(ReceiveLayout::Frame),
            Self::Slot { .. } => None,
            Self::Datagram { .. } => Some(ReceiveLayout::Datagram),
        }
    }

    /// Reads a buffer that a receive has filled. `verify` says whether to verify UDP checksums that
    /// were not verified yet; for UDP sockets the kernel has verified each.
    ///
    /// # Errors
    /// The reason why it contains nothing to relay. [`Discard::BadHeader`] also if the kernel has
    /// left work on a packet inside the datagram, which [`Delivery::finish`] may be able to do.
    #[inline(always)]
    pub fn read(self, buffer: &[u8], verify: bool) -> Result<Arrival, Discard> {
        match self {
            Self::Frame { vnet_hdr, link } => frame::read(buffer, vnet_hdr, link, verify),
            Self::Slot { link } => frame::read_slot(buffer, link, verify),
            Self::Datagram { group, port } => socket::read(buffer, group, port),
        }
    }

    /// When the kernel received what is in a buffer, in nanoseconds of CLOCK_REALTIME: in a packet
    /// ring always, else if the socket stamps what it receives.
    #[must_use]
    pub fn arrival_ns(self, buffer: &[u8]) -> Option<u64> {
        let Some(layout) = self.layout() else { return frame::slot_time_ns(buffer) };
        let is_stamp = |level, kind| (level, kind) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS);
        let mut messages = control_messages(buffer, layout);
        messages
            .find_map(|(level, kind, value)| is_stamp(level, kind).then_some(value))
            .and_then(recv::nanoseconds)
    }

    /// Completes the datagrams of a buffer in which the kernel has left work, and writes them to
    /// `room`, to which the arrival's span is relative.
    ///
    /// # Errors
    /// [`Discard::BadHeader`] if there is no such work, or if it contradicts the bytes or is not
    /// possible.
    #[cold]
    pub fn finish(self, buffer: &[u8], room: &mut [u8]) -> Result<Arrival, Discard> {
        match self {
            Self::Frame { vnet_hdr: true, link } => frame::finish(buffer, link, room),
            Self::Frame { vnet_hdr: false, .. } => Err(Discard::BadHeader),
            Self::Slot { link } => frame::finish_slot(buffer, link, room),
            Self::Datagram { group, port } => socket::finish(buffer, group, port, room),
        }
    }

    /// The frame in a buffer as it arrived; `None` if the socket delivers none, or not all of it.
    #[cold]
    #[must_use]
    pub fn raw(self, buffer: &[u8]) -> Option<RawFrame<'_>> {
        match self {
            Self::Frame { vnet_hdr, link } => frame::raw(buffer, vnet_hdr, link),
            Self::Slot { link } => frame::raw_slot(buffer, link),
            Self::Datagram { .. } => None,
        }
    }

    /// How many datagrams a buffer discarded for `reason` contains, as far as that is known; at
    /// least 1.
    #[must_use]
    pub fn count_discarded(self, buffer: &[u8], reason: Discard) -> u32 {
        match self {
            _ if reason != Discard::NotForUs => 1,
            Self::Frame { vnet_hdr, link } => frame::count(buffer, vnet_hdr, link),
            Self::Slot { link } => frame::count_slot(buffer, link),
            Self::Datagram { .. } => 1,
        }
    }
}

/// Bytes of `struct io_uring_recvmsg_out`: the lengths of address, control messages and payload,
/// and the flags, each a native-endian 32-bit number.
const OUT_HEADER: usize = 16;

/// The control messages that the kernel wrote into a buffer.
#[inline]
fn control_messages(buffer: &[u8], layout: ReceiveLayout) -> ControlMessages<'_> {
    let area = buffer.get(OUT_HEADER + layout.name_bytes()..).unwrap_or(&[]);
    let len = buffer.get(4..).and_then(<[u8]>::first_chunk).copied().map_or(0, u32::from_ne_bytes);
    let len = usize::try_from(len).unwrap_or(0).min(layout.control_bytes());
    ControlMessages(area.get(..len).unwrap_or(&[]))
}

/// A 16-bit number in native byte order.
#[inline(always)]
fn read_u16<const N: usize>(head: &[u8; N], at: usize) -> u16 {
    u16::from_ne_bytes([head[at], head[at + 1]])
}

/// Whether the kernel truncated the data.
fn is_truncated<const N: usize>(head: &[u8; N]) -> bool {
    const { assert!(N >= OUT_HEADER) };
    let flags = u32::from_ne_bytes([head[12], head[13], head[14], head[15]]);
    flags & libc::MSG_TRUNC.cast_unsigned() != 0
}
