//! Complete frames, compared with another parser and with what this one reads.

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use proptest::prelude::*;

use crate::addr::Addr;
use crate::packet::{
    ChecksumState, EthernetHeader, FrameMeta, FrameTemplate, Headers, PayloadSum, group_mac, parse,
};

prop_compose! {
    fn headers()(
        v4: bool,
        from: [u8; 15],
        to: [u8; 15],
        source_port: u16,
        port: u16,
        ttl: u8,
        dscp in 0_u8..64,
    ) -> Headers {
        let addr = |tail: [u8; 15]| {
            // IPv6 headers here never contain an IPv4-mapped address.
            let mut bytes = [0x20; 16];
            bytes[1..].copy_from_slice(&tail);
            if v4 { Addr::v4([tail[0], tail[1], tail[2], tail[3]]) } else { Addr::v6(bytes) }
        };
        let (source, destination) = (addr(from), addr(to));
        Headers { source, destination, source_port, port, ttl, dscp }
    }
}

const ETHERNET: EthernetHeader =
    EthernetHeader { destination: [1, 0, 0x5e, 2, 3, 4], source: [2, 0, 0, 0, 0, 9] };

fn frame(headers: &Headers, payload: &[u8], identification: u16) -> Vec<u8> {
    let template = FrameTemplate::new(ETHERNET, headers);
    let mut place = vec![0xaa; 2048];
    let len = template.write(payload, PayloadSum::of(payload), identification, &mut place).unwrap();
    place.truncate(len);
    place
}

proptest! {
    #[test]
    fn another_parser_reads_the_frame(
        headers in headers(),
        payload in prop::collection::vec(any::<u8>(), 0..1472),
        identification: u16,
    ) {
        let bytes = frame(&headers, &payload, identification);
        let read = PacketHeaders::from_ethernet_slice(&bytes).unwrap();
        let link = read.link.clone().unwrap().ethernet2().unwrap();
        prop_assert_eq!((link.destination, link.source), (ETHERNET.destination, ETHERNET.source));
        let Some(TransportHeader::Udp(udp)) = read.transport else { panic!("{read:?}") };
        prop_assert_eq!((udp.source_port, udp.destination_port), (headers.source_port, headers.port));
        prop_assert_eq!(usize::from(udp.length), 8 + payload.len());
        prop_assert_eq!(read.payload.slice(), &payload[..]);
        let sum = match read.net.unwrap() {
            NetHeaders::Ipv4(ip, _) => {
                prop_assert_eq!((ip.time_to_live, ip.dscp.value(), ip.ecn.value()), (headers.ttl, headers.dscp, 0));
                prop_assert!(!ip.dont_fragment && !ip.more_fragments);
                prop_assert_eq!((ip.identification, ip.fragment_offset.value()), (identification, 0));
                prop_assert_eq!(usize::from(ip.total_len), bytes.len() - 14);
                prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                prop_assert_eq!((Addr::v4(ip.source), Addr::v4(ip.destination)), (headers.source, headers.destination));
                udp.calc_checksum_ipv4(&ip, &payload).unwrap()
            }
            NetHeaders::Ipv6(ip, _) => {
                prop_assert_eq!((ip.hop_limit, ip.traffic_class, ip.flow_label.value()), (headers.ttl, headers.dscp << 2, 0));
                prop_assert_eq!(usize::from(ip.payload_length), bytes.len() - 54);
                prop_assert_eq!((Addr::v6(ip.source), Addr::v6(ip.destination)), (headers.source, headers.destination));
                udp.calc_checksum_ipv6(&ip, &payload).unwrap()
            }
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(udp.checksum, sum);
    }

    #[test]
    fn reading_a_frame_gives_what_was_written(
        headers in headers(),
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = frame(&headers, &payload, 7);
        let meta = FrameMeta { vlan: None, checksum: ChecksumState::Unverified, segment_size: 0 };
        let read = parse(&bytes, meta).unwrap();
        prop_assert_eq!((read.source, read.source_port), (headers.source, headers.source_port));
        prop_assert_eq!((read.group, read.port), (headers.destination, headers.port));
        prop_assert_eq!((read.ttl, read.dscp), (headers.ttl, headers.dscp));
        let (start, end) = (read.payload.start as usize, (read.payload.start + read.payload.len) as usize);
        prop_assert_eq!(&bytes[start..end], &payload[..]);
    }
}

/// A zero checksum would mean that there is none.
#[test]
fn a_checksum_of_zero_is_written_as_ones() {
    let (source, destination) = (Addr::v4([10, 0, 0, 1]), Addr::v4([239, 1, 1, 1]));
    let mut headers = Headers { source, destination, source_port: 0, port: 5001, ttl: 1, dscp: 0 };
    let bytes = frame(&headers, b"", 1);
    // The port that brings the sum to all ones.
    headers.source_port = u16::from_be_bytes([bytes[40], bytes[41]]);
    assert_eq!(frame(&headers, b"", 1)[40..42], [0xff, 0xff]);
}

#[test]
fn a_frame_that_does_not_fit_is_not_written() {
    for (destination, header_bytes) in [(Addr::v4([239, 1, 1, 1]), 42), (Addr::v6([0xff; 16]), 62)]
    {
        let source = destination;
        let headers = Headers { source, destination, source_port: 1, port: 2, ttl: 1, dscp: 0 };
        let template = FrameTemplate::new(ETHERNET, &headers);
        let payload = vec![7; 70_000];
        let write = |bytes: usize, room: usize| {
            let payload = &payload[..bytes];
            template.write(payload, PayloadSum::of(payload), 0, &mut vec![0; room])
        };
        assert_eq!(write(100, 100 + header_bytes), Some(100 + header_bytes));
        assert_eq!(write(100, 99 + header_bytes), None);
        assert_eq!(write(0, header_bytes), Some(header_bytes));
        assert_eq!(write(70_000, 80_000), None);
    }
}

#[test]
fn the_address_of_a_group_has_its_last_bits() {
    assert_eq!(group_mac(Addr::v4([239, 129, 2, 3])), [1, 0, 0x5e, 1, 2, 3]);
    let v6: std::net::IpAddr = "ff3e::8000:1234".parse().unwrap();
    assert_eq!(group_mac(v6.into()), [0x33, 0x33, 0x80, 0, 0x12, 0x34]);
}
