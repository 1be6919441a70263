//! The parser against etherparse, a parser that others wrote.

use _native::packet::{ChecksumState, Discard, FrameMeta, VlanTag, parse};
use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6FragmentHeader,
    Ipv6Header, Ipv6RawExtHeader, Ipv6RoutingExtensions, PacketBuilder,
};
use oracle::{TRUSTED, UNVERIFIED, fields};
use proptest::prelude::*;
use proptest::sample::Index;

mod oracle;

proptest! {
    #[test]
    fn any_bytes_give_a_datagram_within_them_or_a_reason(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        meta in meta(),
    ) {
        check_bounds(&bytes, meta)?;
    }

    #[test]
    fn a_built_frame_is_read_as_it_was_built(frame in frame()) {
        let seen = parse(&frame, UNVERIFIED);
        prop_assert_eq!(fields(&frame, &seen), Ok(oracle::read(&frame)));
    }

    #[test]
    fn a_built_frame_cut_anywhere_is_truncated(frame in frame_without_padding(), at in any::<Index>()) {
        let cut = &frame[..at.index(frame.len())];
        prop_assert_eq!(parse(cut, TRUSTED), Err(Discard::Truncated));
    }

    #[test]
    fn a_damaged_frame_is_read_as_the_oracle_reads_it(
        frame in frame(),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        header_only in any::<bool>(),
    ) {
        let mut frame = frame;
        for (at, byte) in damage {
            let end = if header_only { frame.len().min(64) } else { frame.len() };
            frame[at.index(end)] = byte;
        }
        check_bounds(&frame, UNVERIFIED)?;
        oracle::compare(&frame).map_err(TestCaseError::fail)?;
    }
}

/// Parses, and checks what holds for every outcome.
fn check_bounds(frame: &[u8], meta: FrameMeta) -> Result<(), TestCaseError> {
    if let Ok(datagram) = parse(frame, meta) {
        prop_assert!(datagram.payload.start >= 42);
        prop_assert!(datagram.payload.start + datagram.payload.len <= u32::try_from(frame.len())?);
        prop_assert!(datagram.segments >= 1);
        prop_assert!(datagram.dscp < 64 && datagram.vlan < 4096);
        let whole = u64::from(datagram.segments) * u64::from(meta.segment_size);
        prop_assert!(meta.segment_size == 0 || whole >= u64::from(datagram.payload.len));
    }
    Ok(())
}

fn meta() -> impl Strategy<Value = FrameMeta> {
    let vlan = prop::option::of(any::<(u16, u16)>());
    (vlan, any::<bool>(), any::<u16>()).prop_map(|(vlan, trusted, segment_size)| FrameMeta {
        vlan: vlan.map(|(tpid, tci)| VlanTag { tpid, tci }),
        checksum: if trusted { ChecksumState::Trusted } else { ChecksumState::Unverified },
        segment_size,
    })
}

/// A frame that must be accepted.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    (frame_without_padding(), prop::collection::vec(any::<u8>(), 0..20))
        .prop_map(|(frame, padding)| [frame, padding].concat())
}

fn frame_without_padding() -> impl Strategy<Value = Vec<u8>> {
    let ip = prop_oneof![ipv4(), ipv6()];
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    (tags(), ip, any::<[u16; 2]>(), payload).prop_map(|(tags, ip, ports, payload)| {
        let builder = PacketBuilder::ethernet2([2; 6], [1; 6]).ip(ip).udp(ports[0], ports[1]);
        let mut frame = vec![0; builder.size(payload.len())];
        assert!(builder.write_to_slice(&mut frame, &payload).is_ok(), "the frame is built");
        [&frame[..12], &tags, &frame[12..]].concat()
    })
}

/// The bytes of up to three tags, at most one of them with a VLAN identifier.
fn tags() -> impl Strategy<Value = Vec<u8>> {
    let tpid = prop_oneof![Just(0x8100_u16), Just(0x88a8), Just(0x9100)];
    let tags = prop::collection::vec((tpid, any::<u16>()), 0..=3);
    (tags, any::<Index>()).prop_map(|(tags, named)| {
        let named = named.index(tags.len().max(1));
        let tag = |(place, (tpid, tci)): (usize, (u16, u16))| {
            let tci = if place == named { tci } else { tci & 0xf000 };
            [tpid.to_be_bytes(), tci.to_be_bytes()].concat()
        };
        tags.into_iter().enumerate().flat_map(tag).collect()
    })
}

fn ipv4() -> BoxedStrategy<IpHeaders> {
    (any::<[[u8; 4]; 2]>(), any::<u8>(), 0..64_u8, prop::collection::vec(any::<u8>(), 0..=10))
        .prop_map(|([source, destination], time_to_live, dscp, words)| {
            let options: Vec<u8> = words.iter().flat_map(|word| [*word; 4]).collect();
            let header = Ipv4Header {
                source,
                destination,
                time_to_live,
                dscp: dscp.try_into().unwrap_or_default(),
                options: Ipv4Options::try_from(&options[..]).unwrap_or_default(),
                ..Ipv4Header::default()
            };
            IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())
        })
        .boxed()
}

fn ipv6() -> BoxedStrategy<IpHeaders> {
    (any::<[[u8; 16]; 2]>(), any::<u8>(), any::<u8>(), extensions())
        .prop_map(|([source, destination], hop_limit, traffic_class, extensions)| {
            let header = Ipv6Header {
                source,
                destination,
                hop_limit,
                traffic_class,
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(header, extensions)
        })
        .boxed()
}

fn extensions() -> impl Strategy<Value = Ipv6Extensions> {
    let raw = || {
        prop::option::of((0..4_usize).prop_map(|units| {
            Ipv6RawExtHeader::new_raw(IpNumber::UDP, &vec![1; 6 + units * 8]).ok()
        }))
        .prop_map(Option::flatten)
    };
    (raw(), raw(), raw(), raw(), any::<bool>()).prop_map(|(hop, first, routing, last, atomic)| {
        let fragment = Ipv6FragmentHeader::new(IpNumber::UDP, IpFragOffset::ZERO, false, 7);
        Ipv6Extensions {
            hop_by_hop_options: hop,
            destination_options: first,
            routing: routing
                .map(|routing| Ipv6RoutingExtensions { routing, final_destination_options: last }),
            fragment: atomic.then_some(fragment),
            auth: None,
        }
    })
}
