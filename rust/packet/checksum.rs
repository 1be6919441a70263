//! The Internet checksum (RFC 1071) and its use by UDP (RFC 768; RFC 8200, 8.1).
//!
//! Sums are taken in the host's byte order, which RFC 1071 allows: a correct sum is all ones
//! in any order. Must not know where in a frame the bytes stand.

use super::UDP;

/// Whether bytes that include their own checksum add up.
#[inline]
pub(super) fn holds(bytes: &[u8]) -> bool {
    is_all_ones(sum(bytes))
}

/// Whether a UDP header and payload add up with their pseudo header. `addresses` are the source
/// and destination as they stand in the IP header, `datagram` has the length that UDP states.
pub(super) fn udp_holds(addresses: &[u8], datagram: &[u8]) -> bool {
    let length = u32::try_from(datagram.len()).unwrap_or(u32::MAX);
    let constants = u64::from(u32::from(UDP).to_be()) + u64::from(length.to_be());
    is_all_ones(sum(addresses) + sum(datagram) + constants)
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

/// Whether a sum is all ones once it is brought down to 16 bits with every carry added back in.
///
/// Multiplying by 2^n + 1 adds the lower n bits onto the upper ones; what stands there then is
/// the sum of both halves and of the carry between them.
#[inline]
const fn is_all_ones(sum: u64) -> bool {
    let sum = sum.wrapping_mul(0x1_0000_0001) >> 32;
    (sum * 0x1_0001) >> 16 & 0xffff == 0xffff
}
