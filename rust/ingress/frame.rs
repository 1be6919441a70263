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
    let control_end = OUT_HEADER + ReceiveLayout::Frame.control_bytes();
    let data = buffer.get(control_end..).ok_or(Discard::Truncated)?;
    let auxiliary = auxiliary(buffer);
    let mut meta = FrameMeta {
        vlan: auxiliary.and_then(vlan_tag),
        checksum: auxiliary.map_or(ChecksumState::Unverified, checksum),
        segment_size: 0,
    };
    let mut start = control_end;
    if vnet_hdr {
        let header: &[u8; VNET_HEADER] = data.first_chunk().ok_or(Discard::Truncated)?;
        meta.checksum = if header[0] & CHECKSUM_SETTLED == 0 {
            ChecksumState::Unverified
        } else {
            ChecksumState::Trusted
        };
        if header[1] & !GSO_ECN == GSO_UDP_L4 {
            meta.segment_size = u16::from_ne_bytes([header[4], header[5]]);
        }
        start += VNET_HEADER;
    }
    if !verify {
        meta.checksum = ChecksumState::Trusted;
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
