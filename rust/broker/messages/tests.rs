//! Messages survive the round trip; all other bytes are rejected.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;
use crate::broker::wire::{MAX_ITEMS, MAX_TEXT_BYTES};
use crate::spec::{Choice, OutputRate, RateUnit, Ttl};

fn addr() -> impl Strategy<Value = Addr> {
    any::<u128>().prop_map(Addr::from_bits)
}

fn interface() -> impl Strategy<Value = InterfaceId> {
    (any::<u32>(), ".{0,20}").prop_map(|(index, name)| InterfaceId { index, name })
}

fn ring() -> impl Strategy<Value = RingShape> {
    (any::<u32>(), any::<u16>()).prop_map(|(slot_bytes, slots)| RingShape { slot_bytes, slots })
}

fn choice<T: Clone + std::fmt::Debug + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Choice<T>> {
    prop_oneof![Just(Choice::Kernel), Just(Choice::Keep), value.prop_map(Choice::Chosen)]
}

fn rate() -> impl Strategy<Value = OutputRate> {
    let unit = prop_oneof![Just(RateUnit::Bits), Just(RateUnit::Datagrams)];
    let amounts = (any::<u64>(), any::<u64>(), any::<u32>(), any::<bool>());
    (unit, amounts).prop_map(|(unit, (per_s, burst, queue_us, paced))| OutputRate {
        unit,
        per_s,
        burst,
        queue_us,
        paced,
    })
}

fn spec() -> impl Strategy<Value = OutputSpec> {
    let ttl = prop_oneof![Just(Ttl::Keep), Just(Ttl::Decrement), any::<u8>().prop_map(Ttl::Set)];
    let place = (addr(), any::<u8>(), any::<u16>(), any::<u16>(), interface());
    let source = (choice(addr()), choice(any::<u16>()));
    let rest = (ttl, of(any::<u8>()), any::<bool>(), of(any::<u8>()), of(rate()));
    (place, source, rest).prop_map(|(place, (source, source_port), rest)| {
        let (address, address_bits, port, last_port, interface) = place;
        let (ttl, dscp, multicast_loop, priority, rate) = rest;
        let InterfaceId { index: ifindex, name: interface } = interface;
        OutputSpec {
            address,
            address_bits,
            port,
            last_port,
            ifindex,
            interface,
            ttl,
            dscp,
            source,
            source_port,
            multicast_loop,
            priority,
            rate,
        }
    })
}

fn datagrams() -> impl Strategy<Value = Request> {
    let port = any::<u16>();
    (interface(), addr(), any::<[bool; 3]>(), port).prop_map(|(interface, group, flags, port)| {
        let [is_broadcast, is_everywhere, is_beside_own] = flags;
        Request::Datagrams { interface, group, is_broadcast, is_everywhere, is_beside_own, port }
    })
}

fn blocks() -> impl Strategy<Value = Vec<(Addr, u8)>> {
    vec((addr(), any::<u8>()), 0..40)
}

fn pins() -> impl Strategy<Value = Vec<Pin>> {
    vec(any::<(u32, u16)>().prop_map(|(key, socket)| Pin { key, socket }), 0..40)
}

fn sources() -> impl Strategy<Value = Vec<Addr>> {
    vec(addr(), 0..40)
}

fn frames() -> impl Strategy<Value = Request> {
    (interface(), blocks(), of(ring())).prop_map(|(interface, blocks, ring)| Request::Frames {
        interface,
        blocks,
        ring,
    })
}

fn join() -> impl Strategy<Value = Request> {
    (interface(), addr(), sources()).prop_map(|(interface, group, sources)| Request::Join {
        interface,
        group,
        sources,
    })
}

fn leave() -> impl Strategy<Value = Request> {
    (any::<u32>(), addr(), sources()).prop_map(|(ifindex, group, sources)| Request::Leave {
        ifindex,
        group,
        sources,
    })
}

fn gro_helper() -> impl Strategy<Value = Request> {
    (interface(), addr(), any::<u16>()).prop_map(|(interface, group, port)| Request::GroHelper {
        interface,
        group,
        port,
    })
}

pub(in crate::broker) fn request() -> impl Strategy<Value = Request> {
    let (lease, port) = (any::<u64>(), any::<u16>());
    prop_oneof![
        port.prop_map(|protocol| Request::Hello { protocol }),
        frames(),
        (lease, blocks()).prop_map(|(lease, blocks)| Request::Filter { lease, blocks }),
        (lease, any::<bool>()).prop_map(|(lease, on)| Request::AllMulticast { lease, on }),
        join(),
        leave(),
        gro_helper(),
        (addr(), port).prop_map(|(group, port)| Request::GroHelperAnywhere { group, port }),
        (any::<[bool; 2]>(), port).prop_map(|([v4, is_beside_own], port)| {
            Request::GroHelperForPort { v4, port, is_beside_own }
        }),
        (interface(), addr(), port).prop_map(|(interface, address, port)| Request::PortGuard {
            interface,
            address,
            port,
            is_beside_own: port % 2 == 0,
        }),
        datagrams(),
        (lease, sources()).prop_map(|(lease, sources)| Request::JoinBy { lease, sources }),
        (lease, sources()).prop_map(|(lease, sources)| Request::LeaveBy { lease, sources }),
        (lease, sources()).prop_map(|(lease, sources)| Request::NarrowBy { lease, sources }),
        any::<u32>().prop_map(|ifindex| Request::Announce { ifindex }),
        any::<(u64, bool)>().prop_map(|(lease, on)| Request::Merge { lease, on }),
        (any::<u64>(), any::<bool>(), spec())
            .prop_map(|(key, is_connected, spec)| { Request::Output { key, is_connected, spec } }),
        (lease, any::<u32>()).prop_map(|(lease, ifindex)| Request::Reconnect { lease, ifindex }),
        (lease, any::<u32>()).prop_map(|(lease, ifindex)| Request::ResolveHost { lease, ifindex }),
        vec(lease, 0..40).prop_map(|leases| Request::Release { leases }),
        (interface(), direction()).prop_map(|(interface, of)| Request::Hooks { interface, of }),
        (interface(), any::<u32>())
            .prop_map(|(interface, queue)| Request::XdpLink { interface, queue }),
        lease.prop_map(|lease| Request::XdpMemory { lease }),
        any::<u8>().prop_map(|number| Request::KernelMap { number }),
        interface().prop_map(|interface| Request::KernelHook { interface }),
        vec(any::<(u32, u16)>(), 0..70).prop_map(|shape| Request::KernelFan { shape }),
        any::<u32>().prop_map(|cpu| Request::KernelCpu { cpu }),
        (lease, pins()).prop_map(|(lease, pins)| Request::Pin { lease, pins }),
        Just(Request::ReleaseUnclaimed {}),
    ]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![
        Just(Direction::Sent),
        any::<bool>().prop_map(|to_sockets| Direction::Received { to_sockets }),
    ]
}

fn hook() -> impl Strategy<Value = HostHook> {
    prop_oneof![
        ".{0,90}".prop_map(HostHook::Chain),
        ".{0,90}".prop_map(HostHook::Table),
        ".{0,90}".prop_map(HostHook::Function),
        Just(HostHook::Program),
        Just(HostHook::GroupProgram),
        Just(HostHook::Policy),
        ".{0,90}".prop_map(HostHook::Unreadable),
        ".{0,90}".prop_map(HostHook::Received),
    ]
}

fn obstacle() -> impl Strategy<Value = XdpObstacle> {
    let text = || ".{0,20}";
    prop_oneof![
        Just(XdpObstacle::Removed),
        text().prop_map(XdpObstacle::NotEthernet),
        text().prop_map(XdpObstacle::Down),
        (text(), any::<(u32, u32)>()).prop_map(|(interface, (queue, queues))| {
            XdpObstacle::NoQueue { interface, queue, queues }
        }),
        any::<u32>().prop_map(XdpObstacle::QueueInUse),
        (text(), text()).prop_map(|(interface, kind)| XdpObstacle::Discipline { interface, kind }),
        text().prop_map(XdpObstacle::Filter),
        hook().prop_map(XdpObstacle::Hook),
        Just(XdpObstacle::MulticastRouting),
        text().prop_map(XdpObstacle::LocalMember),
        text().prop_map(XdpObstacle::Refused),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let error = prop_oneof![
        ".{0,90}".prop_map(Error::Invalid),
        (".{0,90}", of(".{1,20}"), of(".{1,20}")).prop_map(
            |(sentence, capability, alternative)| {
                let (capability, alternative) =
                    (capability.map(Into::into), alternative.map(Into::into));
                Error::Permission(MissingRight { sentence, capability, alternative })
            }
        ),
        ".{0,90}".prop_map(Error::Engine),
        (".{0,40}", ".{0,40}", 1..133_i32).prop_map(|(call, target, errno)| {
            Error::os(call, target, io::Error::from_raw_os_error(errno))
        }),
        (".{0,40}", ".{0,40}").prop_map(|(call, text)| Error::os(
            call,
            "x",
            io::Error::other(text)
        )),
    ];
    let (lease, bytes) = (any::<u64>(), any::<u64>());
    prop_oneof![
        Just(Answer::Done {}),
        Just(Answer::Absent {}),
        error.prop_map(|error| Answer::Refused { why: error.into() }),
        lease.prop_map(|lease| Answer::Helper { lease }),
        (lease, bytes, any::<bool>(), of(ring()), any::<bool>()).prop_map(
            |(lease, receive_buffer_bytes, vnet_hdr, ring, has_history)| {
                Answer::Frames { lease, receive_buffer_bytes, vnet_hdr, ring, has_history }
            }
        ),
        (lease, bytes).prop_map(|(lease, receive_buffer_bytes)| {
            Answer::Datagrams { lease, receive_buffer_bytes }
        }),
        (lease, bytes, any::<u16>()).prop_map(|(lease, send_buffer_bytes, max_segment)| {
            Answer::Output { lease, send_buffer_bytes, max_segment }
        }),
        any::<u16>().prop_map(|max_segment| Answer::Segment { max_segment }),
        (of(hook()), of(hook())).prop_map(|(v4, v6)| Answer::Hooks { v4, v6 }),
        (lease, any::<(u32, u32)>()).prop_map(|(lease, (frames, frame_bytes))| {
            Answer::XdpLink { lease, shape: XdpShape { frames, frame_bytes } }
        }),
        lease.prop_map(|lease| Answer::XdpMemory { lease }),
        obstacle().prop_map(|why| Answer::NoXdpLink { why }),
        any::<u8>().prop_map(|number| Answer::KernelMap { number }),
        lease.prop_map(|lease| Answer::KernelHook { lease }),
        (lease, any::<u32>(), vec(any::<(u32, u16)>(), 0..9))
            .prop_map(|(lease, number, devices)| Answer::KernelFan { lease, number, devices },),
    ]
}

proptest! {
    #[test]
    fn a_request_survives_the_round_trip(request in request(), cut in any::<prop::sample::Index>()) {
        let bytes = request.to_bytes();
        prop_assert_eq!(Request::from_bytes(&bytes), Some(request));
        prop_assert_eq!(Request::from_bytes(&bytes[..cut.index(bytes.len())]), None);
        prop_assert_eq!(Request::from_bytes(&[&*bytes, &[0]].concat()), None);
    }

    #[test]
    fn an_answer_comes_out_as_it_went_in(answer in answer()) {
        prop_assert_eq!(Answer::from_bytes(&answer.to_bytes()), Some(answer));
    }

    #[test]
    fn what_can_be_read_has_one_spelling(bytes in vec(any::<u8>(), 0..200), kind in 0..26_u8) {
        let bytes = [&[kind][..], &bytes].concat();
        if let Some(request) = Request::from_bytes(&bytes) {
            prop_assert_eq!(request.to_bytes(), &*bytes);
        }
        if let Some(answer) = Answer::from_bytes(&bytes) {
            prop_assert_eq!(answer.to_bytes(), bytes);
        }
    }

    #[test]
    fn a_refusal_keeps_its_text(call in "[a-z ]{1,40}", target in "[a-z ]{1,40}", errno in 1..133_i32) {
        let error = || Error::os(call.clone(), target.clone(), io::Error::from_raw_os_error(errno));
        let again = Error::from(BrokerError::from(error()));
        prop_assert_eq!(again.to_string(), error().to_string());
        let Error::Os { source, .. } = again else { panic!() };
        prop_assert_eq!(source.raw_os_error(), Some(errno));
    }
}

#[test]
fn the_longest_messages_fit() {
    let (group, interface) =
        (Addr::v4([239, 1, 1, 1]), InterfaceId { index: 1, name: "e".repeat(15) });
    let long = vec![(group, 8); MAX_ITEMS + 1];
    let ring = Some(RingShape { slot_bytes: 2048, slots: 32 });
    let bytes = Request::Frames { interface, blocks: long, ring }.to_bytes();
    assert!(bytes.len() <= MESSAGE_BYTES);
    let Some(Request::Frames { blocks, .. }) = Request::from_bytes(&bytes) else { panic!() };
    assert_eq!(blocks.len(), MAX_ITEMS);
    let text = "é".repeat(MAX_TEXT_BYTES);
    let why = BrokerError::from(Error::os(text.clone(), text.clone(), io::Error::other(text)));
    let bytes = Answer::Refused { why }.to_bytes();
    assert!(bytes.len() <= MESSAGE_BYTES && Answer::from_bytes(&bytes).is_some());
}

#[test]
fn every_error_survives_the_broker() {
    for error in [
        Error::Invalid("a".to_owned()),
        Error::Permission("b".to_owned().into()),
        Error::Permission(MissingRight::of("CAP_B", "b".to_owned(), Some("omit it"))),
        Error::Engine("c".to_owned()),
        Error::os("d", "e", io::Error::other("f")),
    ] {
        let text = format!("{error:?}");
        assert_eq!(format!("{:?}", Error::from(BrokerError::from(error))), text);
    }
}
