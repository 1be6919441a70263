//! A buffer from a joined UDP socket: sender, segment size and payload (udp(7), UDP_GRO).
//! The kernel has checked headers and checksum already.

use super::{Arrival, OUT_HEADER, control_len, control_message, is_cut};
use crate::addr::Addr;
use crate::packet::{Datagram, Discard, Span};
use crate::sys::ring::ReceiveLayout;

const LAYOUT: ReceiveLayout = ReceiveLayout::Datagram;
const PAYLOAD: usize = OUT_HEADER + LAYOUT.name_bytes() + LAYOUT.control_bytes();

#[inline]
pub(super) fn read(buffer: &[u8], group: Addr, port: u16) -> Result<Arrival, Discard> {
    if is_cut(buffer).unwrap_or(true) {
        return Err(Discard::TruncatedByUs);
    }
    let payload = buffer.get(PAYLOAD..).ok_or(Discard::Truncated)?;
    let (source, source_port) = sender(buffer).ok_or(Discard::BadHeader)?;
    let len = u32::try_from(payload.len()).map_err(|_| Discard::BadLength)?;
    let segment = segment_size(buffer).filter(|&size| size != 0 && u32::from(size) < len);
    let start = u32::try_from(PAYLOAD).map_err(|_| Discard::BadLength)?;
    let datagram = Datagram {
        source,
        group,
        source_port,
        port,
        ttl: 0,
        dscp: 0,
        vlan: 0,
        payload: Span { start, len },
        segments: segment.map_or(1, |size| len.div_ceil(u32::from(size))),
    };
    Ok(Arrival { datagram, segment: segment.unwrap_or(0) })
}

/// The `sockaddr_in` or `sockaddr_in6` in the address area.
#[inline]
fn sender(buffer: &[u8]) -> Option<(Addr, u16)> {
    let name = buffer.get(OUT_HEADER..)?.get(..LAYOUT.name_bytes())?;
    let family = i32::from(u16::from_ne_bytes(*name.first_chunk()?));
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    let address = match family {
        libc::AF_INET => Addr::v4(*name.get(4..)?.first_chunk()?),
        libc::AF_INET6 => Addr::v6(*name.get(8..)?.first_chunk()?),
        _ => return None,
    };
    Some((address, port))
}

#[inline]
fn segment_size(buffer: &[u8]) -> Option<u16> {
    let area = buffer.get(OUT_HEADER + LAYOUT.name_bytes()..)?;
    let area = area.get(..control_len(buffer)?.min(LAYOUT.control_bytes()))?;
    let (level, kind, data) = control_message(area)?;
    if (level, kind) != (libc::SOL_UDP, libc::UDP_GRO) {
        return None;
    }
    u16::try_from(i32::from_ne_bytes(*data.first_chunk()?)).ok()
}
