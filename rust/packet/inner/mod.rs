//! Offloaded work on packets inside a datagram (VXLAN, GENEVE, GRE in UDP and similar), which the
//! kernel has left to the hardware: a checksum, or the segmentation into packets. It is done here
//! as the kernel does it for a device without support (net/core/dev.c, `skb_checksum_help`;
//! net/ipv4/udp_offload.c, `__udp_gso_segment`; net/ipv4/tcp_offload.c, `tcp_gso_segment`).
//!
//! All of it is rare, and the frame's content cannot be trusted.

use super::{Discard, TCP, UDP, checksum};

/// The lengths in bytes of an IPv4 header without and with all options, and of an IPv6 header.
const IPV4: usize = 20;
const LONGEST_IPV4: usize = 60;
const IPV6: usize = 40;
const UDP_HEADER: usize = 8;
const LEAST_TCP_HEADER: usize = 20;
/// The flag "congestion window reduced", kept only in the first packet.
const TCP_CWR: u8 = 0x80;
/// The flags "push" and "finish", kept only in the last packet.
const TCP_PSH_FIN: u8 = 0x09;
/// The headers of a tunnel before its IP header: GENEVE with all options, Ethernet, two VLAN tags.
const LONGEST_TUNNEL: usize = 8 + 252 + 14 + 8;

/// The remaining work in the payload of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// The offset of the inner transport header in the payload, in bytes.
    pub transport: usize,
    /// The offset of its checksum in that header, in bytes.
    pub checksum: usize,
    /// The segmentation of the inner packet; `None` if only its checksum is missing.
    pub cut: Option<Cut>,
}

/// The segmentation of an inner packet that stands for many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Whether the packets are TCP segments, not UDP datagrams.
    pub is_tcp: bool,
    /// Bytes after the transport header in each packet; the last may have fewer.
    pub size: u16,
}

/// The resulting datagrams of a payload, in sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The length of all payloads in bytes.
    pub len: u32,
    /// The length of each payload but the last in bytes; 0 for a single one.
    pub segment: u16,
    /// The number of datagrams.
    pub count: u32,
}

impl Offload {
    /// The remaining work of a UDP socket's super-datagram that results from its inner packet. The
    /// kernel reports the segment size, `size`, but not of what. The inner packet decides: if it
    /// ends where all segments end, it is to be segmented; in a datagram that was merged with
    /// others like it, the inner packet ends earlier.
    #[must_use]
    pub fn find(payload: &[u8], size: u16) -> Option<Self> {
        let transport = (0..=LONGEST_TUNNEL).step_by(2).find_map(|at| {
            let header = payload.get(at..)?.first_chunk::<6>()?;
            let rest = payload.len() - at;
            let header_len = match header[0] >> 4 {
                4 if read_u16(header, 2) == Some(rest) => usize::from(header[0] & 0x0f) * 4,
                6 if read_u16(header, 4).is_some_and(|len| len + IPV6 == rest) => IPV6,
                _ => return None,
            };
            let transport = at + header_len;
            let udp = payload.get(transport..)?;
            let is_inner =
                network(payload, transport, UDP)?.at == at && read_u16(udp, 4)? == udp.len();
            is_inner.then_some(transport)
        })?;
        Some(Self { transport, checksum: 6, cut: Some(Cut { is_tcp: false, size }) })
    }

    /// Writes the completed datagrams of `payload` to `room`.
    ///
    /// # Errors
    /// [`Discard::BadHeader`] if the payload contradicts the offload, has become longer than the
    /// room, or is protected by a checksum or a number of the tunnel's own.
    pub fn finish(&self, payload: &[u8], room: &mut [u8]) -> Result<Finished, Discard> {
        let finished = match self.cut {
            None => self.add_checksum(payload, room),
            Some(cut) => self.cut(cut, payload, room),
        };
        finished.ok_or(Discard::BadHeader)
    }

    /// Completes the checksum; the field holds the sum of the pseudo header.
    fn add_checksum(&self, payload: &[u8], room: &mut [u8]) -> Option<Finished> {
        let sum = checksum::transport(&[], payload.get(self.transport..)?, 0);
        let copy = room.get_mut(..payload.len())?;
        copy.copy_from_slice(payload);
        put(copy, self.transport + self.checksum, sum)?;
        Some(Finished { len: u32::try_from(payload.len()).ok()?, segment: 0, count: 1 })
    }

    fn cut(&self, cut: Cut, payload: &[u8], room: &mut [u8]) -> Option<Finished> {
        let protocol = if cut.is_tcp { TCP } else { UDP };
        let network = network(payload, self.transport, protocol)?;
        if has_per_packet_fields(payload.get(..network.at)?) {
            return None;
        }
        let header_len = if cut.is_tcp {
            let words = payload.get(self.transport + 12)? >> 4;
            Some(usize::from(words) * 4).filter(|&len| len >= LEAST_TCP_HEADER)?
        } else {
            UDP_HEADER
        };
        let (head, data) = payload.split_at_checked(self.transport + header_len)?;
        let size = Some(usize::from(cut.size)).filter(|&size| size > 0)?;
        let count = data.len().div_ceil(size).max(1);
        let len = count.checked_mul(head.len())?.checked_add(data.len())?;
        let segment = u16::try_from(head.len() + size).ok()?;
        let mut pieces = data.chunks(size);
        let places = room.get_mut(..len)?.chunks_mut(usize::from(segment));
        for (number, place) in places.enumerate() {
            let (to_head, to_data) = place.split_at_mut_checked(head.len())?;
            to_head.copy_from_slice(head);
            to_data.copy_from_slice(pieces.next().unwrap_or_default());
            let piece = InnerSegment { number, is_last: number + 1 == count };
            piece.write_transport(place, self.transport, cut)?;
            network.write(place, number)?;
            network.write_checksum(place, self.transport, protocol)?;
        }
        let count = u32::try_from(count).ok()?;
        let segment = if count > 1 { segment } else { 0 };
        Some(Finished { len: u32::try_from(len).ok()?, segment, count })
    }
}

/// One of the packets that an inner packet is segmented into.
struct InnerSegment {
    number: usize,
    is_last: bool,
}

impl InnerSegment {
    /// Writes the fields in which the transport header differs from the original, except the
    /// checksum.
    fn write_transport(&self, place: &mut [u8], transport: usize, cut: Cut) -> Option<()> {
        if !cut.is_tcp {
            let length = u16::try_from(place.len() - transport).ok()?;
            return put(place, transport + 4, length.to_be_bytes());
        }
        let skipped = u32::try_from(self.number).ok()?.wrapping_mul(cut.size.into());
        let sequence = place.get_mut(transport + 4..)?.first_chunk_mut::<4>()?;
        *sequence = u32::from_be_bytes(*sequence).wrapping_add(skipped).to_be_bytes();
        let flags = place.get_mut(transport + 13)?;
        if !self.is_last {
            *flags &= !TCP_PSH_FIN;
        }
        if self.number > 0 {
            *flags &= !TCP_CWR;
        }
        Some(())
    }
}

/// An inner IP header.
struct InnerIp {
    /// The offset of its start.
    at: usize,
    is_v4: bool,
}

/// The IP header that ends where the transport header starts, if its packet ends with the payload.
fn network(payload: &[u8], transport: usize, protocol: u8) -> Option<InnerIp> {
    let is_v4 = |at: &usize| {
        let header = payload.get(*at..transport).unwrap_or_default();
        let len = u8::try_from(header.len() / 4).unwrap_or_default();
        header.first() == Some(&(0x40 | len))
            && read_u16(header, 2) == Some(payload.len() - at)
            && header.get(9) == Some(&protocol)
            && checksum::holds(header)
    };
    let lengths = (IPV4..=LONGEST_IPV4).step_by(4);
    if let Some(at) = lengths.filter_map(|len| transport.checked_sub(len)).find(is_v4) {
        return Some(InnerIp { at, is_v4: true });
    }
    let at = transport.checked_sub(IPV6)?;
    let header = payload.get(at..transport)?;
    let is_v6 = header.first()? >> 4 == 6
        && read_u16(header, 4)? == payload.len() - transport
        && header.get(6) == Some(&protocol);
    is_v6.then_some(InnerIp { at, is_v4: false })
}

impl InnerIp {
    /// Writes the fields in which the header of segment `number` differs. The identification
    /// increases, as in all packets that the kernel segments. If the original had a constant one,
    /// which the kernel does not report, the packets may not be fragmented and it has no meaning
    /// (RFC 6864).
    fn write(&self, place: &mut [u8], number: usize) -> Option<()> {
        let packet = place.get_mut(self.at..)?;
        let len = u16::try_from(packet.len()).ok()?;
        if !self.is_v4 {
            return put(packet, 4, len.checked_sub(40)?.to_be_bytes());
        }
        put(packet, 2, len.to_be_bytes())?;
        let first = u16::try_from(read_u16(packet, 4)?).ok()?;
        let [.., high, low] = number.to_be_bytes();
        put(packet, 4, first.wrapping_add(u16::from_be_bytes([high, low])).to_be_bytes())?;
        put(packet, 10, [0; 2])?;
        let header_len = usize::from(packet.first()? & 0x0f) * 4;
        let sum = checksum::of(packet.get(..header_len)?);
        put(packet, 10, sum)
    }

    /// Writes the checksum of the transport header.
    fn write_checksum(&self, place: &mut [u8], transport: usize, protocol: u8) -> Option<()> {
        let field = if protocol == TCP { 16 } else { 6 };
        put(place, transport + field, [0; 2])?;
        let addresses = if self.is_v4 { 12..20 } else { 8..40 };
        let header = place.get(self.at..transport)?;
        let sum = checksum::transport(header.get(addresses)?, place.get(transport..)?, protocol);
        put(place, transport + field, sum)
    }
}

/// Whether the tunnel's headers contain fields that differ for each packet, so that no packet can
/// be derived from another: GRE with a checksum or a sequence number (RFC 2890), VXLAN with the
/// position of a checksum to compute (draft-herbert-vxlan-rco).
fn has_per_packet_fields(tunnel: &[u8]) -> bool {
    const GRE_CHECKSUM_OR_SEQUENCE: u8 = 0x90;
    const GRE_UNUSED: u8 = 0x4f;
    const VXLAN_VNI: u8 = 0x08;
    const VXLAN_CHECKSUM: u8 = 0x20;
    let Some(&[first, second, third, fourth]) = tunnel.first_chunk() else { return false };
    let carried = u16::from_be_bytes([third, fourth]);
    let is_gre = first & GRE_UNUSED == 0 && matches!(carried, 0x0800 | 0x86dd | 0x6558);
    let is_vxlan = first & VXLAN_VNI != 0;
    is_gre && first & GRE_CHECKSUM_OR_SEQUENCE != 0 || is_vxlan && second & VXLAN_CHECKSUM != 0
}

fn read_u16(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)))
}

fn put(bytes: &mut [u8], at: usize, value: [u8; 2]) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value;
    Some(())
}

#[cfg(test)]
mod tests;
