//! A buffer from an AF_PACKET socket on an interface of another link type than Ethernet: as in
//! [`frame`](super::frame), but the kernel says where the network header starts, and there are no
//! VLANs.
//!
//! Apart from those, so that Ethernet frames, which are many more, do not pay for these.

use super::frame::{
    HEAD, PACKET_TYPE, SLOT_ADDRESS, SLOT_HEAD, VNET_HEADER, auxiliary, behind_vnet_header,
    checksum, half, word,
};
use super::{Arrival, OUT_HEADER, is_cut};
use crate::packet::{self, ChecksumState, Discard, FrameMeta};

/// A buffer of multishot receive.
#[inline(never)]
pub(super) fn read(buffer: &[u8], vnet_hdr: bool, verify: bool) -> Result<Arrival, Discard> {
    let head: &[u8; HEAD] = buffer.first_chunk().ok_or(Discard::Truncated)?;
    if is_cut(head) {
        return Err(Discard::TruncatedByUs);
    }
    if head[OUT_HEADER + PACKET_TYPE] == libc::PACKET_OTHERHOST {
        return Err(Discard::NotForUs);
    }
    read_any(buffer, vnet_hdr, verify)
}

/// A slot of a packet ring.
#[inline(never)]
pub(super) fn read_slot(slot: &[u8], verify: bool) -> Result<Arrival, Discard> {
    let head: &[u8; SLOT_HEAD] = slot.first_chunk().ok_or(Discard::Truncated)?;
    if word(head, 8) < word(head, 4) {
        return Err(Discard::TruncatedByUs);
    }
    if head[SLOT_ADDRESS + PACKET_TYPE] == libc::PACKET_OTHERHOST {
        return Err(Discard::NotForUs);
    }
    read_any_slot(slot, verify)
}

/// How many datagrams a buffer holds that is addressed to another host.
pub(super) fn count(buffer: &[u8], vnet_hdr: bool) -> u32 {
    read_any(buffer, vnet_hdr, false).map_or(1, |arrival| arrival.datagram.segments)
}

/// The same for a slot.
pub(super) fn count_slot(slot: &[u8]) -> u32 {
    read_any_slot(slot, false).map_or(1, |arrival| arrival.datagram.segments)
}

fn read_any(buffer: &[u8], vnet_hdr: bool, verify: bool) -> Result<Arrival, Discard> {
    let head: &[u8; HEAD] = buffer.first_chunk().ok_or(Discard::Truncated)?;
    let auxiliary = auxiliary(head);
    let network = auxiliary.map_or(0, |it| it.network);
    if vnet_hdr {
        return parse(buffer, behind_vnet_header(buffer, HEAD)?, network, verify);
    }
    let checksum = auxiliary.map_or(ChecksumState::Unverified, checksum);
    parse(buffer, (HEAD, checksum, 0), network, verify)
}

fn read_any_slot(slot: &[u8], verify: bool) -> Result<Arrival, Discard> {
    let head: &[u8; SLOT_HEAD] = slot.first_chunk().ok_or(Discard::Truncated)?;
    // `tp_mac` and `tp_net` count from the start of the slot.
    let [frame, network] = [12, 14].map(|at| half(head, at));
    let network = network.checked_sub(frame).ok_or(Discard::Truncated)?;
    let start = usize::from(frame).checked_sub(VNET_HEADER).ok_or(Discard::Truncated)?;
    parse(slot, behind_vnet_header(slot, start)?, network, verify)
}

/// Reads the frame at `start`, whose network header is so many bytes behind that.
fn parse(
    buffer: &[u8],
    (start, checksum, segment_size): (usize, ChecksumState, u16),
    network: u16,
    verify: bool,
) -> Result<Arrival, Discard> {
    let checksum = if verify { checksum } else { ChecksumState::Ignored };
    let frame = buffer.get(start..).ok_or(Discard::Truncated)?;
    let meta = FrameMeta { vlan: None, checksum, segment_size };
    let mut datagram = packet::parse_network(frame, network.into(), meta)?;
    datagram.payload.start += u32::try_from(start).map_err(|_| Discard::BadLength)?;
    let segment = if datagram.segments > 1 { segment_size } else { 0 };
    Ok(Arrival { datagram, segment })
}
