//! The IPv6 header and the extension headers that may stand before UDP (RFC 8200, 4).
//!
//! Must not know what stands in front of it, nor UDP's own header.

use super::{Discard, Network, UDP};
use crate::addr::Addr;

/// The fixed header.
const FIXED_LEN: usize = 40;
/// More extension headers than an honest sender uses.
const MAX_EXTENSIONS: usize = 8;
/// The unit of every extension header, and the least length of one.
const EXTENSION_UNIT: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
/// The fragment offset and the "more fragments" flag.
const FRAGMENT_MASK: u16 = 0xfff9;

/// Reads the header at the start of `bytes`; what stands behind the payload length is padding.
#[inline]
pub(super) fn read(bytes: &[u8]) -> Result<Network<'_>, Discard> {
    let (fixed, rest) = bytes.split_first_chunk::<FIXED_LEN>().ok_or(Discard::Truncated)?;
    if fixed[0] >> 4 != 6 {
        return Err(Discard::BadHeader);
    }
    let payload_len = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    let payload = rest.get(..payload_len).ok_or(Discard::Truncated)?;
    let extensions_len = if fixed[6] == UDP { 0 } else { skip_extensions(fixed[6], payload)? };
    let (mut source, mut group) = ([0; 16], [0; 16]);
    source.copy_from_slice(&fixed[8..24]);
    group.copy_from_slice(&fixed[24..40]);
    Ok(Network {
        source: Addr::v6(source),
        group: Addr::v6(group),
        ttl: fixed[7],
        // The traffic class lies across the first two bytes; DSCP is its upper six bits.
        dscp: (fixed[0] & 0x0f) << 2 | fixed[1] >> 6,
        addresses: &fixed[8..40],
        checksum_optional: false,
        header_len: FIXED_LEN + extensions_len,
        payload: payload.get(extensions_len..).ok_or(Discard::BadLength)?,
    })
}

/// The length of the extension headers between the fixed header and UDP.
#[cold]
fn skip_extensions(mut next: u8, payload: &[u8]) -> Result<usize, Discard> {
    let mut at = 0;
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION) {
            break;
        }
        let header = payload.get(at..at + EXTENSION_UNIT).ok_or(Discard::BadLength)?;
        let units = usize::from(header[1]);
        at += match next {
            FRAGMENT if u16::from_be_bytes([header[2], header[3]]) & FRAGMENT_MASK != 0 => {
                return Err(Discard::Fragment);
            }
            FRAGMENT => EXTENSION_UNIT,
            // Counted in four bytes, less two (RFC 4302, 2.2); the others in eight, less one.
            AUTHENTICATION => (units + 2) * 4,
            _ => (units + 1) * EXTENSION_UNIT,
        };
        next = header[0];
    }
    if next == UDP { Ok(at) } else { Err(Discard::NotUdp) }
}
