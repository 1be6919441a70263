//! IP headers: options, fragments, extension headers, and lengths that contradict each other.

use super::*;

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
