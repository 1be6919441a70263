//! Every reason, every truncation and every variant of hand-made frames.

use super::*;
use frames::{
    IP, V4_GROUP, V4_SOURCE, V4_UDP, V6_GROUP, V6_SOURCE, V6_UDP, be, ethernet, ipv4, ipv6,
    patched, tagged, udp, v4_frame, v6_extended, v6_frame,
};

mod checksums;
mod composed;
mod frames;
mod headers;

const PLAIN: FrameMeta =
    FrameMeta { vlan: None, checksum: ChecksumState::Unverified, segment_size: 0 };
const TRUSTED: FrameMeta = FrameMeta { checksum: ChecksumState::Trusted, ..PLAIN };
const IGNORED: FrameMeta = FrameMeta { checksum: ChecksumState::Ignored, ..PLAIN };

fn payload_of<'a>(frame: &'a [u8], datagram: &Datagram) -> &'a [u8] {
    let Span { start, len } = datagram.payload;
    &frame[start as usize..][..len as usize]
}

fn discard(frame: &[u8], meta: FrameMeta) -> Option<Discard> {
    parse(frame, meta).err()
}

#[test]
fn on_other_links_the_network_header_may_start_anywhere() {
    for frame in [v4_frame(b"hello"), v6_frame(b"hello")] {
        for network in [0, 4, 24] {
            let other = [vec![0xcc; network], frame[IP..].to_vec()].concat();
            let read = |other: &[u8], meta| {
                parse_of(LinkType::Other, other, meta, || u16::try_from(network).unwrap())
            };
            let datagram = read(&other, PLAIN).unwrap();
            assert_eq!(payload_of(&other, &datagram), b"hello");
            let start = parse(&frame, PLAIN).unwrap().payload.start;
            let payload = Span { start, ..datagram.payload };
            assert_eq!(Datagram { payload, ..datagram }, parse(&frame, PLAIN).unwrap());
            for len in 0..other.len() {
                assert_eq!(read(&other[..len], PLAIN), Err(Discard::Truncated));
            }
            let mut damaged = other.clone();
            *damaged.last_mut().unwrap() ^= 1;
            assert_eq!(read(&damaged, PLAIN), Err(Discard::BadChecksum));
            assert_eq!(read(&damaged, TRUSTED).map(|it| it.segments), Ok(1));
            damaged[network] = 0x55;
            assert_eq!(read(&damaged, TRUSTED), Err(Discard::NotIp));
        }
    }
}

#[test]
fn only_ethernet_and_the_loopback_have_ethernet_frames() {
    assert_eq!([1, 772].map(LinkType::of), [LinkType::Ethernet; 2]);
    // PPP, IPIP, GRE over IPv4 and IPv6, and none (a TUN device, WireGuard).
    for hardware in [0, 512, 768, 778, 823, 0xfffe] {
        assert_eq!(LinkType::of(hardware), LinkType::Other);
    }
}

#[test]
fn an_ipv4_frame_is_read_completely() {
    let expected = Datagram {
        source: Addr::v4(V4_SOURCE),
        group: Addr::v4(V4_GROUP),
        source_port: 40000,
        port: 5001,
        ttl: 9,
        dscp: 46,
        vlan: 0,
        payload: Span { start: 42, len: 5 },
        segments: 1,
    };
    assert_eq!(parse(&v4_frame(b"hello"), PLAIN), Ok(expected));
}

#[test]
fn an_ipv6_frame_is_read_completely() {
    let expected = Datagram {
        source: Addr::v6(V6_SOURCE),
        group: Addr::v6(V6_GROUP),
        source_port: 40000,
        port: 5001,
        ttl: 9,
        dscp: 46,
        vlan: 0,
        payload: Span { start: 62, len: 5 },
        segments: 1,
    };
    assert_eq!(parse(&v6_frame(b"hello"), PLAIN), Ok(expected));
}

#[test]
fn a_valid_frame_cut_anywhere_is_truncated() {
    let fragment_header = [UDP, 0, 0, 0, 0, 0, 0, 1];
    let frames = [
        v4_frame(b"hello"),
        v4_frame(b""),
        v6_frame(b"hello"),
        v6_extended(44, &fragment_header, b"hello"),
        tagged(&v4_frame(b"hello"), &[(0x88a8, 0), (0x8100, 5)]),
        ethernet(ETHERTYPE_IPV4, &ipv4(UDP, &[1; 12], &udp(&[0; 8], b"hello"))),
    ];
    for frame in frames {
        assert!(parse(&frame, TRUSTED).is_ok());
        for len in 0..frame.len() {
            assert_eq!(discard(&frame[..len], TRUSTED), Some(Discard::Truncated), "{len} bytes");
        }
    }
}

#[test]
fn padding_behind_the_ip_length_is_ignored() {
    for frame in [v4_frame(b"hello"), v6_frame(b"hello")] {
        let padded = [&frame[..], &[0xaa; 13]].concat();
        assert_eq!(parse(&padded, PLAIN), parse(&frame, PLAIN));
    }
}

#[test]
fn other_protocols_are_named() {
    let addresses = [V4_SOURCE, V4_GROUP].concat();
    let datagram = udp(&addresses, b"hello");
    for ethertype in [0x0806, 0x88cc, 0x0000, 0xffff, 0x0801, 0x86de] {
        assert_eq!(discard(&ethernet(ethertype, &datagram), PLAIN), Some(Discard::NotIp));
    }
    for protocol in [0, 1, 2, 6, 41, 50, 51, 136] {
        let frame = ethernet(ETHERTYPE_IPV4, &ipv4(protocol, &[], &datagram));
        assert_eq!(discard(&frame, PLAIN), Some(Discard::NotUdp), "IPv4 {protocol}");
    }
    for next in [1, 6, 41, 50, 58, 59, 135, 136, 255] {
        let frame = ethernet(ETHERTYPE_IPV6, &ipv6(next, &datagram));
        assert_eq!(discard(&frame, PLAIN), Some(Discard::NotUdp), "IPv6 {next}");
    }
}

#[test]
fn tags_inside_and_outside_the_frame_give_one_vlan() {
    let plain = v4_frame(b"hello");
    let outer = |tci| Some(VlanTag { tpid: 0x8100, tci });
    for (beside, inside, vlan) in [
        (None, &[(0x8100, 7)][..], 7),
        (None, &[(0x88a8, 0xe000), (0x8100, 7)], 7),
        (None, &[(0x9100, 0xf007)], 7),
        (None, &[(0x8100, 0x6000)], 0),
        (outer(7), &[], 7),
        (outer(0xb007), &[], 7),
        (outer(0x1000), &[], 0),
        (outer(0), &[(0x8100, 7)], 7),
        (outer(7), &[(0x8100, 0), (0x8100, 0xe000)], 7),
        (outer(4095), &[], 4095),
    ] {
        let frame = tagged(&plain, inside);
        let datagram = parse(&frame, FrameMeta { vlan: beside, ..PLAIN }).unwrap();
        assert_eq!(datagram.vlan, vlan);
        assert_eq!(payload_of(&frame, &datagram), b"hello");
    }
}

#[test]
fn two_vlans_or_endless_tags_are_refused() {
    let plain = v4_frame(b"hello");
    let beside = FrameMeta { vlan: Some(VlanTag { tpid: 0x88a8, tci: 5 }), ..PLAIN };
    let two = tagged(&plain, &[(0x88a8, 5), (0x8100, 5)]);
    assert_eq!(discard(&two, PLAIN), Some(Discard::Vlan));
    assert_eq!(discard(&tagged(&plain, &[(0x8100, 6)]), beside), Some(Discard::Vlan));
    assert_eq!(discard(&tagged(&plain, &[(0x8100, 0); 9]), PLAIN), Some(Discard::Vlan));
    assert!(parse(&tagged(&plain, &[(0x8100, 0); 8]), PLAIN).is_ok());
}

#[test]
fn a_super_frame_counts_its_segments() {
    for (payload_len, segment_size, segments) in [
        (0, 0, 1),
        (1400, 0, 1),
        (0, 1400, 1),
        (1, 1400, 1),
        (1400, 1400, 1),
        (1401, 1400, 2),
        (2800, 1400, 2),
        (4199, 1400, 3),
        (100, 1, 100),
        (65_507, 1, 65_507),
        (65_507, u16::MAX, 1),
    ] {
        for frame in [v4_frame(&vec![0; payload_len]), v6_frame(&vec![0; payload_len])] {
            let datagram = parse(&frame, FrameMeta { segment_size, ..TRUSTED }).unwrap();
            assert_eq!(datagram.segments, segments, "{payload_len} bytes in {segment_size}");
        }
    }
}
