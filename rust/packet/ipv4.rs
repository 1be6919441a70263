//! The IPv4 header (RFC 791).
//!
//! Must not know what stands in front of it, nor UDP's own header.

use super::{Discard, Network, UDP, checksum};
use crate::addr::Addr;

/// A header without options.
const MIN_LEN: usize = 20;
/// The "more fragments" flag and the fragment offset.
const FRAGMENT_MASK: u16 = 0x3fff;

/// Reads the header at the start of `bytes`; what stands behind the total length is padding.
#[inline]
pub(super) fn read(bytes: &[u8]) -> Result<Network<'_>, Discard> {
    let fixed: &[u8; MIN_LEN] = bytes.first_chunk().ok_or(Discard::Truncated)?;
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    if fixed[0] >> 4 != 4 || header_len < MIN_LEN {
        return Err(Discard::BadHeader);
    }
    if header_len == MIN_LEN {
        // The constant length makes this a handful of additions.
        if !checksum::holds(fixed) {
            return Err(Discard::BadHeader);
        }
    } else {
        check_options(bytes, header_len)?;
    }
    let total_len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if total_len < header_len {
        return Err(Discard::BadLength);
    }
    let payload = bytes.get(header_len..total_len).ok_or(Discard::Truncated)?;
    if fixed[9] != UDP {
        return Err(Discard::NotUdp);
    }
    if u16::from_be_bytes([fixed[6], fixed[7]]) & FRAGMENT_MASK != 0 {
        return Err(Discard::Fragment);
    }
    let [.., a, b, c, d, e, f, g, h] = *fixed;
    Ok(Network {
        source: Addr::v4([a, b, c, d]),
        group: Addr::v4([e, f, g, h]),
        ttl: fixed[8],
        dscp: fixed[1] >> 2,
        addresses: &fixed[12..20],
        checksum_optional: true,
        header_len,
        payload,
    })
}

/// Verifies a header with options.
#[cold]
fn check_options(bytes: &[u8], header_len: usize) -> Result<(), Discard> {
    let header = bytes.get(..header_len).ok_or(Discard::Truncated)?;
    if checksum::holds(header) { Ok(()) } else { Err(Discard::BadHeader) }
}
