//! The Internet checksum (RFC 1071) and its use by UDP (RFC 768; RFC 8200, 8.1).
//!
//! Sums are taken in the host's byte order, which RFC 1071 allows: a correct sum is all ones
//! in any order. Must not know where in a frame the bytes stand.

use super::UDP;

/// Whether bytes that include their own checksum add up.
#[inline]
pub(super) fn holds(bytes: &[u8]) -> bool {
    fold(sum(bytes)) == u16::MAX
}

/// Whether a UDP header and payload add up with their pseudo header. `addresses` are the source
/// and destination as they stand in the IP header, `datagram` has the length that UDP states.
pub(super) fn udp_holds(addresses: &[u8], datagram: &[u8]) -> bool {
    let length = u32::try_from(datagram.len()).unwrap_or(u32::MAX);
    let constants = u64::from(u32::from(UDP).to_be()) + u64::from(length.to_be());
    fold(sum(addresses) + sum(datagram) + constants) == u16::MAX
}

/// Adds up 32-bit halves in 64 bits: no carry is lost below 16 GiB, and the loop becomes
/// vector instructions.
#[inline]
fn sum(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    let (mut low, mut high) = (0, 0);
    for word in words {
        let word = u64::from_ne_bytes(*word);
        low += word & 0xffff_ffff;
        high += word >> 32;
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    let last = u64::from_ne_bytes(last);
    low + high + (last & 0xffff_ffff) + (last >> 32)
}

/// Brings a sum down to 16 bits, adding every carry back in.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let [low, high, ..] = sum.to_le_bytes();
    u16::from_le_bytes([low, high])
}
