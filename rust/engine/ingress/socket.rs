//! The layout of a buffer from a joined UDP socket: sender, control messages and payload (udp(7),
//! UDP_GRO; ip(7), IP_RECVTTL, IP_RECVTOS). The kernel has already verified headers and checksum.

use super::{Arrival, OUT_HEADER, control_messages, is_truncated, offload};
use crate::addr::Addr;
use crate::packet::{Datagram, Discard, Offload, Span};
use crate::sys::ring::ReceiveLayout;

const LAYOUT: ReceiveLayout = ReceiveLayout::Datagram;
const PAYLOAD: usize = OUT_HEADER + LAYOUT.name_bytes() + LAYOUT.control_bytes();

#[inline]
pub(super) fn read(buffer: &[u8], group: Addr, port: u16) -> Result<Arrival, Discard> {
    let arrival = read_merged(buffer, group, port)?;
    // Most super-frames hold many datagrams, so checking the headers once costs little.
    if arrival.segment > 0 && inner_offload(buffer, &arrival).is_some() {
        return Err(Discard::BadHeader);
    }
    Ok(arrival)
}

/// Completes the offloaded work in a buffer.
pub(super) fn finish(
    buffer: &[u8],
    group: Addr,
    port: u16,
    room: &mut [u8],
) -> Result<Arrival, Discard> {
    let arrival = read_merged(buffer, group, port)?;
    let offload = inner_offload(buffer, &arrival).ok_or(Discard::BadHeader)?;
    offload::finish_datagram(buffer, arrival.datagram, offload, room)
}

/// The remaining work if the segments belong to a packet inside the datagram.
#[inline(never)]
fn inner_offload(buffer: &[u8], arrival: &Arrival) -> Option<Offload> {
    Offload::find(buffer.get(PAYLOAD..)?, arrival.segment)
}

#[inline]
fn read_merged(buffer: &[u8], group: Addr, port: u16) -> Result<Arrival, Discard> {
    let (head, payload) = buffer.split_first_chunk::<PAYLOAD>().ok_or(Discard::Truncated)?;
    if is_truncated(head) {
        return Err(Discard::TruncatedByUs);
    }
    let (source, source_port) = sender(buffer).ok_or(Discard::BadHeader)?;
    let len = u32::try_from(payload.len()).map_err(|_| Discard::BadLength)?;
    let ReceiveMeta { segment, ttl, dscp } = receive_meta(buffer);
    let segment = segment.filter(|&size| size != 0 && u32::from(size) < len);
    let start = u32::try_from(PAYLOAD).map_err(|_| Discard::BadLength)?;
    let datagram = Datagram {
        source,
        group,
        source_port,
        port,
        ttl,
        dscp,
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

/// The values of the control messages.
#[derive(Default)]
struct ReceiveMeta {
    /// The size of each merged datagram in bytes.
    segment: Option<u16>,
    ttl: u8,
    dscp: u8,
}

#[inline]
fn receive_meta(buffer: &[u8]) -> ReceiveMeta {
    let mut meta = ReceiveMeta::default();
    for (level, kind, value) in control_messages(buffer, LAYOUT) {
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                meta.segment = number(value).and_then(|size| u16::try_from(size).ok());
            }
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                meta.ttl = number(value).and_then(|hops| u8::try_from(hops).ok()).unwrap_or(0);
            }
            // One byte for IPv4, an integer for IPv6: the traffic class, including ECN.
            (libc::IPPROTO_IP, libc::IP_TOS) => meta.dscp = value.first().map_or(0, |tos| tos >> 2),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                let class = number(value).and_then(|class| u8::try_from(class).ok());
                meta.dscp = class.unwrap_or(0) >> 2;
            }
            _ => {}
        }
    }
    meta
}

fn number(value: &[u8]) -> Option<i32> {
    value.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
}
