//! Hand-made frames with correct headers and checksums.

use super::*;

pub(super) const V4_SOURCE: [u8; 4] = [10, 0, 0, 5];
pub(super) const V4_GROUP: [u8; 4] = [239, 1, 1, 1];
pub(super) const V6_SOURCE: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
pub(super) const V6_GROUP: [u8; 16] = [0xff, 0x3e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// The offset of the network header in an untagged frame.
pub(super) const IP: usize = 14;
/// The offset of UDP in an untagged frame without options or extension headers.
pub(super) const V4_UDP: usize = IP + 20;
pub(super) const V6_UDP: usize = IP + 40;

/// The complement of the ones' complement sum, one 16-bit word at a time.
fn plain_checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut bytes = parts.concat();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let sum = bytes.chunks(2).fold(0_u32, |sum, word| {
        let sum = sum + u32::from(word[0]) * 256 + u32::from(word[1]);
        (sum & 0xffff) + (sum >> 16)
    });
    u16::try_from(!sum & 0xffff).unwrap().to_be_bytes()
}

pub(super) fn be(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap().to_be_bytes()
}

pub(super) fn ethernet(ethertype: u16, body: &[u8]) -> Vec<u8> {
    [&[1, 0, 0x5e, 1, 1, 1, 2, 0, 0, 0, 0, 1], &ethertype.to_be_bytes()[..], body].concat()
}

/// UDP from port 40000 to port 5001, with a correct checksum.
pub(super) fn udp(addresses: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = be(8 + payload.len());
    let mut bytes = [&[0x9c, 0x40, 0x13, 0x89][..], &length, &[0, 0], payload].concat();
    let field = plain_checksum(&[addresses, &[0, UDP], &length, &bytes]);
    bytes[6..8].copy_from_slice(if field == [0, 0] { &[0xff, 0xff] } else { &field });
    bytes
}

/// An IPv4 header with TTL 9, DSCP 46 and these options, whose length is a multiple of four bytes.
pub(super) fn ipv4(protocol: u8, options: &[u8], body: &[u8]) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).unwrap();
    let total = be(20 + options.len() + body.len());
    let front = [&[0x40 | words, 46 << 2][..], &total, &[0, 1, 0x40, 0, 9, protocol]].concat();
    let back = [&V4_SOURCE[..], &V4_GROUP, options].concat();
    let field = plain_checksum(&[&front, &back]);
    [&front[..], &field, &back, body].concat()
}

/// An IPv6 header with hop limit 9 and DSCP 46.
pub(super) fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
    let length = be(body.len());
    [&[0x6b, 0x80, 0, 1][..], &length, &[next, 9], &V6_SOURCE, &V6_GROUP, body].concat()
}

pub(super) fn v4_frame(payload: &[u8]) -> Vec<u8> {
    let addresses = [V4_SOURCE, V4_GROUP].concat();
    ethernet(ETHERTYPE_IPV4, &ipv4(UDP, &[], &udp(&addresses, payload)))
}

pub(super) fn v6_frame(payload: &[u8]) -> Vec<u8> {
    v6_extended(UDP, &[], payload)
}

pub(super) fn v6_extended(next: u8, extensions: &[u8], payload: &[u8]) -> Vec<u8> {
    let addresses = [V6_SOURCE, V6_GROUP].concat();
    let body = [extensions, &udp(&addresses, payload)].concat();
    ethernet(ETHERTYPE_IPV6, &ipv6(next, &body))
}

/// A frame with replaced bytes; if they are in an IPv4 header, its checksum is corrected.
pub(super) fn patched(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    if frame[12..14] == ETHERTYPE_IPV4.to_be_bytes() {
        frame[IP + 10..IP + 12].fill(0);
        let field = plain_checksum(&[&frame[IP..V4_UDP]]);
        frame[IP + 10..IP + 12].copy_from_slice(&field);
    }
    frame
}

pub(super) fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let tags: Vec<u8> = tags
        .iter()
        .flat_map(|(tpid, tci)| [tpid.to_be_bytes(), tci.to_be_bytes()])
        .flatten()
        .collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}
