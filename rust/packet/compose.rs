//! Writing of the headers in front of a payload, the inverse of parsing, for copies whose headers
//! the kernel does not write.
//!
//! The kernel fills in the IPv4 length and checksum.

use super::{UDP, checksum};
use crate::addr::Addr;

/// The length of the longest headers: IPv6 and UDP.
pub const MAX_HEADERS: usize = IPV6 + UDP_HEADER;

const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP_HEADER: usize = 8;
/// The flag "don't fragment": with headers from user space the kernel accepts no packet larger than
/// the MTU anyway.
const DONT_FRAGMENT: u16 = 0x4000;

/// The header fields of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// The source address, in the same family as `destination`.
    pub source: Addr,
    /// The destination address.
    pub destination: Addr,
    /// The source port.
    pub source_port: u16,
    /// The destination port.
    pub port: u16,
    /// Time to live, or the hop limit of IPv6.
    pub ttl: u8,
    /// The differentiated services code point, 0 to 63.
    pub dscp: u8,
}

impl Headers {
    /// Writes the headers of `payload` to the start of `place`, and returns their length in bytes.
    #[inline]
    pub fn write(&self, payload: &[u8], place: &mut [u8; MAX_HEADERS]) -> usize {
        let udp = self.udp(payload);
        if self.destination.is_v4() {
            place[..IPV4].copy_from_slice(&self.ipv4(udp.len() + payload.len()));
            place[IPV4..IPV4 + UDP_HEADER].copy_from_slice(&udp);
            return IPV4 + UDP_HEADER;
        }
        place[..IPV6].copy_from_slice(&self.ipv6(udp.len() + payload.len()));
        place[IPV6..].copy_from_slice(&udp);
        MAX_HEADERS
    }

    /// RFC 791. Identification 0, which is ignored where fragmentation is forbidden (RFC 6864).
    fn ipv4(&self, len: usize) -> [u8; IPV4] {
        let mut header = self.fragmentable_ipv4();
        header[2..4].copy_from_slice(&length(IPV4 + len));
        header[6..8].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
        header
    }

    /// The same for a packet that routers may fragment, without length and identification.
    pub(super) fn fragmentable_ipv4(&self) -> [u8; IPV4] {
        let mut header = [0; IPV4];
        header[0] = 0x45;
        header[1] = self.dscp << 2;
        header[8] = self.ttl;
        header[9] = UDP;
        header[12..16].copy_from_slice(&v4(self.source));
        header[16..].copy_from_slice(&v4(self.destination));
        header
    }

    /// RFC 8200.
    pub(super) fn ipv6(&self, len: usize) -> [u8; IPV6] {
        let mut header = [0; IPV6];
        let class = u16::from(self.dscp) << 2;
        header[..2].copy_from_slice(&(0x6000 | class << 4).to_be_bytes());
        header[4..6].copy_from_slice(&length(len));
        header[6] = UDP;
        header[7] = self.ttl;
        header[8..24].copy_from_slice(&self.source.bits().to_be_bytes());
        header[24..].copy_from_slice(&self.destination.bits().to_be_bytes());
        header
    }

    fn udp(&self, payload: &[u8]) -> [u8; UDP_HEADER] {
        let mut header = [0; UDP_HEADER];
        header[..2].copy_from_slice(&self.source_port.to_be_bytes());
        header[2..4].copy_from_slice(&self.port.to_be_bytes());
        header[4..6].copy_from_slice(&length(UDP_HEADER + payload.len()));
        let checksum = if self.destination.is_v4() {
            let [source, destination] = [v4(self.source), v4(self.destination)];
            checksum::of_udp([&source, &destination], &header, payload)
        } else {
            let [source, destination] =
                [self.source, self.destination].map(|a| a.bits().to_be_bytes());
            checksum::of_udp([&source, &destination], &header, payload)
        };
        header[6..].copy_from_slice(&checksum);
        header
    }
}

/// A length field. A length that does not fit exceeds every MTU, so the kernel refuses the packet.
fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

fn v4(address: Addr) -> [u8; 4] {
    let [.., a, b, c, d] = address.bits().to_be_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketHeaders, TransportHeader};
    use proptest::prelude::*;

    use super::*;
    use crate::packet::{ChecksumState, FrameMeta, VlanTag, parse};

    fn addr() -> impl Strategy<Value = (Addr, Addr)> {
        let v4 = any::<([u8; 4], [u8; 4])>().prop_map(|(from, to)| (Addr::v4(from), Addr::v4(to)));
        // IPv6 headers here never contain an IPv4-mapped address.
        let v6 = any::<([u8; 15], [u8; 15])>().prop_map(|(from, to)| {
            let global = |tail: [u8; 15]| {
                let mut bytes = [0x20; 16];
                bytes[1..].copy_from_slice(&tail);
                Addr::v6(bytes)
            };
            (global(from), global(to))
        });
        prop_oneof![v4, v6]
    }

    prop_compose! {
        fn headers()(
            (source, destination) in addr(),
            source_port: u16,
            port: u16,
            ttl: u8,
            dscp in 0_u8..64,
        ) -> Headers {
            Headers { source, destination, source_port, port, ttl, dscp }
        }
    }

    /// The complete IP packet, with the IPv4 header's checksum as filled in by the kernel.
    fn packet(headers: &Headers, payload: &[u8]) -> Vec<u8> {
        let mut place = [0xaa; MAX_HEADERS];
        let len = headers.write(payload, &mut place);
        let mut bytes = [&place[..len], payload].concat();
        if headers.destination.is_v4() {
            let (header, _) = etherparse::Ipv4Header::from_slice(&bytes).unwrap();
            bytes[10..12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
        }
        bytes
    }

    proptest! {
        #[test]
        fn another_parser_reads_the_headers(
            headers in headers(),
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = packet(&headers, &payload);
            let read = PacketHeaders::from_ip_slice(&bytes).unwrap();
            let Some(TransportHeader::Udp(udp)) = read.transport else { panic!("{read:?}") };
            prop_assert_eq!((udp.source_port, udp.destination_port), (headers.source_port, headers.port));
            prop_assert_eq!(usize::from(udp.length), 8 + payload.len());
            prop_assert_eq!(read.payload.slice(), &payload[..]);
            let sum = match read.net.unwrap() {
                etherparse::NetHeaders::Ipv4(ip, _) => {
                    prop_assert_eq!((ip.time_to_live, ip.dscp.value(), ip.ecn.value()), (headers.ttl, headers.dscp, 0));
                    prop_assert!(ip.dont_fragment && !ip.more_fragments);
                    prop_assert_eq!(usize::from(ip.total_len), bytes.len());
                    prop_assert_eq!((Addr::v4(ip.source), Addr::v4(ip.destination)), (headers.source, headers.destination));
                    udp.calc_checksum_ipv4(&ip, &payload).unwrap()
                }
                etherparse::NetHeaders::Ipv6(ip, _) => {
                    prop_assert_eq!((ip.hop_limit, ip.traffic_class, ip.flow_label.value()), (headers.ttl, headers.dscp << 2, 0));
                    prop_assert_eq!(usize::from(ip.payload_length), bytes.len() - 40);
                    prop_assert_eq!((Addr::v6(ip.source), Addr::v6(ip.destination)), (headers.source, headers.destination));
                    udp.calc_checksum_ipv6(&ip, &payload).unwrap()
                }
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(udp.checksum, sum);
        }

        #[test]
        fn written_headers_parse_back(
            headers in headers(),
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let ethertype = if headers.destination.is_v4() { [0x08, 0x00] } else { [0x86, 0xdd] };
            let frame = [&[0; 12][..], &ethertype, &packet(&headers, &payload)].concat();
            let meta = FrameMeta { vlan: None::<VlanTag>, checksum: ChecksumState::Unverified, segment_size: 0 };
            let datagram = parse(&frame, meta).unwrap();
            prop_assert_eq!((datagram.source, datagram.group), (headers.source, headers.destination));
            prop_assert_eq!((datagram.ttl, datagram.dscp), (headers.ttl, headers.dscp));
            prop_assert_eq!(datagram.payload.len as usize, payload.len());
        }
    }

    /// A zero checksum would mean that there is none.
    #[test]
    fn a_checksum_of_zero_is_written_as_ones() {
        let (source, destination) = (Addr::v4([10, 0, 0, 1]), Addr::v4([239, 1, 1, 1]));
        let mut headers =
            Headers { source, destination, source_port: 0, port: 5001, ttl: 1, dscp: 0 };
        let mut place = [0; MAX_HEADERS];
        headers.write(b"", &mut place);
        // The port that brings the sum to all ones.
        headers.source_port = u16::from_be_bytes([place[26], place[27]]);
        headers.write(b"", &mut place);
        assert_eq!(place[26..28], [0xff, 0xff]);
    }
}
