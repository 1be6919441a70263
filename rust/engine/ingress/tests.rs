//! Hand-made buffers in the kernel's format.

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::packet::Span;

const FRAME: Delivery = Delivery::Frame { vnet_hdr: true, link: LinkType::Ethernet };
const BARE_FRAME: Delivery = Delivery::Frame { vnet_hdr: false, link: LinkType::Ethernet };
const SLOT: Delivery = Delivery::Slot { link: LinkType::Ethernet };
const OTHER_SLOT: Delivery = Delivery::Slot { link: LinkType::Other };
const OTHER: Delivery = Delivery::Frame { vnet_hdr: true, link: LinkType::Other };
const GROUP: Addr = Addr::v4([239, 1, 1, 1]);
const DATAGRAM: Delivery = Delivery::Datagram { group: GROUP, port: 5001 };
const NEEDS_CSUM: u8 = 1;
const VLAN_VALID: u32 = 0x10;
const TPID_VALID: u32 = 0x40;
const CHECKSUM_VALID: u32 = 0x80;

/// Concatenates the areas of a buffer, each padded to its length in the layout.
fn buffer(kind: Delivery, flags: i32, name: &[u8], control: &[u8], data: &[u8]) -> Vec<u8> {
    let layout = kind.layout().unwrap();
    let lengths = [name.len(), control.len(), data.len()].map(|len| u32::try_from(len).unwrap());
    let header = [lengths[0], lengths[1], lengths[2], flags.cast_unsigned()];
    let mut bytes: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).collect();
    for (area, len) in [(name, layout.name_bytes()), (control, layout.control_bytes())] {
        bytes.extend(area);
        bytes.resize(bytes.len() + len - area.len(), 0);
    }
    bytes.extend(data);
    bytes
}

fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + data.len()).to_ne_bytes().to_vec();
    bytes.extend(level.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(data);
    bytes
}

/// `struct tpacket_auxdata`.
fn auxiliary(status: u32, tci: u16, tpid: u16) -> Vec<u8> {
    let mut data = status.to_ne_bytes().to_vec();
    data.extend([0; 12]);
    data.extend(tci.to_ne_bytes());
    data.extend(tpid.to_ne_bytes());
    message(libc::SOL_PACKET, libc::PACKET_AUXDATA, &data)
}

/// `struct virtio_net_hdr` for the UDP header of [`frame`].
fn virtio(flags: u8, gso_type: u8, gso_size: u16) -> Vec<u8> {
    virtio_of(34, flags, gso_type, gso_size)
}

/// The same for a checksum area that starts at `checksum_start`.
fn virtio_of(checksum_start: u8, flags: u8, gso_type: u8, gso_size: u16) -> Vec<u8> {
    let [low, high] = gso_size.to_ne_bytes();
    vec![flags, gso_type, 0, 0, low, high, checksum_start, 0, 6, 0]
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [1, 0, 0x5e, 1, 1, 1])
        .ipv4([10, 0, 0, 5], [239, 1, 1, 1], 9)
        .udp(4000, 5001);
    let mut bytes = vec![0; builder.size(payload.len())];
    builder.write_to_slice(&mut bytes, payload).unwrap();
    bytes
}

fn with_header(header: Vec<u8>, frame: &[u8]) -> Vec<u8> {
    [&header, frame].concat()
}

fn sockaddr_v4() -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&u16::try_from(libc::AF_INET).unwrap().to_ne_bytes());
    bytes[2..8].copy_from_slice(&[0x0f, 0xa0, 10, 0, 0, 5]);
    bytes
}

fn payload(bytes: &[u8], span: Span) -> &[u8] {
    &bytes[span.start as usize..][..span.len as usize]
}

/// A slot of a packet ring: `struct tpacket2_hdr`, the virtio header at 72, the frame at 82.
fn slot(status: u32, (tci, tpid): (u16, u16), virtio: &[u8], frame: &[u8]) -> Vec<u8> {
    let len = u32::try_from(frame.len()).unwrap();
    let mut bytes: Vec<u8> = [status, len, len].into_iter().flat_map(u32::to_ne_bytes).collect();
    bytes.extend([82_u16, 96].into_iter().flat_map(u16::to_ne_bytes));
    bytes.resize(24, 0);
    bytes.extend([tci, tpid].into_iter().flat_map(u16::to_ne_bytes));
    bytes.resize(72, 0);
    [&bytes, virtio, frame].concat()
}

#[test]
fn a_slot_reads_like_a_buffer() {
    let (plain, tag) = (virtio(0, 0, 0), VLAN_VALID | TPID_VALID);
    let read = |status, vlan, virtio: &[u8], frame: &[u8]| {
        let bytes = slot(status, vlan, virtio, frame);
        SLOT.read(&bytes, true).map(|Arrival { datagram, segment }| {
            assert_eq!(payload(&bytes, datagram.payload), b"payload");
            (datagram.vlan, datagram.segments, segment)
        })
    };
    let whole = frame(b"payload");
    assert_eq!(read(1, (0, 0), &plain, &whole), Ok((0, 1, 0)));
    assert_eq!(read(tag, (0xa007, 0x88a8), &plain, &whole), Ok((7, 1, 0)));
    assert_eq!(read(1, (0, 0), &virtio(NEEDS_CSUM, 5, 3), &whole), Ok((0, 3, 3)));
    let mut damaged = whole.clone();
    damaged[41] ^= 1;
    assert_eq!(read(1, (0, 0), &plain, &damaged), Err(Discard::BadChecksum));
    assert_eq!(read(1, (0, 0), &virtio(NEEDS_CSUM, 0, 0), &damaged), Ok((0, 1, 0)));
    let mut cut = slot(1, (0, 0), &plain, &whole);
    cut[8] -= 1;
    assert_eq!(SLOT.read(&cut, true), Err(Discard::TruncatedByUs));
}

#[test]
fn a_packet_inside_is_seen_on_other_links_too() {
    let bytes = frame(b"payload")[14..].to_vec();
    let mut header = virtio_of(28, NEEDS_CSUM, 0, 0);
    header[8] = 2;
    let received = buffer(OTHER, 0, &[], &[], &with_header(header.clone(), &bytes));
    let mut slot = slot(1, (0, 0), &header, &bytes);
    slot[14..16].copy_from_slice(&82_u16.to_ne_bytes());
    for (kind, bytes) in [(OTHER, received), (OTHER_SLOT, slot)] {
        assert_eq!(kind.read(&bytes, true), Err(Discard::BadHeader));
        let mut room = [0; 20];
        let arrival = kind.finish(&bytes, &mut room).unwrap();
        assert_eq!(arrival.datagram.payload, Span { start: 0, len: 7 });
        assert_eq!((&room[..2], &room[4..7]), (&b"pa"[..], &b"oad"[..]));
    }
}

#[test]
fn frames_of_other_links_start_at_the_reported_network_header() {
    let bytes =
        |network: u16| [vec![0xcc; network.into()], frame(b"payload")[14..].to_vec()].concat();
    for network in [0_u16, 24] {
        let mut control = auxiliary(1, 0, 0);
        control[30..32].copy_from_slice(&network.to_ne_bytes());
        let udp = u8::try_from(network + 20).unwrap();
        let header = virtio_of(udp, NEEDS_CSUM, 5, 3);
        let received =
            buffer(OTHER, 0, &[], &control, &with_header(header.clone(), &bytes(network)));
        let mut slot = slot(1, (0, 0), &header, &bytes(network));
        slot[14..16].copy_from_slice(&(82 + network).to_ne_bytes());
        for (kind, bytes) in [(OTHER, received), (OTHER_SLOT, slot)] {
            let Arrival { datagram, segment } = kind.read(&bytes, true).unwrap();
            assert_eq!(payload(&bytes, datagram.payload), b"payload");
            assert_eq!((datagram.segments, segment), (3, 3));
        }
    }
}

#[test]
fn frames_for_another_host_are_not_ours() {
    let whole = frame(b"payload");
    let name = |packet_type| [&[0; 10][..], &[packet_type], &[0; 9]].concat();
    for (packet_type, expected) in [
        (libc::PACKET_HOST, Ok(())),
        (libc::PACKET_MULTICAST, Ok(())),
        (libc::PACKET_OTHERHOST, Err(Discard::NotForUs)),
    ] {
        let data = with_header(virtio(0, 0, 0), &whole);
        let received = buffer(FRAME, 0, &name(packet_type), &[], &data);
        assert_eq!(FRAME.read(&received, true).map(drop), expected);
        let bare = buffer(BARE_FRAME, 0, &name(packet_type), &[], &whole);
        assert_eq!(BARE_FRAME.read(&bare, true).map(drop), expected);
        let mut slot = slot(1, (0, 0), &virtio(0, 0, 0), &whole);
        slot[32..52].copy_from_slice(&name(packet_type));
        assert_eq!(SLOT.read(&slot, true).map(drop), expected);
    }
}

#[test]
fn a_discarded_buffer_counts_all_its_datagrams() {
    let whole = frame(b"payload");
    let name = [&[0; 10][..], &[libc::PACKET_OTHERHOST]].concat();
    let count =
        |data: &[u8]| FRAME.count_discarded(&buffer(FRAME, 0, &name, &[], data), Discard::NotForUs);
    assert_eq!(count(&with_header(virtio(NEEDS_CSUM, 5, 3), &whole)), 3);
    assert_eq!(count(&with_header(virtio(0, 0, 0), &whole[..20])), 1);
    let slot = slot(1, (0, 0), &virtio(NEEDS_CSUM, 5, 3), &whole);
    assert_eq!(SLOT.count_discarded(&slot, Discard::NotForUs), 3);
    assert_eq!(SLOT.count_discarded(&slot, Discard::BadHeader), 1);
    // Without auxiliary data the network header is assumed to come first.
    let other = with_header(virtio_of(20, NEEDS_CSUM, 5, 3), &whole[14..]);
    let received = buffer(OTHER, 0, &name, &[], &other);
    assert_eq!(OTHER.read(&received, true), Err(Discard::NotForUs));
    assert_eq!(OTHER.count_discarded(&received, Discard::NotForUs), 3);
}

#[test]
fn truncated_datagrams_are_never_relayed() {
    let whole = frame(b"payload");
    let cases = [
        (FRAME, with_header(virtio(0, 0, 0), &whole)),
        (BARE_FRAME, whole),
        (DATAGRAM, b"payload".to_vec()),
    ];
    for (kind, data) in cases {
        let name: &[u8] = if kind == DATAGRAM { &sockaddr_v4() } else { &[] };
        let good = buffer(kind, 0, name, &[], &data);
        let arrival = kind.read(&good, true).unwrap();
        assert_eq!(payload(&good, arrival.datagram.payload), b"payload");
        let cut = buffer(kind, libc::MSG_TRUNC, name, &[], &data);
        assert_eq!(kind.read(&cut, true), Err(Discard::TruncatedByUs));
    }
}

#[test]
fn the_tag_that_the_kernel_removed_counts() {
    let data = with_header(virtio(0, 0, 0), &frame(b"payload"));
    let read = |control: &[u8]| FRAME.read(&buffer(FRAME, 0, &[], control, &data), true);
    let vlan = |control: &[u8]| read(control).map(|arrival| arrival.datagram.vlan);
    assert_eq!(vlan(&[]), Ok(0));
    assert_eq!(vlan(&auxiliary(0, 7, 0x8100)), Ok(0));
    assert_eq!(vlan(&auxiliary(VLAN_VALID, 7, 0)), Ok(7));
    assert_eq!(vlan(&auxiliary(VLAN_VALID | TPID_VALID, 0xa007, 0x88a8)), Ok(7));
}

#[test]
fn a_checksum_is_verified_unless_the_kernel_vouches() {
    let mut damaged = frame(b"payload");
    *damaged.last_mut().unwrap() ^= 1;
    let read = |flags, verify| {
        let data = with_header(virtio(flags, 0, 0), &damaged);
        FRAME.read(&buffer(FRAME, 0, &[], &[], &data), verify).map(drop)
    };
    assert_eq!(read(0, true), Err(Discard::BadChecksum));
    assert_eq!(read(NEEDS_CSUM, true), Ok(()));
    assert_eq!(read(0, false), Ok(()));
    // Without the virtio header the auxiliary data decide.
    let bare = |status| {
        let control = auxiliary(status, 0, 0);
        BARE_FRAME.read(&buffer(BARE_FRAME, 0, &[], &control, &damaged), true).map(drop)
    };
    assert_eq!(bare(0), Err(Discard::BadChecksum));
    assert_eq!(bare(CHECKSUM_VALID), Ok(()));
}

#[test]
fn a_super_frame_has_its_segment_size() {
    for (gso_type, size, expected) in
        [(5, 3, (3, 3)), (5 | 0x80, 3, (3, 3)), (5, 7, (1, 0)), (5, 0, (1, 0)), (0, 3, (1, 0))]
    {
        let data = with_header(virtio(NEEDS_CSUM, gso_type, size), &frame(b"payload"));
        let arrival = FRAME.read(&buffer(FRAME, 0, &[], &[], &data), true).unwrap();
        assert_eq!((arrival.datagram.segments, arrival.segment), expected);
    }
}

#[test]
fn offload_of_an_inner_packet_does_not_apply_to_the_datagram() {
    let whole = frame(b"payload");
    let read = |virtio: Vec<u8>| {
        let data = with_header(virtio.clone(), &whole);
        let buffer = buffer(FRAME, 0, &[], &[], &data);
        let slot = slot(1, (0, 0), &virtio, &whole);
        let read = FRAME.read(&buffer, true).map(drop);
        assert_eq!(SLOT.read(&slot, true).map(drop), read);
        let finish =
            |kind: Delivery, bytes: &[u8]| kind.finish(bytes, &mut [0; 100]).map(|a| a.segment);
        let finished = finish(FRAME, &buffer);
        assert_eq!(finish(SLOT, &slot), finished);
        (read, finished)
    };
    let unfinished = Err(Discard::BadHeader);
    // The checksum of something in the payload.
    assert_eq!(read(virtio_of(42, NEEDS_CSUM, 0, 0)), (unfinished, Err(Discard::BadHeader)));
    assert_eq!(read(virtio_of(41, NEEDS_CSUM, 0, 0)), (unfinished, Err(Discard::BadHeader)));
    let mut inside = virtio_of(42, NEEDS_CSUM, 0, 0);
    inside[8] = 2;
    assert_eq!(read(inside), (unfinished, Ok(0)));
    // Segments of something in the payload, of TCP, or of an unknown type.
    for (start, flags, kind) in
        [(42, NEEDS_CSUM, 5), (34, NEEDS_CSUM, 1), (42, NEEDS_CSUM, 4), (42, 0, 1), (42, 1, 3)]
    {
        let virtio = virtio_of(start, flags, kind, 3);
        assert_eq!(read(virtio), (unfinished, Err(Discard::BadHeader)));
    }
}

#[test]
fn merged_datagrams_of_a_socket_have_their_segment_size() {
    let read = |control: &[u8]| {
        let bytes = buffer(DATAGRAM, 0, &sockaddr_v4(), control, b"payload");
        let Arrival { datagram, segment } = DATAGRAM.read(&bytes, true).unwrap();
        assert_eq!((datagram.source, datagram.source_port), (Addr::v4([10, 0, 0, 5]), 4000));
        assert_eq!((datagram.group, datagram.port), (GROUP, 5001));
        (datagram.segments, segment)
    };
    let gro = |size: i32| message(libc::SOL_UDP, libc::UDP_GRO, &size.to_ne_bytes());
    assert_eq!(read(&[]), (1, 0));
    assert_eq!(read(&gro(3)), (3, 3));
    assert_eq!(read(&gro(7)), (1, 0));
    assert_eq!(read(&gro(0)), (1, 0));
}

#[test]
fn a_socket_reports_ttl_and_dscp_in_both_families() {
    let read = |messages: &[Vec<u8>]| {
        let padded = messages.iter().flat_map(|message| {
            let mut bytes = message.clone();
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            bytes
        });
        let control: Vec<u8> = padded.collect();
        let bytes = buffer(DATAGRAM, 0, &sockaddr_v4(), &control, b"payload");
        let Arrival { datagram, segment } = DATAGRAM.read(&bytes, true).unwrap();
        (datagram.ttl, datagram.dscp, segment)
    };
    let integer = |level, kind, value: i32| message(level, kind, &value.to_ne_bytes());
    let gro = integer(libc::SOL_UDP, libc::UDP_GRO, 3);
    let ttl = integer(libc::IPPROTO_IP, libc::IP_TTL, 9);
    // The kernel's IPv4 type of service is one byte; 0xbb is DSCP 46 and ECN 3.
    let tos = message(libc::IPPROTO_IP, libc::IP_TOS, &[0xbb]);
    assert_eq!(read(&[gro.clone(), ttl.clone(), tos.clone()]), (9, 46, 3));
    assert_eq!(read(&[ttl, tos, gro.clone()]), (9, 46, 3));
    let hops = integer(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, 255);
    let class = integer(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, 0xbb);
    assert_eq!(read(&[gro, hops, class]), (255, 46, 3));
}

#[test]
fn a_sender_of_an_unknown_family_is_refused() {
    assert_eq!(
        DATAGRAM.read(&buffer(DATAGRAM, 0, &[0xff; 16], &[], b""), true),
        Err(Discard::BadHeader)
    );
}

proptest! {
    #[test]
    fn any_buffer_yields_a_datagram_inside_it_or_a_reason(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        is_truncated: bool,
        kind in prop::sample::select(vec![FRAME, BARE_FRAME, SLOT, OTHER, OTHER_SLOT, DATAGRAM]),
    ) {
        if let Some(flags) = bytes.get_mut(12..16) {
            flags.fill(if is_truncated { 0xff } else { 0 });
        }
        if let Ok(arrival) = kind.read(&bytes, true) {
            let Span { start, len } = arrival.datagram.payload;
            prop_assert!(bytes.get(start as usize..).and_then(|rest| rest.get(..len as usize)).is_some());
            prop_assert!(!is_truncated || kind.layout().is_none());
        }
    }

    #[test]
    fn any_control_message_is_read_without_a_panic(
        control in prop::collection::vec(any::<u8>(), 0..40),
        header in prop::collection::vec(any::<u8>(), 10),
    ) {
        let data = with_header(header, &frame(b"payload"));
        FRAME.read(&buffer(FRAME, 0, &[], &control, &data), true).ok();
        DATAGRAM.read(&buffer(DATAGRAM, 0, &sockaddr_v4(), &control, b"payload"), true).ok();
    }
}
