//! The parser against etherparse, a parser that others wrote.

use _native::addr::Addr;
use _native::packet::{ChecksumState, Datagram, Discard, FrameMeta, VlanTag, parse};
use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6FragmentHeader,
    Ipv6Header, Ipv6RawExtHeader, Ipv6RoutingExtensions, LinkExtSlice, NetSlice, PacketBuilder,
    SlicedPacket, TransportSlice, UdpSlice,
};
use proptest::prelude::*;
use proptest::sample::Index;

const UNVERIFIED: FrameMeta =
    FrameMeta { vlan: None, checksum: ChecksumState::Unverified, segment_size: 0 };
const TRUSTED: FrameMeta = FrameMeta { checksum: ChecksumState::Trusted, ..UNVERIFIED };

proptest! {
    #[test]
    fn any_bytes_give_a_datagram_within_them_or_a_reason(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        meta in meta(),
    ) {
        check_bounds(&bytes, meta)?;
    }

    #[test]
    fn a_built_frame_is_read_as_it_was_built(frame in frame()) {
        let seen = parse(&frame, UNVERIFIED);
        prop_assert_eq!(fields(&frame, &seen), Ok(oracle(&frame)));
    }

    #[test]
    fn a_built_frame_cut_anywhere_is_truncated(frame in frame_without_padding(), at in any::<Index>()) {
        let cut = &frame[..at.index(frame.len())];
        prop_assert_eq!(parse(cut, TRUSTED), Err(Discard::Truncated));
    }

    #[test]
    fn a_damaged_frame_is_read_as_the_oracle_reads_it(
        frame in frame(),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        header_only in any::<bool>(),
    ) {
        let mut frame = frame;
        for (at, byte) in damage {
            let end = if header_only { frame.len().min(64) } else { frame.len() };
            frame[at.index(end)] = byte;
        }
        check_bounds(&frame, UNVERIFIED)?;
        let seen = parse(&frame, TRUSTED);
        let expected = oracle(&frame);
        match (&seen, &expected) {
            (Ok(_), Some(_)) => prop_assert_eq!(fields(&frame, &seen), Ok(expected)),
            // The oracle is stricter about the order of extension headers.
            (Ok(datagram), None) => prop_assert!(!datagram.group.is_v4(), "IPv4 is never laxer"),
            (Err(reason), Some(_)) => prop_assert_eq!(Some(*reason), allowed_refusal(&frame)),
            (Err(_), None) => {}
        }
    }
}

/// What both parsers tell about a datagram.
#[derive(Debug, PartialEq)]
struct Fields {
    addresses: [Addr; 2],
    ports: [u16; 2],
    ttl: u8,
    dscp: u8,
    vlan: u16,
    payload: Vec<u8>,
    checksum_holds: bool,
}

fn fields(frame: &[u8], seen: &Result<Datagram, Discard>) -> Result<Option<Fields>, Discard> {
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

/// What etherparse finds, where it finds a whole UDP datagram.
fn oracle(frame: &[u8]) -> Option<Fields> {
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
    match packet.net? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            if header.calc_header_checksum() != ip.header().header_checksum() {
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
        // A mobility header and its like, which the oracle skips.
        _ => Some(Discard::NotUdp),
    }
}

/// Parses, and checks what holds for every outcome.
fn check_bounds(frame: &[u8], meta: FrameMeta) -> Result<(), TestCaseError> {
    if let Ok(datagram) = parse(frame, meta) {
        prop_assert!(datagram.payload.start >= 42);
        prop_assert!(datagram.payload.start + datagram.payload.len <= u32::try_from(frame.len())?);
        prop_assert!(datagram.segments >= 1);
        prop_assert!(datagram.dscp < 64 && datagram.vlan < 4096);
        let whole = u64::from(datagram.segments) * u64::from(meta.segment_size);
        prop_assert!(meta.segment_size == 0 || whole >= u64::from(datagram.payload.len));
    }
    Ok(())
}

fn meta() -> impl Strategy<Value = FrameMeta> {
    let vlan = prop::option::of(any::<(u16, u16)>());
    (vlan, any::<bool>(), any::<u16>()).prop_map(|(vlan, trusted, segment_size)| FrameMeta {
        vlan: vlan.map(|(tpid, tci)| VlanTag { tpid, tci }),
        checksum: if trusted { ChecksumState::Trusted } else { ChecksumState::Unverified },
        segment_size,
    })
}

/// A frame that must be accepted.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    (frame_without_padding(), prop::collection::vec(any::<u8>(), 0..20))
        .prop_map(|(frame, padding)| [frame, padding].concat())
}

fn frame_without_padding() -> impl Strategy<Value = Vec<u8>> {
    let ip = prop_oneof![ipv4(), ipv6()];
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    (tags(), ip, any::<[u16; 2]>(), payload).prop_map(|(tags, ip, ports, payload)| {
        let builder = PacketBuilder::ethernet2([2; 6], [1; 6]).ip(ip).udp(ports[0], ports[1]);
        let mut frame = vec![0; builder.size(payload.len())];
        assert!(builder.write_to_slice(&mut frame, &payload).is_ok(), "the frame is built");
        [&frame[..12], &tags, &frame[12..]].concat()
    })
}

/// The bytes of up to three tags, at most one of them with a VLAN identifier.
fn tags() -> impl Strategy<Value = Vec<u8>> {
    let tpid = prop_oneof![Just(0x8100_u16), Just(0x88a8), Just(0x9100)];
    let tags = prop::collection::vec((tpid, any::<u16>()), 0..=3);
    (tags, any::<Index>()).prop_map(|(tags, named)| {
        let named = named.index(tags.len().max(1));
        let tag = |(place, (tpid, tci)): (usize, (u16, u16))| {
            let tci = if place == named { tci } else { tci & 0xf000 };
            [tpid.to_be_bytes(), tci.to_be_bytes()].concat()
        };
        tags.into_iter().enumerate().flat_map(tag).collect()
    })
}

fn ipv4() -> BoxedStrategy<IpHeaders> {
    (any::<[[u8; 4]; 2]>(), any::<u8>(), 0..64_u8, prop::collection::vec(any::<u8>(), 0..=10))
        .prop_map(|([source, destination], time_to_live, dscp, words)| {
            let options: Vec<u8> = words.iter().flat_map(|word| [*word; 4]).collect();
            let header = Ipv4Header {
                source,
                destination,
                time_to_live,
                dscp: dscp.try_into().unwrap_or_default(),
                options: Ipv4Options::try_from(&options[..]).unwrap_or_default(),
                ..Ipv4Header::default()
            };
            IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())
        })
        .boxed()
}

fn ipv6() -> BoxedStrategy<IpHeaders> {
    (any::<[[u8; 16]; 2]>(), any::<u8>(), any::<u8>(), extensions())
        .prop_map(|([source, destination], hop_limit, traffic_class, extensions)| {
            let header = Ipv6Header {
                source,
                destination,
                hop_limit,
                traffic_class,
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(header, extensions)
        })
        .boxed()
}

fn extensions() -> impl Strategy<Value = Ipv6Extensions> {
    let raw = || {
        prop::option::of((0..4_usize).prop_map(|units| {
            Ipv6RawExtHeader::new_raw(IpNumber::UDP, &vec![1; 6 + units * 8]).ok()
        }))
        .prop_map(Option::flatten)
    };
    (raw(), raw(), raw(), raw(), any::<bool>()).prop_map(|(hop, first, routing, last, atomic)| {
        let fragment = Ipv6FragmentHeader::new(IpNumber::UDP, IpFragOffset::ZERO, false, 7);
        Ipv6Extensions {
            hop_by_hop_options: hop,
            destination_options: first,
            routing: routing
                .map(|routing| Ipv6RoutingExtensions { routing, final_destination_options: last }),
            fragment: atomic.then_some(fragment),
            auth: None,
        }
    })
}
