//! A buffer from an AF_PACKET socket: virtio header, auxiliary data and frame (packet(7)).

use super::{Arrival, OUT_HEADER, control_len, control_message, is_cut};
use crate::packet::{self, ChecksumState, Discard, FrameMeta, VlanTag};
use crate::sys::ring::ReceiveLayout;

/// Bytes of `struct virtio_net_hdr`.
const VNET_HEADER: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID`.
const CHECKSUM_SETTLED: u8 = 1 | 2;
/// `VIRTIO_NET_HDR_GSO_UDP_L4`: a super-frame.
const GSO_UDP_L4: u8 = 5;
/// `VIRTIO_NET_HDR_GSO_ECN`, a flag beside the type.
const GSO_ECN: u8 = 0x80;

/// Bits of `tp_status` in `struct tpacket_auxdata`.
mod status {
    pub(super) const CHECKSUM_NOT_READY: u32 = 0x08;
    pub(super) const VLAN_VALID: u32 = 0x10;
    pub(super) const VLAN_TPID_VALID: u32 = 0x40;
    pub(super) const CHECKSUM_VALID: u32 = 0x80;
}

#[inline]
pub(super) fn read(buffer: &[u8], vnet_hdr: bool, verify: bool) -> Result<Arrival, Discard> {
    if is_cut(buffer).unwrap_or(true) {
        return Err(Discard::TruncatedByUs);
    }
    let start = OUT_HEADER + ReceiveLayout::Frame.control_bytes();
    let auxiliary = auxiliary(buffer);
    let vlan = auxiliary.and_then(vlan_tag);
    let (start, checksum, segment_size) = if vnet_hdr {
        behind_vnet_header(buffer, start)?
    } else {
        (start, auxiliary.map_or(ChecksumState::Unverified, checksum), 0)
    };
    parse(buffer, start, FrameMeta { vlan, checksum, segment_size }, verify)
}

/// A slot of a packet ring: `struct tpacket2_hdr`, and at `tp_mac` the frame.
#[inline]
pub(super) fn read_slot(slot: &[u8], verify: bool) -> Result<Arrival, Discard> {
    let header: &[u8; 32] = slot.first_chunk().ok_or(Discard::Truncated)?;
    let word = |at: usize| {
        u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    let (len, held) = (word(4), word(8));
    if held < len {
        return Err(Discard::TruncatedByUs);
    }
    let auxiliary = Auxiliary { status: word(0), vlan_tci: half(24), vlan_tpid: half(26) };
    let start = usize::from(half(12)).checked_sub(VNET_HEADER).ok_or(Discard::Truncated)?;
    let (start, checksum, segment_size) = behind_vnet_header(slot, start)?;
    let vlan = vlan_tag(auxiliary);
    parse(slot, start, FrameMeta { vlan, checksum, segment_size }, verify)
}

/// Where the frame behind a virtio header starts, and what the header says of it: of its checksum,
/// and the bytes of each datagram in a super-frame.
#[inline(always)]
fn behind_vnet_header(buffer: &[u8], start: usize) -> Result<(usize, ChecksumState, u16), Discard> {
    let data = buffer.get(start..).ok_or(Discard::Truncated)?;
    let header: &[u8; VNET_HEADER] = data.first_chunk().ok_or(Discard::Truncated)?;
    let is_settled = header[0] & CHECKSUM_SETTLED != 0;
    let is_super = header[1] & !GSO_ECN == GSO_UDP_L4;
    let checksum = if is_settled { ChecksumState::Trusted } else { ChecksumState::Unverified };
    let segment_size = if is_super { u16::from_ne_bytes([header[4], header[5]]) } else { 0 };
    Ok((start + VNET_HEADER, checksum, segment_size))
}

// Always inlined, as the parser is.
#[inline(always)]
fn parse(
    buffer: &[u8],
    start: usize,
    mut meta: FrameMeta,
    verify: bool,
) -> Result<Arrival, Discard> {
    if !verify {
        meta.checksum = ChecksumState::Ignored;
    }
    let frame = buffer.get(start..).ok_or(Discard::Truncated)?;
    let mut datagram = packet::parse(frame, meta)?;
    datagram.payload.start += u32::try_from(start).map_err(|_| Discard::BadLength)?;
    let segment = if datagram.segments > 1 { meta.segment_size } else { 0 };
    Ok(Arrival { datagram, segment })
}

/// `struct tpacket_auxdata`.
#[derive(Clone, Copy)]
struct Auxiliary {
    status: u32,
    vlan_tci: u16,
    vlan_tpid: u16,
}

#[inline]
fn auxiliary(buffer: &[u8]) -> Option<Auxiliary> {
    let area = buffer.get(OUT_HEADER..)?.get(..control_len(buffer)?.min(40))?;
    let (level, kind, data) = control_message(area)?;
    if (level, kind) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    let data: &[u8; 20] = data.first_chunk()?;
    Some(Auxiliary {
        status: u32::from_ne_bytes([data[0], data[1], data[2], data[3]]),
        vlan_tci: u16::from_ne_bytes([data[16], data[17]]),
        vlan_tpid: u16::from_ne_bytes([data[18], data[19]]),
    })
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
