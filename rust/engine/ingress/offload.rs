//! The `struct virtio_net_hdr` in front of a frame (linux/virtio_net.h): a checksum that is still
//! to be computed, or a frame that stands for many. It may describe a packet in a tunnel instead of
//! the datagram; that work is then done here before anything is relayed.

use super::{Arrival, read_u16};
use crate::packet::{
    self, ChecksumState, Cut, Datagram, Discard, FrameMeta, LinkType, Offload, Span,
};

/// The length of the header in bytes.
pub(super) const VNET_HEADER: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is still to be computed.
const NEEDS_CHECKSUM: u8 = 1;
/// That, or `VIRTIO_NET_HDR_F_DATA_VALID`.
const CHECKSUM_SETTLED: u8 = NEEDS_CHECKSUM | 2;
/// `VIRTIO_NET_HDR_GSO_TCPV4` and `_TCPV6`: TCP segments.
const GSO_TCP: [u8; 2] = [1, 4];
/// `VIRTIO_NET_HDR_GSO_UDP_L4`: a super-frame.
const GSO_UDP_L4: u8 = 5;
/// `VIRTIO_NET_HDR_GSO_ECN`, a flag in addition to the type.
const GSO_ECN: u8 = 0x80;
/// The length of a UDP header, and the offset of its checksum.
const UDP_HEADER: usize = 8;
const UDP_CHECKSUM: usize = 6;

/// A frame's header. Its offsets are relative to the start of the frame.
#[derive(Clone, Copy)]
pub(super) struct VnetHeader<'a>(&'a [u8; VNET_HEADER]);

impl<'a> VnetHeader<'a> {
    /// The header that starts at `start`.
    #[inline(always)]
    pub(super) fn at(buffer: &'a [u8], start: usize) -> Result<Self, Discard> {
        let data = buffer.get(start..).ok_or(Discard::Truncated)?;
        data.first_chunk().map(Self).ok_or(Discard::Truncated)
    }

    /// The state of the datagram's checksum.
    #[inline(always)]
    pub(super) fn checksum(self) -> ChecksumState {
        let is_settled = self.0[0] & CHECKSUM_SETTLED != 0;
        if is_settled { ChecksumState::Trusted } else { ChecksumState::Unverified }
    }

    /// The size in bytes of each datagram in a super-frame; 0 for any other frame.
    #[inline(always)]
    pub(super) fn segment_size(self) -> u16 {
        if self.gso_type() == GSO_UDP_L4 { read_u16(self.0, 4) } else { 0 }
    }

    /// Whether the kernel left any work, in the datagram or in a packet inside it.
    #[inline(always)]
    pub(super) fn leaves_work(self) -> bool {
        self.needs_checksum() || self.gso_type() != 0
    }

    /// Whether the remaining work is in a packet inside the frame's datagram. With a link type
    /// other than Ethernet the network header starts at `network`.
    #[inline(never)]
    pub(super) fn describes_inner(self, frame: &[u8], link: LinkType, network: u16) -> bool {
        const META: FrameMeta =
            FrameMeta { vlan: None, checksum: ChecksumState::Ignored, segment_size: 0 };
        if link == LinkType::Ethernet && self.describes(plain_udp(frame)) {
            return false;
        }
        let datagram = packet::parse_of(link, frame, META, || network);
        datagram.is_ok_and(|datagram| !self.describes(datagram.payload.start as usize - UDP_HEADER))
    }

    /// Whether it describes the datagram whose UDP header starts at `udp`: UDP alone, and the
    /// checksum in that header.
    fn describes(self, udp: usize) -> bool {
        let is_there = self.checksum_start() == udp && self.checksum_field() == UDP_CHECKSUM;
        matches!(self.gso_type(), 0 | GSO_UDP_L4) && (is_there || !self.needs_checksum())
    }

    #[inline(always)]
    fn needs_checksum(self) -> bool {
        self.0[0] & NEEDS_CHECKSUM != 0
    }

    #[inline(always)]
    fn gso_type(self) -> u8 {
        self.0[1] & !GSO_ECN
    }

    fn checksum_start(self) -> usize {
        read_u16(self.0, 6).into()
    }

    /// The offset of the checksum, from the start of the checksummed area.
    fn checksum_field(self) -> usize {
        read_u16(self.0, 8).into()
    }

    /// The remaining work in a payload that starts at `payload`; `None` if it is unknown.
    fn offload(self, payload: usize) -> Option<Offload> {
        let size = read_u16(self.0, 4);
        let cut = match self.gso_type() {
            0 => None,
            GSO_UDP_L4 => Some(Cut { is_tcp: false, size }),
            kind if GSO_TCP.contains(&kind) => Some(Cut { is_tcp: true, size }),
            _ => return None,
        };
        let transport = self.checksum_start().checked_sub(payload)?;
        let offload = Offload { transport, checksum: self.checksum_field(), cut };
        self.needs_checksum().then_some(offload)
    }
}

/// The offset of UDP in an Ethernet frame without tags and extension headers; 0 in any other.
fn plain_udp(frame: &[u8]) -> usize {
    let Some(head) = frame.first_chunk::<21>() else { return 0 };
    match ([head[12], head[13]], head[14] >> 4) {
        ([0x08, 0x00], 4) => 14 + usize::from(head[14] & 0x0f) * 4,
        ([0x86, 0xdd], 6) if head[20] == 17 => 14 + 40,
        _ => 0,
    }
}

/// Does the remaining work in the frame behind the header at `start`, which `parse` reads.
pub(super) fn finish(
    buffer: &[u8],
    start: usize,
    room: &mut [u8],
    parse: impl FnOnce(&[u8], FrameMeta) -> Result<Datagram, Discard>,
) -> Result<Arrival, Discard> {
    let header = VnetHeader::at(buffer, start)?;
    let frame = buffer.get(start + VNET_HEADER..).ok_or(Discard::Truncated)?;
    let meta = FrameMeta { vlan: None, checksum: ChecksumState::Ignored, segment_size: 0 };
    let datagram = parse(frame, meta)?;
    let offload = header.offload(datagram.payload.start as usize).ok_or(Discard::BadHeader)?;
    finish_datagram(frame, datagram, offload, room)
}

/// Does the remaining work in a datagram whose span is relative to the start of `bytes`.
pub(super) fn finish_datagram(
    bytes: &[u8],
    datagram: Datagram,
    offload: Offload,
    room: &mut [u8],
) -> Result<Arrival, Discard> {
    let Span { start, len } = datagram.payload;
    let payload = bytes.get(start as usize..).and_then(|rest| rest.get(..len as usize));
    let finished = offload.finish(payload.ok_or(Discard::Truncated)?, room)?;
    let payload = Span { start: 0, len: finished.len };
    let datagram = Datagram { payload, segments: finished.count, ..datagram };
    Ok(Arrival { datagram, segment: finished.segment })
}
