//! Taps: what is recorded of datagrams and their copies, and when it ends.

use std::os::fd::OwnedFd;

use super::*;
use crate::packet::{self, ChecksumState, Datagram, Discard, FrameMeta};
use crate::tap::{MAX_TAPS, MIN_RING_WORDS, RingReader, Step, TapFilter, TapRecord};

const ID: &str = "00000000abcd";
const ALL: TapFilter = TapFilter {
    rule: None,
    output: None,
    received: true,
    sent: true,
    dropped: true,
    reason: None,
    sample: 1,
    frame_bytes: u32::MAX,
};

fn ring() -> (OwnedFd, RingReader) {
    let memory = SharedWords::create(MIN_RING_WORDS).unwrap();
    let fd = memory.fd().try_clone_to_owned().unwrap();
    (fd.try_clone().unwrap(), RingReader::open(fd).unwrap())
}

/// The next records, as many as named.
fn read(ring: &mut RingReader, count: usize) -> Vec<(TapRecord, Vec<u8>)> {
    let mut records = Vec::new();
    wait_until("the records", || {
        records.extend(std::iter::from_fn(|| ring.read()));
        records.len() >= count
    });
    assert_eq!((records.len(), ring.lost()), (count, 0));
    records
}

fn parse(frame: &[u8]) -> (Datagram, Vec<u8>) {
    let meta = FrameMeta { vlan: None, checksum: ChecksumState::Unverified, segment_size: 0 };
    let datagram = packet::parse(frame, meta).unwrap();
    let start = datagram.payload.start as usize;
    (datagram, frame[start..start + datagram.payload.len as usize].to_vec())
}

/// A relay of what arrives for 127.0.0.1:5001 to 127.0.0.1:6001.
fn started() -> (Relay, UdpSocket, UdpSocket) {
    let relay = relay();
    let mut spec = rule([127, 0, 0, 1], "lo", None);
    spec.id = ID.to_owned();
    spec.input.sources = [Addr::v4([127, 0, 0, 1])].into();
    relay.change(&[], &[spec]).unwrap();
    relay.start().unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:6001").unwrap();
    (relay, UdpSocket::bind("127.0.0.1:0").unwrap(), receiver)
}

#[test]
fn a_datagram_is_recorded_with_its_copy() {
    in_namespace(|| {
        let (relay, sender, receiver) = started();
        let (fd, mut ring) = ring();
        relay.add_tap(1, TapFilter { rule: Some(ID.to_owned()), ..ALL }, vec![fd]).unwrap();
        sender.send_to(b"one", "127.0.0.1:5001").unwrap();
        let mut bytes = [0; 10];
        let (_, copier) = receiver.recv_from(&mut bytes).unwrap();
        let records = read(&mut ring, 2);
        let steps: Vec<_> = records.iter().map(|(it, _)| (it.step, it.datagram)).collect();
        assert_eq!(steps, [(Step::Matched, 1), (Step::Sent, 1)]);
        assert!(records.iter().all(|(it, _)| it.rule == 0xabcd));
        assert_eq!((records[0].0.ifindex, records[1].0.output), (1, Some(0)));
        let (received, payload) = parse(&records[0].1);
        assert_eq!(
            (received.source_port, received.port),
            (sender.local_addr().unwrap().port(), 5001)
        );
        assert_eq!(payload, b"one");
        let (copy, payload) = parse(&records[1].1);
        assert_eq!((copy.source_port, copy.port, copy.ttl), (copier.port(), 6001, 1));
        assert_eq!(payload, b"one");
        relay.stop();
    });
}

#[test]
fn what_no_rule_takes_is_recorded_with_the_reason() {
    in_namespace(|| {
        let (relay, _, _receiver) = started();
        let ((all, mut ring), (only, mut none)) = (ring(), ring());
        relay.add_tap(1, TapFilter { rule: Some(ID.to_owned()), ..ALL }, vec![all]).unwrap();
        let reason = Some("no_rule".to_owned());
        relay
            .add_tap(2, TapFilter { reason, sent: false, received: false, ..ALL }, vec![only])
            .unwrap();
        let sender = UdpSocket::bind("127.0.0.2:0").unwrap();
        sender.send_to(b"other", "127.0.0.1:5001").unwrap();
        let (record, frame) = read(&mut ring, 1).remove(0);
        assert_eq!((record.step, record.rule), (Step::Discarded(Discard::Source), 0));
        assert_eq!(parse(&frame).0.source, Addr::v4([127, 0, 0, 2]));
        assert!(none.read().is_none());
        relay.stop();
    });
}

#[test]
fn every_second_datagram_is_taken_with_its_copy_until_the_tap_ends() {
    in_namespace(|| {
        let (relay, sender, receiver) = started();
        let (fd, mut ring) = ring();
        relay.add_tap(1, TapFilter { sample: 2, frame_bytes: 20, ..ALL }, vec![fd]).unwrap();
        let send = || {
            sender.send_to(b"datagram", "127.0.0.1:5001").unwrap();
            receiver.recv(&mut [0; 10]).unwrap();
        };
        (0..4).for_each(|_| send());
        let records = read(&mut ring, 4);
        let numbers: Vec<_> = records.iter().map(|(it, _)| it.datagram).collect();
        assert_eq!(numbers, [1, 1, 3, 3]);
        assert!(records.iter().all(|(it, kept)| (it.frame_len, kept.len()) == (50, 20)));
        relay.remove_tap(1).unwrap();
        send();
        assert!(ring.read().is_none());
        relay.stop();
    });
}

#[test]
fn taps_are_few_and_their_filters_are_checked() {
    in_namespace(|| {
        let relay = relay();
        let add = |number, filter| relay.add_tap(number, filter, vec![ring().0]);
        for number in 0..MAX_TAPS as u64 {
            add(number, ALL).unwrap();
        }
        assert!(add(9, ALL).unwrap_err().to_string().contains("run already"));
        add(0, ALL).unwrap();
        let reason = Some("boredom".to_owned());
        for wrong in [
            TapFilter { sample: 0, ..ALL },
            TapFilter { output: Some(1), ..ALL },
            TapFilter { reason, ..ALL },
        ] {
            add(0, wrong).unwrap_err();
        }
        relay.add_tap(0, ALL, Vec::new()).unwrap_err();
    });
}
