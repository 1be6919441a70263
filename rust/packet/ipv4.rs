//! The IPv4 header (RFC 791).

use super::{Discard, IpHeader, IpPacket, UDP, checksum};
use crate::addr::Addr;

/// A header without options.
const MIN_LEN: u32 = 20;
/// The first byte of a header without options: version 4, five words.
const PLAIN: u8 = 0x45;
/// The "more fragments" flag and the fragment offset.
const FRAGMENT_MASK: u16 = 0x3fff;

/// The header without its options.
pub(super) struct Ipv4Header<'a>(&'a [u8; MIN_LEN as usize]);

/// Reads the header at the start of `bytes`; everything after the total length is padding.
#[inline(always)]
pub(super) fn read(bytes: &[u8]) -> Result<IpPacket<'_, Ipv4Header<'_>>, Discard> {
    let header: &[u8; MIN_LEN as usize] = bytes.first_chunk().ok_or(Discard::Truncated)?;
    let header_len = if header[0] == PLAIN { MIN_LEN } else { long_header_len(bytes)? };
    if header_len == MIN_LEN && !checksum::is_plain_header_valid(header) {
        return Err(Discard::BadHeader);
    }
    let total_len = u32::from(u16::from_be_bytes([header[2], header[3]]));
    if total_len < header_len {
        return Err(Discard::BadLength);
    }
    let payload = bytes.get(header_len as usize..total_len as usize).ok_or(Discard::Truncated)?;
    if header[9] != UDP {
        return Err(Discard::NotUdp);
    }
    if u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_MASK != 0 {
        return Err(Discard::Fragment);
    }
    Ok(IpPacket { header: Ipv4Header(header), header_len, payload })
}

/// The verified length of a header that is not a plain one.
#[cold]
#[inline(never)]
fn long_header_len(bytes: &[u8]) -> Result<u32, Discard> {
    let first = bytes.first().copied().unwrap_or_default();
    let len = u32::from(first & 0x0f) * 4;
    if first >> 4 != 4 || len < MIN_LEN {
        return Err(Discard::BadHeader);
    }
    let header = bytes.get(..len as usize).ok_or(Discard::Truncated)?;
    if checksum::holds(header) { Ok(len) } else { Err(Discard::BadHeader) }
}

impl Ipv4Header<'_> {
    #[inline(always)]
    fn word(&self, at: usize) -> [u8; 4] {
        let bytes = self.0;
        [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
    }
}

impl IpHeader for Ipv4Header<'_> {
    const CHECKSUM_OPTIONAL: bool = true;

    #[inline(always)]
    fn addresses(&self) -> &[u8] {
        &self.0[12..20]
    }

    #[inline(always)]
    fn source(&self) -> Addr {
        Addr::v4(self.word(12))
    }

    #[inline(always)]
    fn group(&self) -> Addr {
        Addr::v4(self.word(16))
    }

    #[inline(always)]
    fn ttl(&self) -> u8 {
        self.0[8]
    }

    #[inline(always)]
    fn dscp(&self) -> u8 {
        self.0[1] >> 2
    }
}
