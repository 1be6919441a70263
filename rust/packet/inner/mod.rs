//! Packets inside a datagram (VXLAN, GENEVE, GRE in UDP and their kin) on which the kernel has left
//! work to the hardware: a checksum, or the cut into packets of a size. Here that work is done, as
//! the kernel does it for a device that cannot (net/core/dev.c, `skb_checksum_help`;
//! net/ipv4/udp_offload.c, `__udp_gso_segment`; net/ipv4/tcp_offload.c, `tcp_gso_segment`).
//!
//! All of it is rare, and whoever made the frame may lie. Must not know where the payload came from.

use super::{Discard, TCP, UDP, checksum};

/// An IPv4 header without and with all options, and an IPv6 header: bytes.
const IPV4: usize = 20;
const LONGEST_IPV4: usize = 60;
const IPV6: usize = 40;
const UDP_HEADER: usize = 8;
const LEAST_TCP_HEADER: usize = 20;
/// The flag "congestion window reduced", which the first packet alone keeps.
const TCP_CWR: u8 = 0x80;
/// The flags "push" and "finish", which the last packet alone keeps.
const TCP_PSH_FIN: u8 = 0x09;
/// The headers of a tunnel before its IP header: GENEVE with all options, Ethernet, two VLAN tags.
const LONGEST_TUNNEL: usize = 8 + 252 + 14 + 8;

/// What is left to be done in the payload of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// Where the inner transport header starts, in bytes from the start of the payload.
    pub transport: usize,
    /// Where its checksum stands, in bytes from there.
    pub checksum: usize,
    /// How the inner packet is to be cut; `None` where only its checksum is missing.
    pub cut: Option<Cut>,
}

/// An inner packet that stands for many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Whether they are TCP segments, and not UDP datagrams.
    pub is_tcp: bool,
    /// Bytes that each carries behind its transport header; the last may be shorter.
    pub size: u16,
}

/// The datagrams that a payload has become, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Bytes of all payloads.
    pub len: u32,
    /// Bytes of each payload but the last; 0 when it is one.
    pub segment: u16,
    /// How many datagrams.
    pub count: u32,
}

impl Offload {
    /// What is left of a UDP socket's super-datagram that is one because of the packet inside: the
    /// kernel says the size of the pieces, `size`, but not of what. An inner packet that ends where
    /// all pieces end tells: a datagram that was merged with its like holds one that ends before.
    #[must_use]
    pub fn find(payload: &[u8], size: u16) -> Option<Self> {
        let transport = (0..=LONGEST_TUNNEL).step_by(2).find_map(|at| {
            let header = payload.get(at..)?.first_chunk::<6>()?;
            let rest = payload.len() - at;
            let header_len = match header[0] >> 4 {
                4 if half(header, 2) == Some(rest) => usize::from(header[0] & 0x0f) * 4,
                6 if half(header, 4).is_some_and(|len| len + IPV6 == rest) => IPV6,
                _ => return None,
            };
            let transport = at + header_len;
            let udp = payload.get(transport..)?;
            let is_inner = network(payload, transport, UDP)?.at == at && half(udp, 4)? == udp.len();
            is_inner.then_some(transport)
        })?;
        Some(Self { transport, checksum: 6, cut: Some(Cut { is_tcp: false, size }) })
    }

    /// Writes the datagrams of `payload` as they are meant to `room`.
    ///
    /// # Errors
    /// [`Discard::BadHeader`] when the payload is not what the offload says, or has become longer
    /// than the room, or is sealed by a checksum or number of the tunnel's own.
    pub fn finish(&self, payload: &[u8], room: &mut [u8]) -> Result<Finished, Discard> {
        let finished = match self.cut {
            None => self.add_checksum(payload, room),
            Some(cut) => self.cut(cut, payload, room),
        };
        finished.ok_or(Discard::BadHeader)
    }

    /// The field holds the sum of the pseudo header, and all behind it is added.
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
        if is_sealed(payload.get(..network.at)?) {
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

/// One of the packets that an inner packet is cut into.
struct InnerSegment {
    number: usize,
    is_last: bool,
}

impl InnerSegment {
    /// Writes what differs from the transport header of the whole, but for the checksum.
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
    /// Where it starts.
    at: usize,
    is_v4: bool,
}

/// The IP header that ends where the transport header starts, if its packet ends with the payload.
fn network(payload: &[u8], transport: usize, protocol: u8) -> Option<InnerIp> {
    let is_v4 = |at: &usize| {
        let header = payload.get(*at..transport).unwrap_or_default();
        let len = u8::try_from(header.len() / 4).unwrap_or_default();
        header.first() == Some(&(0x40 | len))
            && half(header, 2) == Some(payload.len() - at)
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
        && half(header, 4)? == payload.len() - transport
        && header.get(6) == Some(&protocol);
    is_v6.then_some(InnerIp { at, is_v4: false })
}

impl InnerIp {
    /// Writes what differs in the header of the piece `number`. The identification counts on, as
    /// for all that the kernel cuts; where the whole had a constant one, which nobody tells, the
    /// packets may not be fragmented and it means nothing (RFC 6864).
    fn write(&self, place: &mut [u8], number: usize) -> Option<()> {
        let packet = place.get_mut(self.at..)?;
        let len = u16::try_from(packet.len()).ok()?;
        if !self.is_v4 {
            return put(packet, 4, len.checked_sub(40)?.to_be_bytes());
        }
        put(packet, 2, len.to_be_bytes())?;
        let first = u16::try_from(half(packet, 4)?).ok()?;
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

/// Whether the headers of a tunnel hold what is different for each packet, so that none can be made
/// out of another: GRE with a checksum or a sequence number (RFC 2890), VXLAN that tells where a
/// checksum is to be made (draft-herbert-vxlan-rco).
fn is_sealed(tunnel: &[u8]) -> bool {
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

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)))
}

fn put(bytes: &mut [u8], at: usize, value: [u8; 2]) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value;
    Some(())
}

#[cfg(test)]
mod tests;
