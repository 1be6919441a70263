//! The parser for frames, which finds the datagram or the reason why there is none, and the writers
//! for the headers of a copy and for complete frames.
//!
//! The parser covers Ethernet, VLAN tags, IPv4, IPv6 and UDP. For other link types the caller
//! provides the offset of the network header. Any bytes are valid input: nothing here panics or
//! allocates, and only the writer of frames copies a payload. This module must not depend on sockets,
//! buffers or rules.

mod checksum;
mod compose;
mod discard;
mod ethernet;
mod frame;
mod inner;
mod ipv4;
mod ipv6;
mod probe;
#[cfg(test)]
mod tests;
mod udp;

pub use compose::{Headers, MAX_HEADERS};
pub use discard::Discard;
pub use ethernet::LinkType;
pub use frame::{EthernetHeader, FrameTemplate, PayloadSum, group_mac};
pub use inner::{Cut, Finished, Offload};
pub use probe::{HEADER_BYTES, ProbeHeader};

use crate::addr::Addr;
use ethernet::LinkHeader;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// A value that no frame has: numbers below 0x0600 are lengths (IEEE 802.3).
const NO_ETHERTYPE: u16 = 0;
/// The protocol numbers of UDP and TCP in both IP versions.
const UDP: u8 = 17;
const TCP: u8 = 6;

/// The kernel's information about a frame besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameMeta {
    /// The outer VLAN tag, which the kernel has removed from the frame.
    pub vlan: Option<VlanTag>,
    /// The state of the UDP checksum.
    pub checksum: ChecksumState,
    /// Payload bytes of each datagram in a super-frame (the last may have fewer); 0 for an ordinary
    /// frame.
    pub segment_size: u16,
}

/// A VLAN tag (IEEE 802.1Q).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanTag {
    /// The tag protocol identifier, 0x8100 for a customer tag.
    pub tpid: u16,
    /// The tag control information: priority and VLAN identifier.
    pub tci: u16,
}

/// The state of the UDP checksum of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumState {
    /// Not verified yet: [`parse`] verifies it.
    Unverified,
    /// The kernel or the device vouches for it, or it is still to be computed.
    Trusted,
    /// The user accepts any checksum, even none in IPv6.
    Ignored,
}

/// The position of a datagram's bytes in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The offset from the start of the frame in bytes.
    pub start: u32,
    /// The length in bytes.
    pub len: u32,
}

/// A datagram, or the equal-sized datagrams of one super-frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The source address.
    pub source: Addr,
    /// The destination address: a group, or an address of this host.
    pub group: Addr,
    /// The source port.
    pub source_port: u16,
    /// The destination port.
    pub port: u16,
    /// Time to live, or the hop limit of IPv6.
    pub ttl: u8,
    /// The differentiated services code point, 0 to 63.
    pub dscp: u8,
    /// The VLAN identifier; 0 for an untagged frame and for a priority tag.
    pub vlan: u16,
    /// The UDP payload.
    pub payload: Span,
    /// The number of datagrams: 1, or more in a super-frame. An empty datagram counts as one.
    pub segments: u32,
}

/// Finds the datagram in an Ethernet frame.
///
/// # Errors
///
/// The reason why the frame contains no datagram to relay. The first one found counts: link, then
/// network, then transport.
#[inline(always)]
pub fn parse(frame: &[u8], meta: FrameMeta) -> Result<Datagram, Discard> {
    parse_of(LinkType::Ethernet, frame, meta, || 0)
}

/// The same for a frame of this link type. `network` returns the offset of the network header in
/// bytes; it is used only for link types other than Ethernet.
///
/// # Errors
///
/// As [`parse`].
// Always inlined: storing a result in narrow fields and copying it in wide words stalls the
// processor for as long as all of the parsing takes.
#[inline(always)]
pub fn parse_of(
    link_type: LinkType,
    frame: &[u8],
    meta: FrameMeta,
    network: impl FnOnce() -> u16,
) -> Result<Datagram, Discard> {
    let link = ethernet::read(frame, meta.vlan)?;
    let ethertype = if link_type == LinkType::Ethernet { link.ethertype } else { NO_ETHERTYPE };
    match ethertype {
        ETHERTYPE_IPV4 => read_ipv4(frame, meta, link),
        ETHERTYPE_IPV6 => read_ipv6(frame, meta, link),
        _ => {
            // Unwrapped and wrapped again: a call writes its result to memory, but the results of
            // the branches above belong in registers.
            let datagram = parse_other(link_type, frame, meta, link, network())?;
            Ok(datagram)
        }
    }
}

/// Finds the datagram in a frame of another link type, whose network header starts at `network`, or
/// behind VLAN tags inside an Ethernet frame. These are rare, because the kernel removes the outer
/// tag.
#[cold]
#[inline(never)]
fn parse_other(
    link_type: LinkType,
    frame: &[u8],
    meta: FrameMeta,
    link: LinkHeader,
    network: u16,
) -> Result<Datagram, Discard> {
    let link = match link_type {
        LinkType::Ethernet => ethernet::skip_tags(frame, link.ethertype, link.vlan)?,
        LinkType::Other => {
            LinkHeader { ethertype: ethertype_at(frame, network)?, len: network.into(), ..link }
        }
    };
    match link.ethertype {
        ETHERTYPE_IPV4 => read_ipv4(frame, meta, link),
        ETHERTYPE_IPV6 => read_ipv6(frame, meta, link),
        _ => Err(Discard::NotIp),
    }
}

/// The destination address of a frame whose network header starts at `network`, or whose Ethernet
/// header says where; `None` if there is none. Nothing else in the frame has to be valid.
#[must_use]
pub fn destination(frame: &[u8], network: Option<usize>) -> Option<Addr> {
    let start = match network {
        Some(start) => start,
        None => {
            let link = ethernet::read(frame, None).ok()?;
            ethernet::skip_tags(frame, link.ethertype, link.vlan).ok()?.len as usize
        }
    };
    let packet = frame.get(start..)?;
    match packet.first()? >> 4 {
        4 => Some(Addr::v4(*packet.get(16..)?.first_chunk()?)),
        6 => Some(Addr::v6(*packet.get(24..)?.first_chunk()?)),
        _ => None,
    }
}

/// The protocol of a packet according to its version field, which both IP versions have at the same
/// position.
fn ethertype_at(frame: &[u8], network: u16) -> Result<u16, Discard> {
    match frame.get(usize::from(network)).ok_or(Discard::Truncated)? >> 4 {
        4 => Ok(ETHERTYPE_IPV4),
        6 => Ok(ETHERTYPE_IPV6),
        _ => Err(Discard::NotIp),
    }
}

#[inline(always)]
fn read_ipv4(frame: &[u8], meta: FrameMeta, link: LinkHeader) -> Result<Datagram, Discard> {
    let bytes = frame.get(link.len as usize..).ok_or(Discard::Truncated)?;
    read_datagram(meta, link, &ipv4::read(bytes)?)
}

#[inline(always)]
fn read_ipv6(frame: &[u8], meta: FrameMeta, link: LinkHeader) -> Result<Datagram, Discard> {
    let bytes = frame.get(link.len as usize..).ok_or(Discard::Truncated)?;
    read_datagram(meta, link, &ipv6::read(bytes)?)
}

/// Reads what follows the IP header before the rest of that header, so that discarding a frame
/// costs as little as possible.
#[inline(always)]
fn read_datagram<H: IpHeader>(
    meta: FrameMeta,
    link: LinkHeader,
    network: &IpPacket<'_, H>,
) -> Result<Datagram, Discard> {
    let udp = udp::read(network, meta.checksum)?;
    Ok(Datagram {
        source: network.header.source(),
        group: network.header.group(),
        source_port: udp.source_port,
        port: udp.port,
        ttl: network.header.ttl(),
        dscp: network.header.dscp(),
        vlan: link.vlan,
        payload: Span {
            start: link.len + network.header_len + udp::HEADER_LEN,
            len: u32::from(udp.payload_len),
        },
        segments: segments(udp.payload_len, meta.segment_size),
    })
}

/// The fields of an IP header of either version that UDP and a datagram need.
trait IpHeader {
    /// Whether a sender may omit the UDP checksum.
    const CHECKSUM_OPTIONAL: bool;

    /// Source and destination as in the header, for the UDP checksum.
    fn addresses(&self) -> &[u8];
    fn source(&self) -> Addr;
    fn group(&self) -> Addr;
    fn ttl(&self) -> u8;
    fn dscp(&self) -> u8;
}

/// A verified IP header and its payload.
struct IpPacket<'a, H> {
    header: H,
    /// The length of all headers before UDP in bytes.
    header_len: u32,
    /// The bytes from the UDP header to the end stated in the IP header.
    payload: &'a [u8],
}

/// The number of datagrams in a payload; `segment_size` is 0 outside super-frames.
#[inline]
fn segments(payload_len: u16, segment_size: u16) -> u32 {
    if segment_size == 0 {
        return 1;
    }
    u32::from(payload_len.div_ceil(segment_size).max(1))
}
