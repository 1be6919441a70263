//! Hand-made tunnel packets, as a virtual link leaves them.

use proptest::prelude::*;

use super::*;

/// A VXLAN and an Ethernet header: the bytes before the inner packet.
const TUNNEL: [u8; 22] = [8, 0, 0, 0, 0, 0, 7, 0, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
const ADDRESSES: [u8; 8] = [192, 168, 7, 1, 192, 168, 7, 2];

fn be(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap().to_be_bytes()
}

/// An IPv4 packet, complete except for the transport checksum.
fn ipv4(id: u16, protocol: u8, transport: &[u8]) -> Vec<u8> {
    let front = [&[0x45, 0][..], &be(20 + transport.len()), &id.to_be_bytes(), &[0, 0, 8]];
    let mut header = [&front.concat()[..], &[protocol, 0, 0], &ADDRESSES].concat();
    let sum = checksum::of(&header);
    header[10..12].copy_from_slice(&sum);
    [&header, transport].concat()
}

fn ipv6(protocol: u8, transport: &[u8]) -> Vec<u8> {
    let length = be(transport.len());
    [&[0x60, 0, 0, 0][..], &length, &[protocol, 8], &[0xfd; 32], transport].concat()
}

fn udp(data: &[u8]) -> Vec<u8> {
    [&[0x9c, 0x40, 0x13, 0x89][..], &be(8 + data.len()), &[0, 0], data].concat()
}

fn tcp(sequence: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let ports = [3, 232, 7, 208];
    let tail = [0x60, flags, 3, 232, 0, 0, 0, 0, 1, 1, 1, 0];
    [&ports[..], &sequence.to_be_bytes(), &[0, 0, 0, 1], &tail, data].concat()
}

/// Writes the transport checksum of a packet in a tunnel.
fn with_checksum(mut payload: Vec<u8>, network: usize, transport: usize, protocol: u8) -> Vec<u8> {
    let is_v4 = payload[network] >> 4 == 4;
    InnerIp { at: network, is_v4 }.write_checksum(&mut payload, transport, protocol).unwrap();
    payload
}

fn pieces(room: &[u8], finished: Finished) -> Vec<Vec<u8>> {
    let bytes = &room[..finished.len as usize];
    let size = if finished.segment == 0 { bytes.len() } else { finished.segment.into() };
    bytes.chunks(size).map(<[u8]>::to_vec).collect()
}

fn finish(payload: &[u8], offload: Offload) -> Result<Vec<Vec<u8>>, Discard> {
    let mut room = vec![0xaa; 4096];
    let finished = offload.finish(payload, &mut room)?;
    let pieces = pieces(&room, finished);
    assert_eq!(finished.count as usize, pieces.len());
    Ok(pieces)
}

#[test]
fn udp_is_segmented_as_it_would_have_been_sent() {
    let data: Vec<u8> = (0..250).collect();
    let whole = [&TUNNEL[..], &ipv4(7, UDP, &udp(&data))].concat();
    let cut = Some(Cut { is_tcp: false, size: 100 });
    let offload = Offload { transport: 42, checksum: 6, cut };
    let expected: Vec<Vec<u8>> = (0..)
        .zip(data.chunks(100))
        .map(|(number, chunk)| {
            let packet = [&TUNNEL[..], &ipv4(7 + number, UDP, &udp(chunk))].concat();
            with_checksum(packet, 22, 42, UDP)
        })
        .collect();
    assert_eq!(finish(&whole, offload), Ok(expected));
    assert_eq!(Offload::find(&whole, 100), Some(offload));
}

#[test]
fn tcp_sequence_numbers_increase_and_flags_stay_in_place() {
    const CWR_PSH_ACK: u8 = 0x98;
    let data: Vec<u8> = (0..250).collect();
    let packet = |sequence, flags, data: &[u8]| {
        [&TUNNEL[..], &ipv6(TCP, &tcp(sequence, flags, data))].concat()
    };
    let whole = packet(u32::MAX - 99, CWR_PSH_ACK, &data);
    let cut = Some(Cut { is_tcp: true, size: 100 });
    let expected = [
        packet(u32::MAX - 99, 0x90, &data[..100]),
        packet(0, 0x10, &data[100..200]),
        packet(100, 0x18, &data[200..]),
    ];
    let expected = expected.map(|packet| with_checksum(packet, 22, 62, TCP)).to_vec();
    assert_eq!(finish(&whole, Offload { transport: 62, checksum: 16, cut }), Ok(expected));
}

#[test]
fn a_checksum_is_added_up_from_the_sum_of_the_pseudo_header() {
    let plain = [&TUNNEL[..], &ipv4(7, UDP, &udp(b"hello"))].concat();
    let mut partial = plain.clone();
    let pseudo = [&ADDRESSES[..], &[0, UDP], &be(13)].concat();
    let sum = checksum::of(&pseudo).map(|byte| !byte);
    partial[48..50].copy_from_slice(&sum);
    let offload = Offload { transport: 42, checksum: 6, cut: None };
    assert_eq!(finish(&partial, offload), Ok(vec![with_checksum(plain, 22, 42, UDP)]));
}

#[test]
fn contradictory_offloads_are_refused() {
    let whole = [&TUNNEL[..], &ipv4(7, UDP, &udp(&[1; 250]))].concat();
    let cut = |is_tcp, size| Some(Cut { is_tcp, size });
    let refused = Err(Discard::BadHeader);
    for (transport, checksum, cut) in [
        (43, 6, cut(false, 100)),
        (10, 6, cut(false, 100)),
        (42, 6, cut(true, 100)),
        (42, 6, cut(false, 0)),
        // Longer than the room.
        (42, 6, cut(false, 1)),
        (42, 400, None),
        (400, 6, None),
        (usize::from(u16::MAX), 6, cut(false, 100)),
    ] {
        assert_eq!(finish(&whole, Offload { transport, checksum, cut }), refused);
    }
    let offload = Offload { transport: 42, checksum: 6, cut: cut(false, 100) };
    let longer = [&whole[..], &[0]].concat();
    assert_eq!(finish(&longer, offload), refused);
    // GRE with a checksum and with a sequence number, and VXLAN with a checksum position.
    for head in [[0x80, 0, 0x65, 0x58], [0x10, 0, 0x65, 0x58], [8, 0x20, 0, 0]] {
        let tunnel = [&head[..], &whole[4..]].concat();
        assert_eq!(finish(&tunnel, offload), refused);
    }
}

#[test]
fn datagrams_merged_with_others_are_not_an_inner_packet() {
    let one = [&TUNNEL[..], &ipv4(7, UDP, &udp(&[1; 100]))].concat();
    let size = u16::try_from(one.len()).unwrap();
    assert_eq!(Offload::find(&[&one[..], &one, &one].concat(), size), None);
    assert_eq!(Offload::find(&[0x45; 300], 100), None);
}

proptest! {
    #[test]
    fn any_bytes_are_finished_or_refused(
        payload in prop::collection::vec(any::<u8>(), 0..200),
        transport in 0_usize..220,
        checksum in 0_usize..220,
        cut in prop::option::of((any::<bool>(), 0_u16..50)),
    ) {
        let cut = cut.map(|(is_tcp, size)| Cut { is_tcp, size });
        finish(&payload, Offload { transport, checksum, cut }).ok();
        let _ = Offload::find(&payload, 10);
    }

    #[test]
    fn any_damage_to_a_packet_is_finished_or_refused(
        at in 0_usize..292,
        value: u8,
        is_tcp: bool,
        size in 0_u16..300,
    ) {
        let mut payload = [&TUNNEL[..], &ipv4(7, UDP, &udp(&[1; 250]))].concat();
        payload[at] = value;
        let cut = Some(Cut { is_tcp, size });
        finish(&payload, Offload { transport: 42, checksum: 6, cut }).ok();
    }
}
