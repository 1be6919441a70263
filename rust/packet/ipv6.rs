//! The IPv6 header and the extension headers before UDP (RFC 8200, 4).

use super::{Discard, IpHeader, IpPacket, UDP};
use crate::addr::Addr;

/// The length of the fixed header.
const FIXED_LEN: u32 = 40;
/// More extension headers than an honest sender uses.
const MAX_EXTENSIONS: usize = 8;
/// The unit and the minimum length of an extension header.
const EXTENSION_UNIT: u32 = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
/// The fragment offset and the "more fragments" flag.
const FRAGMENT_MASK: u16 = 0xfff9;

/// The fixed header.
pub(super) struct Ipv6Header<'a>(&'a [u8; FIXED_LEN as usize]);

/// Reads the header at the start of `bytes`; everything after the payload length is padding.
#[inline(always)]
pub(super) fn read(bytes: &[u8]) -> Result<IpPacket<'_, Ipv6Header<'_>>, Discard> {
    let (header, rest) =
        bytes.split_first_chunk::<{ FIXED_LEN as usize }>().ok_or(Discard::Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(Discard::BadHeader);
    }
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let payload = rest.get(..payload_len).ok_or(Discard::Truncated)?;
    let next = header[6];
    if next == UDP {
        return Ok(IpPacket { header: Ipv6Header(header), header_len: FIXED_LEN, payload });
    }
    let extensions_len = skip_extensions(next, payload)?;
    let payload = payload.get(extensions_len as usize..).ok_or(Discard::BadLength)?;
    Ok(IpPacket { header: Ipv6Header(header), header_len: FIXED_LEN + extensions_len, payload })
}

/// The length of the extension headers between the fixed header and UDP.
#[cold]
#[inline(never)]
fn skip_extensions(mut next: u8, payload: &[u8]) -> Result<u32, Discard> {
    let mut at = 0_u32;
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION) {
            break;
        }
        let header = payload
            .get(at as usize..)
            .and_then(|rest| rest.get(..EXTENSION_UNIT as usize))
            .ok_or(Discard::BadLength)?;
        let units = u32::from(header[1]);
        at += match next {
            FRAGMENT if u16::from_be_bytes([header[2], header[3]]) & FRAGMENT_MASK != 0 => {
                return Err(Discard::Fragment);
            }
            FRAGMENT => EXTENSION_UNIT,
            // In units of four bytes, less two (RFC 4302, 2.2); the others in units of eight, less
            // one.
            AUTHENTICATION => (units + 2) * 4,
            _ => (units + 1) * EXTENSION_UNIT,
        };
        next = header[0];
    }
    if next == UDP { Ok(at) } else { Err(Discard::NotUdp) }
}

impl Ipv6Header<'_> {
    #[inline(always)]
    fn address(&self, at: usize) -> Addr {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[at..at + 16]);
        Addr::v6(bytes)
    }
}

impl IpHeader for Ipv6Header<'_> {
    const CHECKSUM_OPTIONAL: bool = false;

    #[inline(always)]
    fn addresses(&self) -> &[u8] {
        &self.0[8..40]
    }

    #[inline(always)]
    fn source(&self) -> Addr {
        self.address(8)
    }

    #[inline(always)]
    fn group(&self) -> Addr {
        self.address(24)
    }

    #[inline(always)]
    fn ttl(&self) -> u8 {
        self.0[7]
    }

    /// The traffic class spans the first two bytes; DSCP is its upper six bits.
    #[inline(always)]
    fn dscp(&self) -> u8 {
        (self.0[0] & 0x0f) << 2 | self.0[1] >> 6
    }
}
