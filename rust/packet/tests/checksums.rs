//! UDP checksums: verified, vouched for, absent.

use super::*;

#[test]
fn wrong_udp_checksums_are_refused_unless_trusted() {
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
