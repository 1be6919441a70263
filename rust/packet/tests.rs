//! Every reason, every truncation and every variant of a frame, from frames built by hand.

use super::*;

const PLAIN: FrameMeta =
    FrameMeta { vlan: None, checksum: ChecksumState::Unverified, segment_size: 0 };
const TRUSTED: FrameMeta = FrameMeta { checksum: ChecksumState::Trusted, ..PLAIN };
const IGNORED: FrameMeta = FrameMeta { checksum: ChecksumState::Ignored, ..PLAIN };
const V4_SOURCE: [u8; 4] = [10, 0, 0, 5];
const V4_GROUP: [u8; 4] = [239, 1, 1, 1];
const V6_SOURCE: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const V6_GROUP: [u8; 16] = [0xff, 0x3e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// Where the network header of an untagged frame starts.
const IP: usize = 14;
/// Where UDP starts in an untagged frame without options or extension headers.
const V4_UDP: usize = IP + 20;
const V6_UDP: usize = IP + 40;

/// The complement of the ones' complement sum, one 16-bit word after the other.
fn plain_checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut bytes = parts.concat();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let sum = bytes.chunks(2).fold(0_u32, |sum, word| {
        let sum = sum + u32::from(word[0]) * 256 + u32::from(word[1]);
        (sum & 0xffff) + (sum >> 16)
    });
    u16::try_from(!sum & 0xffff).unwrap().to_be_bytes()
}

fn be(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap().to_be_bytes()
}

fn ethernet(ethertype: u16, body: &[u8]) -> Vec<u8> {
    [&[1, 0, 0x5e, 1, 1, 1, 2, 0, 0, 0, 0, 1], &ethertype.to_be_bytes()[..], body].concat()
}

/// UDP from port 40000 to port 5001, with a correct checksum.
fn udp(addresses: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = be(8 + payload.len());
    let mut bytes = [&[0x9c, 0x40, 0x13, 0x89][..], &length, &[0, 0], payload].concat();
    let field = plain_checksum(&[addresses, &[0, UDP], &length, &bytes]);
    bytes[6..8].copy_from_slice(if field == [0, 0] { &[0xff, 0xff] } else { &field });
    bytes
}

/// An IPv4 header with TTL 9, DSCP 46 and these options, a multiple of four bytes.
fn ipv4(protocol: u8, options: &[u8], body: &[u8]) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).unwrap();
    let total = be(20 + options.len() + body.len());
    let front = [&[0x40 | words, 46 << 2][..], &total, &[0, 1, 0x40, 0, 9, protocol]].concat();
    let back = [&V4_SOURCE[..], &V4_GROUP, options].concat();
    let field = plain_checksum(&[&front, &back]);
    [&front[..], &field, &back, body].concat()
}

/// An IPv6 header with hop limit 9 and DSCP 46.
fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
    let length = be(body.len());
    [&[0x6b, 0x80, 0, 1][..], &length, &[next, 9], &V6_SOURCE, &V6_GROUP, body].concat()
}

fn v4_frame(payload: &[u8]) -> Vec<u8> {
    let addresses = [V4_SOURCE, V4_GROUP].concat();
    ethernet(ETHERTYPE_IPV4, &ipv4(UDP, &[], &udp(&addresses, payload)))
}

fn v6_frame(payload: &[u8]) -> Vec<u8> {
    v6_extended(UDP, &[], payload)
}

fn v6_extended(next: u8, extensions: &[u8], payload: &[u8]) -> Vec<u8> {
    let addresses = [V6_SOURCE, V6_GROUP].concat();
    let body = [extensions, &udp(&addresses, payload)].concat();
    ethernet(ETHERTYPE_IPV6, &ipv6(next, &body))
}

/// A frame with bytes replaced; where they lie in an IPv4 header, its checksum is mended.
fn patched(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    if frame[12..14] == ETHERTYPE_IPV4.to_be_bytes() {
        frame[IP + 10..IP + 12].fill(0);
        let field = plain_checksum(&[&frame[IP..V4_UDP]]);
        frame[IP + 10..IP + 12].copy_from_slice(&field);
    }
    frame
}

fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let tags: Vec<u8> = tags
        .iter()
        .flat_map(|(tpid, tci)| [tpid.to_be_bytes(), tci.to_be_bytes()])
        .flatten()
        .collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

fn payload_of<'a>(frame: &'a [u8], datagram: &Datagram) -> &'a [u8] {
    let Span { start, len } = datagram.payload;
    &frame[start as usize..][..len as usize]
}

fn discard(frame: &[u8], meta: FrameMeta) -> Option<Discard> {
    parse(frame, meta).err()
}

#[test]
fn of_other_links_the_network_header_is_read_wherever_it_starts() {
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
fn ipv4_options_are_skipped_and_covered_by_the_checksum() {
    let addresses = [V4_SOURCE, V4_GROUP].concat();
    for words in 0..=10 {
        let body = ipv4(UDP, &vec![1; words * 4], &udp(&addresses, b"hello"));
        let mut frame = ethernet(ETHERTYPE_IPV4, &body);
        let datagram = parse(&frame, PLAIN).unwrap();
        assert_eq!(payload_of(&frame, &datagram), b"hello");
        frame[V4_UDP - 1 + words * 4] ^= 1;
        assert_eq!(discard(&frame, PLAIN), Some(Discard::BadHeader));
    }
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
fn ipv4_fragments_are_refused_and_other_flags_are_not() {
    for field in [0x2000_u16, 0x0001, 0x1fff, 0x3fff, 0x6000] {
        let frame = patched(v4_frame(b"hello"), IP + 6, &field.to_be_bytes());
        assert_eq!(discard(&frame, PLAIN), Some(Discard::Fragment), "{field:#06x}");
    }
    for field in [0x0000_u16, 0x4000, 0x8000] {
        let frame = patched(v4_frame(b"hello"), IP + 6, &field.to_be_bytes());
        assert!(parse(&frame, PLAIN).is_ok(), "{field:#06x}");
    }
}

#[test]
fn an_ipv6_fragment_is_refused_unless_it_is_the_whole() {
    let fragment = |field: u16| {
        let [high, low] = field.to_be_bytes();
        v6_extended(44, &[UDP, 0xff, high, low, 0, 0, 0, 1], b"hello")
    };
    for field in [0x0001, 0x0008, 0xfff8] {
        assert_eq!(discard(&fragment(field), PLAIN), Some(Discard::Fragment), "{field:#06x}");
    }
    for atomic in [fragment(0x0000), fragment(0x0006)] {
        assert_eq!(payload_of(&atomic, &parse(&atomic, PLAIN).unwrap()), b"hello");
    }
}

#[test]
fn ipv6_extension_headers_are_walked_by_their_own_lengths() {
    let hop_by_hop = [[60, 1].as_slice(), &[0; 14]].concat();
    let destination = [[43, 0].as_slice(), &[0; 6]].concat();
    let routing = [[51, 2].as_slice(), &[0; 22]].concat();
    let authentication = [[UDP, 4].as_slice(), &[0; 22]].concat();
    let chain = [hop_by_hop, destination, routing, authentication].concat();
    let frame = v6_extended(0, &chain, b"hello");
    assert_eq!(payload_of(&frame, &parse(&frame, PLAIN).unwrap()), b"hello");
    assert_eq!(discard(&patched(frame, V6_UDP + 1, &[255]), PLAIN), Some(Discard::BadLength));
}

#[test]
fn at_most_eight_extension_headers_are_walked() {
    let chain = |count: usize| {
        let mut headers = [60, 0, 1, 4, 0, 0, 0, 0].repeat(count);
        headers[count * 8 - 8] = UDP;
        v6_extended(60, &headers, b"hello")
    };
    assert!(parse(&chain(8), PLAIN).is_ok());
    assert_eq!(discard(&chain(9), PLAIN), Some(Discard::NotUdp));
}

#[test]
fn contradicting_lengths_are_bad() {
    let short_total = |total| patched(v4_frame(b"hello"), IP + 2, &be(total));
    for (name, frame) in [
        ("IPv4 length below its header", short_total(19)),
        ("IPv4 length of the header alone", short_total(20)),
        ("IPv4 length below the UDP header", short_total(27)),
        ("IPv4 length below the UDP length", short_total(32)),
        ("UDP length 0", patched(v4_frame(b"hello"), V4_UDP + 4, &be(0))),
        ("UDP length below its header", patched(v4_frame(b"hello"), V4_UDP + 4, &be(7))),
        ("UDP length above IPv4's", patched(v4_frame(b"hello"), V4_UDP + 4, &be(14))),
        ("IPv6 length 0", patched(v6_frame(b"hello"), IP + 4, &be(0))),
        ("IPv6 length below the UDP length", patched(v6_frame(b"hello"), IP + 4, &be(12))),
        ("UDP length above IPv6's", patched(v6_frame(b"hello"), V6_UDP + 4, &be(14))),
    ] {
        let padded = [&frame[..], &[0; 32]].concat();
        assert_eq!(discard(&padded, TRUSTED), Some(Discard::BadLength), "{name}");
    }
}

#[test]
fn the_udp_length_wins_over_a_longer_ip_payload() {
    let addresses = [V4_SOURCE, V4_GROUP].concat();
    let body = [udp(&addresses, b"hello"), b"trailer".to_vec()].concat();
    let frame = ethernet(ETHERTYPE_IPV4, &ipv4(UDP, &[], &body));
    assert_eq!(payload_of(&frame, &parse(&frame, PLAIN).unwrap()), b"hello");
}

#[test]
fn bad_ip_headers_are_refused() {
    for first in [0x44, 0x40, 0x65, 0x05, 0xf5] {
        let frame = patched(v4_frame(b"hello"), IP, &[first]);
        assert_eq!(discard(&frame, PLAIN), Some(Discard::BadHeader), "IPv4 {first:#04x}");
    }
    for first in [0x40, 0x50, 0x00, 0xf0] {
        let frame = patched(v6_frame(b"hello"), IP, &[first]);
        assert_eq!(discard(&frame, PLAIN), Some(Discard::BadHeader), "IPv6 {first:#04x}");
    }
    for at in IP..V4_UDP {
        let mut frame = v4_frame(b"hello");
        frame[at] ^= 0x10;
        assert_eq!(discard(&frame, TRUSTED), Some(Discard::BadHeader), "byte {at}");
    }
}

#[test]
fn wrong_udp_checksums_are_refused_unless_somebody_vouches() {
    for (plain, udp_at) in [(v4_frame(b"hello!!"), V4_UDP), (v6_frame(b"hello!!"), V6_UDP)] {
        for at in (udp_at..udp_at + 4).chain(udp_at + 6..plain.len()) {
            let mut frame = plain.clone();
            frame[at] ^= 0x10;
            assert_eq!(discard(&frame, PLAIN), Some(Discard::BadChecksum), "byte {at}");
            assert!(parse(&frame, TRUSTED).is_ok());
        }
    }
}

#[test]
fn an_absent_udp_checksum_is_allowed_in_ipv4_only_unless_none_is_asked_for() {
    let v4 = patched(v4_frame(b"hello"), V4_UDP + 6, &[0, 0]);
    let v6 = patched(v6_frame(b"hello"), V6_UDP + 6, &[0, 0]);
    for frame in [&v4, &v6] {
        assert!(parse(frame, IGNORED).is_ok());
    }
    for meta in [PLAIN, TRUSTED] {
        assert!(parse(&v4, meta).is_ok());
        assert_eq!(discard(&v6, meta), Some(Discard::BadChecksum));
    }
}

#[test]
fn checksums_of_every_length_are_verified() {
    let bytes: Vec<u8> = (0..=255).cycle().take(1500).collect();
    for len in (0..70).chain([1399, 1400, 1472]) {
        for mut frame in [v4_frame(&bytes[..len]), v6_frame(&bytes[..len])] {
            assert_eq!(discard(&frame, PLAIN), None, "{len} bytes");
            if let Some(last) = frame.last_mut().filter(|_| len > 0) {
                *last = !*last;
                assert_eq!(discard(&frame, PLAIN), Some(Discard::BadChecksum), "{len} bytes");
            }
        }
    }
}

#[test]
fn a_checksum_that_comes_out_as_zero_is_sent_as_all_ones() {
    // The payload is the complement of everything else, so that the sum is all ones.
    let open = udp(&[V4_SOURCE, V4_GROUP].concat(), &[0, 0]);
    let frame = v4_frame(&open[6..8]);
    assert_eq!(frame[V4_UDP + 6..V4_UDP + 8], [0xff, 0xff]);
    assert!(parse(&frame, PLAIN).is_ok());
}

#[test]
fn tags_in_the_frame_and_beside_it_name_one_vlan() {
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
