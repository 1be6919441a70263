//! What arrives of the frames that a rule takes.

use super::lab::{
    GROUP, IP_AT, Lab, PORT, SENDER, SENDER_V6, datagram, endpoint, frame, frame_to, ipv4_frame,
    ipv4_header, ipv6_frame, number, output, rule, with_lab,
};
use crate::addr::Addr;
use crate::offload::{Endpoint, KernelOutput, KernelRule, Volume};
use crate::packet::{ChecksumState, Discard, FrameMeta, parse};
use crate::spec::{Choice, Ttl};

/// The position of the UDP checksum in an untagged IPv4 frame.
const UDP_CHECKSUM_AT: usize = IP_AT + 26;

#[test]
fn one_copy_has_the_headers_of_its_output() {
    with_lab(1, |mut lab| {
        lab.put(1, rule(Addr::v4(GROUP), vec![output(0, 1)]));
        lab.send(&frame(7, 100));
        let arrived = lab.arrived(0);
        assert_eq!(arrived.len(), 1);
        assert_eq!(&arrived[0][..12], [1, 0, 0x5e, 2, 1, 1, 2, 0, 0, 0, 1, 1]);
        let (copy, payload) = datagram(&arrived[0]);
        assert_eq!(copy.group, Addr::v4([239, 2, 1, 1]));
        assert_eq!(copy.source, Addr::v4([10, 1, 1, 1]));
        assert_eq!((copy.source_port, copy.port), (41_001, 6001));
        assert_eq!((copy.ttl, copy.dscp), (16, 46));
        assert_eq!((number(&payload), payload.len()), (7, 100));
        assert!(lab.passed().is_empty());
        let counters = lab.table.counters(1).unwrap();
        assert_eq!(counters.matched, Volume { datagrams: 1, bytes: 100 });
        assert_eq!(counters.outputs[0].sent(), Volume { datagrams: 1, bytes: 100 });
    });
}

#[test]
fn outputs_share_devices_and_each_gets_every_datagram_once_and_in_order() {
    with_lab(2, |mut lab| {
        let (first, second) = (Addr::v4(GROUP), Addr::v4([239, 1, 1, 2]));
        let outputs = [(0, 1), (1, 2), (0, 3), (0, 4), (1, 5)];
        let outputs = outputs.map(|(device, number)| output(device, number)).to_vec();
        lab.put(1, rule(first, outputs));
        lab.put(2, rule(second, vec![output(1, 6), output(1, 7)]));
        let size = |number: u32| 60 + (number as usize * 37) % 340;
        let mut arrived: [Vec<_>; 2] = Default::default();
        for number in 0..500 {
            lab.send(&frame(number, size(number)));
            lab.send(&frame_to([239, 1, 1, 2], number, size(number)));
            for (end, all) in arrived.iter_mut().enumerate() {
                all.extend(lab.datagrams(end));
            }
        }
        for (end, outputs) in [&[1, 3, 4][..], &[2, 5, 6, 7]].into_iter().enumerate() {
            assert_eq!(arrived[end].len(), 500 * outputs.len());
            for output in outputs {
                let group = Addr::v4([239, 2, *output, 1]);
                let of_output = arrived[end].iter().filter(|(copy, _)| copy.group == group);
                let numbers: Vec<u32> = of_output
                    .inspect(|(copy, payload)| {
                        assert_eq!(copy.port, 6000 + u16::from(*output));
                        let number = number(payload);
                        assert_eq!(payload.len(), size(number));
                        assert!(payload[4..].iter().all(|byte| *byte == number.to_be_bytes()[3]));
                    })
                    .map(|(_, payload)| number(payload))
                    .collect();
                assert_eq!(numbers, (0..500).collect::<Vec<_>>(), "output {output}");
            }
        }
        assert_balance(&lab, 1, 500);
        assert_balance(&lab, 2, 500);
    });
}

/// Nothing was lost: every output has sent what its rule has matched.
fn assert_balance(lab: &Lab, key: u64, datagrams: u64) {
    let counters = lab.table.counters(key).unwrap();
    assert_eq!(counters.matched.datagrams, datagrams);
    for output in &counters.outputs {
        assert_eq!(output.sent(), counters.matched);
    }
}

#[test]
fn fields_of_the_datagram_are_kept_where_the_output_keeps_them() {
    with_lab(1, |mut lab| {
        let kept = KernelOutput {
            source: Choice::Keep,
            source_port: Choice::Keep,
            ttl: Ttl::Keep,
            dscp: None,
            ..output(0, 1)
        };
        let routed = KernelOutput { ttl: Ttl::Decrement, dscp: Some(0), ..output(0, 2) };
        lab.put(1, rule(Addr::v4(GROUP), vec![kept, routed]));
        let mut header = ipv4_header(GROUP, 4);
        header.dscp = 34.try_into().unwrap();
        header.ecn = etherparse::IpEcn::ONE;
        header.identification = 777;
        lab.send(&ipv4_frame(&header, &[1, 2, 3, 4]));
        let arrived = lab.arrived(0);
        let [kept, routed] = [datagram(&arrived[0]).0, datagram(&arrived[1]).0];
        assert_eq!((kept.source, kept.source_port), (Addr::v4(SENDER), 40_000));
        assert_eq!((kept.ttl, kept.dscp), (8, 34));
        assert_eq!((routed.source, routed.source_port), (Addr::v4([10, 1, 2, 1]), 41_002));
        assert_eq!((routed.ttl, routed.dscp), (7, 0));
        // Congestion notification ends at the relay, as with sockets.
        assert_eq!((arrived[0][IP_AT + 1], arrived[1][IP_AT + 1]), (34 << 2, 0));
    });
}

#[test]
fn ipv6_is_relayed_like_ipv4() {
    with_lab(1, |mut lab| {
        let group = [0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
        let to = |last: u8| Addr::v6([0xff, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, last]);
        let source = Addr::v6([0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let chosen =
            KernelOutput { address: to(1), source: Choice::Chosen(source), ..output(0, 1) };
        let kept = KernelOutput {
            address: to(2),
            source: Choice::Keep,
            ttl: Ttl::Decrement,
            dscp: None,
            ..output(0, 2)
        };
        lab.put(1, rule(Addr::v6(group), vec![chosen, kept]));
        for (length, byte) in [(4, 1), (5, 2), (333, 3)] {
            lab.send(&ipv6_frame(group, &vec![byte; length]));
            let copies = lab.datagrams(0);
            let [(chosen, payload), (kept, _)] = &copies[..] else { panic!("{copies:?}") };
            assert_eq!((chosen.group, chosen.source), (to(1), source));
            assert_eq!((chosen.ttl, chosen.dscp, chosen.source_port), (16, 46, 41_001));
            assert_eq!((kept.group, kept.source), (to(2), Addr::v6(SENDER_V6)));
            assert_eq!((kept.ttl, kept.dscp), (7, 0xb9 >> 2));
            assert_eq!(*payload, vec![byte; length]);
        }
        assert_balance(&lab, 1, 3);
    });
}

#[test]
fn a_missing_udp_checksum_stays_missing_and_a_wrong_one_wrong() {
    with_lab(1, |mut lab| {
        lab.put(1, rule(Addr::v4(GROUP), vec![output(0, 1)]));
        let mut missing = frame(1, 50);
        missing[UDP_CHECKSUM_AT..][..2].copy_from_slice(&[0, 0]);
        lab.send(&missing);
        let arrived = lab.arrived(0);
        assert_eq!(arrived[0][UDP_CHECKSUM_AT..][..2], [0, 0]);
        let mut damaged = frame(2, 50);
        *damaged.last_mut().unwrap() ^= 1;
        lab.send(&damaged);
        let arrived = lab.arrived(0);
        let meta = FrameMeta { vlan: None, checksum: ChecksumState::Unverified, segment_size: 0 };
        assert_eq!(parse(&arrived[0], meta), Err(Discard::BadChecksum));
        assert_balance(&lab, 1, 2);
    });
}

#[test]
fn a_rule_for_a_vlan_takes_its_tagged_frames_and_copies_have_no_tag() {
    with_lab(1, |mut lab| {
        let untagged = rule(Addr::v4(GROUP), vec![output(0, 1)]);
        let at = Endpoint { vlan: 5, ..endpoint(Addr::v4(GROUP)) };
        lab.put(1, untagged.clone());
        lab.put(2, KernelRule { endpoint: at, outputs: vec![output(0, 2)], ..untagged });
        for (tag, expected) in [(Some(5), 2), (None, 1), (Some(0), 1), (Some(0xe005), 2)] {
            lab.send(&tagged(&frame(1, 60), tag));
            let arrived = lab.datagrams(0);
            assert_eq!(arrived.len(), 1);
            assert_eq!(arrived[0].0.group, Addr::v4([239, 2, expected, 1]), "tag {tag:?}");
        }
        lab.send(&tagged(&frame(1, 60), Some(6)));
        assert_eq!((lab.arrived(0).len(), lab.passed().len()), (0, 1));
    });
}

/// The frame with this tag control information.
fn tagged(frame: &[u8], tag: Option<u16>) -> Vec<u8> {
    let Some(tag) = tag else { return frame.to_vec() };
    [&frame[..12], &[0x81, 0], &tag.to_be_bytes(), &frame[12..]].concat()
}

#[test]
fn a_short_datagram_may_be_padded() {
    with_lab(1, |mut lab| {
        lab.put(1, rule(Addr::v4(GROUP), vec![output(0, 1)]));
        let mut padded = frame(9, 4);
        padded.resize(60, 0xff);
        lab.send(&padded);
        let copies = lab.datagrams(0);
        assert_eq!((copies.len(), number(&copies[0].1), copies[0].1.len()), (1, 9, 4));
        assert_eq!(lab.table.counters(1).unwrap().matched.bytes, 4);
        assert_eq!(copies[0].0.port, PORT + 1000);
    });
}
