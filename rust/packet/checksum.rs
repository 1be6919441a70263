//! The Internet checksum (RFC 1071) and its use by UDP (RFC 768; RFC 8200, 8.1).
//!
//! Sums use the host's byte order, as RFC 1071 allows: a correct sum is all ones in any order.

use super::{TCP, UDP};

/// Whether bytes that include their own checksum are consistent.
#[inline]
pub(super) fn holds(bytes: &[u8]) -> bool {
    is_all_ones(sum(bytes))
}

/// The same for an IPv4 header without options, in a handful of additions. Its first byte is not
/// zero, so the sum never is either.
#[inline(always)]
pub(super) fn is_plain_header_valid(header: &[u8; 20]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    sum.is_multiple_of(0xffff)
}

/// Whether a UDP header and payload are consistent with their pseudo header. `addresses` are source
/// and destination as in the IP header; `datagram` has the length in the UDP header.
pub(super) fn is_udp_valid(addresses: &[u8], datagram: &[u8]) -> bool {
    is_all_ones(sum(addresses) + sum(datagram) + pseudo_header(datagram.len(), UDP))
}

/// The checksum field for a UDP header, in which it is still zero, and its payload.
#[inline]
pub(super) fn of_udp(addresses: [&[u8]; 2], header: &[u8; 8], payload: &[u8]) -> [u8; 2] {
    let parts = addresses.map(sum).iter().sum::<u64>() + sum(header) + sum(payload);
    not_zero(complement(parts + pseudo_header(header.len() + payload.len(), UDP)))
}

/// The checksum field for bytes in which it is still zero.
pub(super) fn of(bytes: &[u8]) -> [u8; 2] {
    complement(sum(bytes))
}

/// The checksum field for a TCP or UDP header and everything after it, in which it is still zero.
/// If it already holds the sum of the pseudo header, pass no addresses and protocol 0. Like the
/// kernel's, only TCP's may be zero.
pub(super) fn transport(addresses: &[u8], bytes: &[u8], protocol: u8) -> [u8; 2] {
    let pseudo = if protocol == 0 { 0 } else { pseudo_header(bytes.len(), protocol) };
    let field = complement(sum(addresses) + sum(bytes) + pseudo);
    if protocol == TCP { field } else { not_zero(field) }
}

/// A zero field would mean that there is no checksum (RFC 768).
#[inline]
pub(super) fn not_zero(field: [u8; 2]) -> [u8; 2] {
    if field == [0; 2] { [0xff; 2] } else { field }
}

/// Folds all carries into the low 16 bits, and inverts all bits.
#[inline]
pub(super) fn complement(mut total: u64) -> [u8; 2] {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    let [low, high, ..] = total.to_le_bytes();
    (!u16::from_le_bytes([low, high])).to_ne_bytes()
}

/// The pseudo header's contribution besides the addresses: the protocol and the length.
#[inline]
pub(super) fn pseudo_header(length: usize, protocol: u8) -> u64 {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    u64::from(u32::from(protocol).to_be()) + u64::from(length.to_be())
}

/// Adds 32-bit values in 64 bits: no carry is lost below 16 GiB, and the loop is vectorized.
#[inline]
pub(super) fn sum(bytes: &[u8]) -> u64 {
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

/// Whether a sum is all ones after folding all carries into the low 16 bits. The folded sum is the
/// value modulo 65535, where all ones represent zero; a true zero occurs only if all bytes are
/// zero.
#[inline]
const fn is_all_ones(sum: u64) -> bool {
    sum != 0 && sum.is_multiple_of(0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference sum: 16 bits at a time, folding each carry at once.
    fn plain_sum(words: &[u16]) -> u16 {
        words.iter().fold(0, |sum: u16, word| {
            let (sum, carry) = sum.overflowing_add(*word);
            sum + u16::from(carry)
        })
    }

    #[test]
    fn only_the_field_of_tcp_may_be_zero() {
        for (protocol, field) in [(TCP, [0; 2]), (UDP, [0xff; 2])] {
            // The word that makes the sum all ones together with length and protocol.
            let word = 0xffff - 2 - u16::from(protocol);
            assert_eq!(transport(&[], &word.to_be_bytes(), protocol), field);
        }
    }

    #[test]
    fn sums_match_the_reference_at_the_edges_of_carries() {
        let edges = [0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff];
        let mut words = [0_u16; 6];
        for case in 0..edges.len().pow(6) {
            for (place, word) in words.iter_mut().enumerate() {
                *word = edges[case / edges.len().pow(u32::try_from(place).unwrap()) % edges.len()];
            }
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            assert_eq!(holds(&bytes), plain_sum(&words) == u16::MAX, "{words:x?}");
        }
    }

    #[test]
    fn long_runs_of_ones_lose_no_carry() {
        for words in [1, 2, 3, 4, 5, 700, 32_767] {
            assert!(holds(&vec![0xff; words * 2]), "{words} words");
            assert!(!holds(&vec![0; words * 2]), "{words} words");
        }
    }
}
