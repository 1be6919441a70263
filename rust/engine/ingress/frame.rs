//! The layout of a buffer from an AF_PACKET socket: link-layer address, auxiliary data, virtio
//! header and frame (packet(7)).

use super::offload::{self, VNET_HEADER, VnetHeader};
use super::{Arrival, OUT_HEADER, RawFrame, is_truncated, read_u16};
use crate::packet::{self, ChecksumState, Discard, FrameMeta, LinkType, VlanTag};
use crate::sys::ring::ReceiveLayout;

const LAYOUT: ReceiveLayout = ReceiveLayout::Frame;
/// Bytes before the data in a buffer.
const HEAD: usize = OUT_HEADER + LAYOUT.name_bytes() + LAYOUT.control_bytes();

/// The offset of `sll_pkttype` in `struct sockaddr_ll`.
const PACKET_TYPE: usize = 10;
/// The offset of `struct sockaddr_ll` in a slot, behind its `struct tpacket2_hdr`.
const SLOT_ADDRESS: usize = 32;
/// The length of both.
const SLOT_HEAD: usize = SLOT_ADDRESS + 20;

/// Bits of `tp_status` in `struct tpacket_auxdata`.
mod status {
    pub(super) const CHECKSUM_NOT_READY: u32 = 0x08;
    pub(super) const VLAN_VALID: u32 = 0x10;
    pub(super) const VLAN_TPID_VALID: u32 = 0x40;
    pub(super) const CHECKSUM_VALID: u32 = 0x80;
}

/// Reads a buffer of a multishot receive.
#[inline(always)]
pub(super) fn read(
    buffer: &[u8],
    vnet_hdr: bool,
    link: LinkType,
    verify: bool,
) -> Result<Arrival, Discard> {
    let head: &[u8; HEAD] = buffer.first_chunk().ok_or(Discard::Truncated)?;
    if is_truncated(head) {
        return Err(Discard::TruncatedByUs);
    }
    if head[OUT_HEADER + PACKET_TYPE] == libc::PACKET_OTHERHOST {
        return Err(Discard::NotForUs);
    }
    read_any(buffer, vnet_hdr, link, verify)
}

/// The same, whatever host it is addressed to.
#[inline(always)]
fn read_any(
    buffer: &[u8],
    vnet_hdr: bool,
    link: LinkType,
    verify: bool,
) -> Result<Arrival, Discard> {
    let head: &[u8; HEAD] = buffer.first_chunk().ok_or(Discard::Truncated)?;
    let auxiliary = auxiliary(head);
    let vlan = auxiliary.and_then(vlan_tag);
    let network = || auxiliary.map_or(0, |auxiliary| auxiliary.network);
    let (start, checksum, segment_size) = if vnet_hdr {
        behind_vnet_header(buffer, HEAD, link, network)?
    } else {
        (HEAD, auxiliary.map_or(ChecksumState::Unverified, checksum), 0)
    };
    let meta = FrameMeta { vlan, checksum, segment_size };
    parse(buffer, start, link, meta, verify, network)
}

/// Reads a slot of a packet ring: `struct tpacket2_hdr`, `struct sockaddr_ll`, and the frame at
/// `tp_mac`.
#[inline(always)]
pub(super) fn read_slot(slot: &[u8], link: LinkType, verify: bool) -> Result<Arrival, Discard> {
    let head: &[u8; SLOT_HEAD] = slot.first_chunk().ok_or(Discard::Truncated)?;
    if word(head, 8) < word(head, 4) {
        return Err(Discard::TruncatedByUs);
    }
    if head[SLOT_ADDRESS + PACKET_TYPE] == libc::PACKET_OTHERHOST {
        return Err(Discard::NotForUs);
    }
    read_any_slot(slot, link, verify)
}

/// The time stamp of a slot (`tp_sec`, `tp_nsec`).
pub(super) fn slot_time_ns(slot: &[u8]) -> Option<u64> {
    const SECOND_NS: u64 = 1_000_000_000;
    let head: &[u8; SLOT_HEAD] = slot.first_chunk()?;
    Some(u64::from(word(head, 16)) * SECOND_NS + u64::from(word(head, 20)))
}

/// The same, whatever host it is addressed to.
#[inline(always)]
fn read_any_slot(slot: &[u8], link: LinkType, verify: bool) -> Result<Arrival, Discard> {
    let head: &[u8; SLOT_HEAD] = slot.first_chunk().ok_or(Discard::Truncated)?;
    let auxiliary = auxiliary_of_slot(head);
    let network = || auxiliary.network;
    let start =
        usize::from(read_u16(head, 12)).checked_sub(VNET_HEADER).ok_or(Discard::Truncated)?;
    let (start, checksum, segment_size) = behind_vnet_header(slot, start, link, network)?;
    let vlan = vlan_tag(auxiliary);
    let meta = FrameMeta { vlan, checksum, segment_size };
    parse(slot, start, link, meta, verify, network)
}

/// The number of datagrams in a buffer that is addressed to another host.
#[cold]
#[inline(never)]
pub(super) fn count(buffer: &[u8], vnet_hdr: bool, link: LinkType) -> u32 {
    read_any(buffer, vnet_hdr, link, false).map_or(1, |arrival| arrival.datagram.segments)
}

/// The same for a slot.
#[cold]
#[inline(never)]
pub(super) fn count_slot(slot: &[u8], link: LinkType) -> u32 {
    read_any_slot(slot, link, false).map_or(1, |arrival| arrival.datagram.segments)
}

/// Completes the offloaded work in the frame of a buffer.
pub(super) fn finish(buffer: &[u8], link: LinkType, room: &mut [u8]) -> Result<Arrival, Discard> {
    let head: &[u8; HEAD] = buffer.first_chunk().ok_or(Discard::Truncated)?;
    let auxiliary = auxiliary(head);
    let (vlan, network) = (auxiliary.and_then(vlan_tag), auxiliary.map_or(0, |it| it.network));
    offload::finish(buffer, HEAD, room, |frame, meta| {
        packet::parse_of(link, frame, FrameMeta { vlan, ..meta }, || network)
    })
}

/// The same for a slot.
pub(super) fn finish_slot(
    slot: &[u8],
    link: LinkType,
    room: &mut [u8],
) -> Result<Arrival, Discard> {
    let head: &[u8; SLOT_HEAD] = slot.first_chunk().ok_or(Discard::Truncated)?;
    let start =
        usize::from(read_u16(head, 12)).checked_sub(VNET_HEADER).ok_or(Discard::Truncated)?;
    let auxiliary = auxiliary_of_slot(head);
    let vlan = vlan_tag(auxiliary);
    offload::finish(slot, start, room, |frame, meta| {
        packet::parse_of(link, frame, FrameMeta { vlan, ..meta }, || auxiliary.network)
    })
}

/// The frame in a buffer of a multishot receive.
pub(super) fn raw(buffer: &[u8], vnet_hdr: bool, link: LinkType) -> Option<RawFrame<'_>> {
    let head: &[u8; HEAD] = buffer.first_chunk()?;
    let auxiliary = auxiliary(head);
    let bytes = buffer.get(HEAD + if vnet_hdr { VNET_HEADER } else { 0 }..)?;
    let network = auxiliary.map_or(0, |auxiliary| auxiliary.network);
    let network = (link == LinkType::Other).then_some(network.into());
    Some(RawFrame { bytes, network, vlan: auxiliary.and_then(vlan_tag), arrived_ns: 0 })
}

/// The frame in a slot, whose header also has `tp_sec` and `tp_nsec`.
pub(super) fn raw_slot(slot: &[u8], link: LinkType) -> Option<RawFrame<'_>> {
    let head: &[u8; SLOT_HEAD] = slot.first_chunk()?;
    let auxiliary = auxiliary_of_slot(head);
    let bytes = slot.get(usize::from(read_u16(head, 12))..)?;
    let network = (link == LinkType::Other).then_some(auxiliary.network.into());
    let arrived_ns = u64::from(word(head, 16)) * 1_000_000_000 + u64::from(word(head, 20));
    Some(RawFrame { bytes, network, vlan: vlan_tag(auxiliary), arrived_ns })
}

/// The start of the frame behind a virtio header, and the header's content: the checksum state, and
/// the size of each datagram in a super-frame in bytes.
#[inline(always)]
fn behind_vnet_header(
    buffer: &[u8],
    start: usize,
    link: LinkType,
    network: impl FnOnce() -> u16,
) -> Result<(usize, ChecksumState, u16), Discard> {
    let header = VnetHeader::at(buffer, start)?;
    let frame = start + VNET_HEADER;
    if header.leaves_work()
        && header.describes_inner(buffer.get(frame..).unwrap_or_default(), link, network())
    {
        return Err(Discard::BadHeader);
    }
    Ok((frame, header.checksum(), header.segment_size()))
}

// Always inlined, like the parser.
#[inline(always)]
fn parse(
    buffer: &[u8],
    start: usize,
    link: LinkType,
    mut meta: FrameMeta,
    verify: bool,
    network: impl FnOnce() -> u16,
) -> Result<Arrival, Discard> {
    if !verify {
        meta.checksum = ChecksumState::Ignored;
    }
    let frame = buffer.get(start..).ok_or(Discard::Truncated)?;
    let mut datagram = packet::parse_of(link, frame, meta, network)?;
    datagram.payload.start += u32::try_from(start).map_err(|_| Discard::BadLength)?;
    let segment = if datagram.segments > 1 { meta.segment_size } else { 0 };
    Ok(Arrival { datagram, segment })
}

/// `struct tpacket_auxdata`.
#[derive(Clone, Copy)]
struct Auxiliary {
    status: u32,
    /// The offset of the network header in the frame.
    network: u16,
    vlan_tci: u16,
    vlan_tpid: u16,
}

/// The auxiliary data: the first control message, or the second behind a time stamp.
#[inline]
fn auxiliary(head: &[u8; HEAD]) -> Option<Auxiliary> {
    const STAMP_BYTES: usize = 32;
    auxiliary_at::<0>(head).or_else(|| auxiliary_at::<STAMP_BYTES>(head))
}

/// The auxiliary data at this offset among the control messages.
#[inline(always)]
fn auxiliary_at<const AT: usize>(head: &[u8; HEAD]) -> Option<Auxiliary> {
    const BYTES: u32 = 16 + 20;
    /// The level and the type in the message's header.
    const SENDER: [i32; 2] = [libc::SOL_PACKET, libc::PACKET_AUXDATA];
    // `struct cmsghdr`, then the data.
    let message = OUT_HEADER + LAYOUT.name_bytes() + AT;
    let number = |at| word(head, message + at).cast_signed();
    let ends = u32::try_from(AT).unwrap_or(u32::MAX) + BYTES;
    if word(head, 4) < ends || word(head, message) < BYTES || [number(8), number(12)] != SENDER {
        return None;
    }
    let data = message + 16;
    Some(Auxiliary {
        status: word(head, data),
        network: read_u16(head, data + 14),
        vlan_tci: read_u16(head, data + 16),
        vlan_tpid: read_u16(head, data + 18),
    })
}

/// The same from a slot's `struct tpacket2_hdr`.
#[inline(always)]
fn auxiliary_of_slot(head: &[u8; SLOT_HEAD]) -> Auxiliary {
    let (vlan_tci, vlan_tpid) = (read_u16(head, 24), read_u16(head, 26));
    let network = read_u16(head, 14).wrapping_sub(read_u16(head, 12));
    Auxiliary { status: word(head, 0), network, vlan_tci, vlan_tpid }
}

#[inline(always)]
fn word<const N: usize>(head: &[u8; N], at: usize) -> u32 {
    u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

fn vlan_tag(auxiliary: Auxiliary) -> Option<VlanTag> {
    /// Older kernels report a customer tag without its identifier.
    const CUSTOMER_TAG: u16 = 0x8100;
    if auxiliary.status & status::VLAN_VALID == 0 {
        return None;
    }
    let known = auxiliary.status & status::VLAN_TPID_VALID != 0;
    let tpid = if known { auxiliary.vlan_tpid } else { CUSTOMER_TAG };
    Some(VlanTag { tpid, tci: auxiliary.vlan_tci })
}

fn checksum(auxiliary: Auxiliary) -> ChecksumState {
    if auxiliary.status & (status::CHECKSUM_NOT_READY | status::CHECKSUM_VALID) == 0 {
        ChecksumState::Unverified
    } else {
        ChecksumState::Trusted
    }
}
