//! What etherparse, a parser that others wrote, finds in a frame; for tests and for fuzzing.

use _native::addr::Addr;
use _native::packet::{ChecksumState, Datagram, Discard, FrameMeta, parse};
use etherparse::{IpNumber, LinkExtSlice, NetSlice, SlicedPacket, TransportSlice, UdpSlice};

/// The most tags that the oracle reads.
const MOST_TAGS: usize = 3;

pub(crate) const UNVERIFIED: FrameMeta =
    FrameMeta { vlan: None, checksum: ChecksumState::Unverified, segment_size: 0 };
pub(crate) const TRUSTED: FrameMeta = FrameMeta { checksum: ChecksumState::Trusted, ..UNVERIFIED };

/// Compares what both parsers make of a frame; the error says how they differ.
pub(crate) fn compare(frame: &[u8]) -> Result<(), String> {
    let seen = parse(frame, TRUSTED);
    let expected = read(frame);
    let agree = match (&seen, &expected) {
        (Ok(_), Some(_)) => fields(frame, &seen).as_ref() == Ok(&expected),
        // The oracle is stricter about the order of extension headers, and stops behind some tags.
        (Ok(datagram), None) => !datagram.group.is_v4() || has_many_tags(frame),
        (Err(reason), Some(_)) => allowed_refusal(frame) == Some(*reason),
        (Err(_), None) => true,
    };
    if agree { Ok(()) } else { Err(format!("{seen:?} and {expected:?}")) }
}

/// What both parsers tell about a datagram.
#[derive(Debug, PartialEq)]
pub(crate) struct Fields {
    addresses: [Addr; 2],
    ports: [u16; 2],
    ttl: u8,
    dscp: u8,
    vlan: u16,
    payload: Vec<u8>,
    checksum_holds: bool,
}

pub(crate) fn fields(
    frame: &[u8],
    seen: &Result<Datagram, Discard>,
) -> Result<Option<Fields>, Discard> {
    let datagram = seen.as_ref().map_err(|reason| *reason)?;
    Ok(Some(Fields {
        addresses: [datagram.source, datagram.group],
        ports: [datagram.source_port, datagram.port],
        ttl: datagram.ttl,
        dscp: datagram.dscp,
        vlan: datagram.vlan,
        payload: payload(frame, datagram).to_vec(),
        checksum_holds: parse(frame, UNVERIFIED).is_ok(),
    }))
}

fn payload<'a>(frame: &'a [u8], datagram: &Datagram) -> &'a [u8] {
    &frame[datagram.payload.start as usize..][..datagram.payload.len as usize]
}

/// The checksum that an IPv4 header should have (RFC 1071). That of etherparse leaves out the
/// reserved flag.
pub(crate) fn header_checksum(header: &[u8]) -> u16 {
    let words = header.as_chunks().0.iter().map(|word| u32::from(u16::from_be_bytes(*word)));
    let others = words.enumerate().filter_map(|(at, word)| (at != 5).then_some(word));
    let sum: u32 = others.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(0)
}

/// What etherparse finds, where it finds a whole UDP datagram.
pub(crate) fn read(frame: &[u8]) -> Option<Fields> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { return None };
    let (addresses, ttl, dscp, computed) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            let (source, group) = (header.source(), header.destination());
            let sum = udp.to_header().calc_checksum_ipv4_raw(source, group, udp.payload());
            let addresses = [Addr::v4(source), Addr::v4(group)];
            (addresses, header.ttl(), header.dcp().value(), sum.ok()?)
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let (source, group) = (header.source(), header.destination());
            let sum = udp.to_header().calc_checksum_ipv6_raw(source, group, udp.payload());
            let addresses = [Addr::v6(source), Addr::v6(group)];
            (addresses, header.hop_limit(), header.dscp().value(), sum.ok()?)
        }
        NetSlice::Arp(_) => return None,
    };
    Some(Fields {
        addresses,
        ports: [udp.source_port(), udp.destination_port()],
        ttl,
        dscp,
        vlan: vlans(&packet).fold(0, |all, vlan| all | vlan),
        payload: udp.payload().to_vec(),
        checksum_holds: holds(udp, addresses, computed),
    })
}

fn holds(udp: &UdpSlice<'_>, [source, _]: [Addr; 2], computed: u16) -> bool {
    match udp.checksum() {
        0 => source.is_v4(),
        field => field == computed,
    }
}

/// The VLAN identifiers that are not those of priority tags.
fn vlans(packet: &SlicedPacket<'_>) -> impl Iterator<Item = u16> {
    packet.link_exts.iter().filter_map(|tag| match tag {
        LinkExtSlice::Vlan(tag) => Some(tag.vlan_identifier().value()).filter(|vlan| *vlan != 0),
        LinkExtSlice::Macsec(_) => None,
    })
}

/// Whether a frame has as many tags as the oracle reads.
fn has_many_tags(frame: &[u8]) -> bool {
    SlicedPacket::from_ethernet(frame).is_ok_and(|packet| packet.link_exts.len() >= MOST_TAGS)
}

/// Why a frame may be refused in which the oracle found UDP: what it does not look at, and the
/// lengths of zero to which it gives a meaning.
fn allowed_refusal(frame: &[u8]) -> Option<Discard> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    if packet.link_exts.iter().any(|tag| matches!(tag, LinkExtSlice::Macsec(_))) {
        return Some(Discard::NotIp);
    }
    if vlans(&packet).count() > 1 {
        return Some(Discard::Vlan);
    }
    let is_v6 = matches!(packet.net, Some(NetSlice::Ipv6(_)));
    match packet.net? {
        NetSlice::Ipv4(ip) => {
            if header_checksum(ip.header().slice()) != ip.header().header_checksum() {
                return Some(Discard::BadHeader);
            }
            if ip.header().protocol() != IpNumber::UDP {
                return Some(Discard::NotUdp);
            }
        }
        NetSlice::Ipv6(ip) if ip.header().payload_length() == 0 => return Some(Discard::BadLength),
        _ => {}
    }
    match packet.transport? {
        TransportSlice::Udp(udp) if udp.length() == 0 => Some(Discard::BadLength),
        // It must be there, whoever vouches for it.
        TransportSlice::Udp(udp) if is_v6 && udp.checksum() == 0 => Some(Discard::BadChecksum),
        // A mobility header and its like, which the oracle skips.
        _ => Some(Discard::NotUdp),
    }
}
