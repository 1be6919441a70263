//! Frames that the kernel does not relay: they reach the network stack, unchanged and at once.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;

use super::lab::{
    GROUP, IP_AT, Lab, frame, frame_to, ipv4_frame, ipv4_header, ipv6_frame, output, rule, with_lab,
};
use crate::addr::Addr;
use crate::offload::{KernelOutput, Pass};
use crate::sockets::socket;
use crate::sockets::testnet::{NEAR, ip, wait_until};
use crate::spec::Ttl;
use crate::sys::netdev;

const UDP_AT: usize = IP_AT + 20;
const GROUP_V6: [u8; 16] = [0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];

/// A change to a frame.
type Change = fn(&mut Vec<u8>);

fn change(mut frame: Vec<u8>, change: Change) -> Vec<u8> {
    change(&mut frame);
    frame
}

/// A frame with a header that has been changed.
fn with_header(change: fn(&mut etherparse::Ipv4Header)) -> Vec<u8> {
    let mut header = ipv4_header(GROUP, 60);
    change(&mut header);
    ipv4_frame(&header, &[1; 60])
}

fn assert_passes(lab: &Lab, frame: &[u8], reason: Pass, what: &str) {
    let before = lab.programs.passed(reason).unwrap();
    lab.send(frame);
    // The kernel takes the outer tag out of a frame before a socket gets it.
    let tag = if frame[12..14] == [0x81, 0] { 12..16 } else { 0..0 };
    assert_eq!(lab.passed(), [[&frame[..tag.start], &frame[tag.end..]].concat()], "{what}");
    assert!(lab.arrived(0).is_empty(), "{what}");
    assert_eq!(lab.programs.passed(reason).unwrap(), before + 1, "{what}");
}

#[test]
fn every_frame_that_cannot_be_relayed_reaches_the_stack() {
    with_lab(1, |mut lab| {
        let routed = KernelOutput { ttl: Ttl::Decrement, ..output(0, 1) };
        let mut limited = rule(Addr::v4(GROUP), vec![routed]);
        limited.max_bytes = 1000;
        lab.put(1, limited);
        lab.put(2, rule(Addr::v6(GROUP_V6), vec![output(0, 2)]));
        for (what, frame, reason) in link_cases().into_iter().chain(network_cases()) {
            assert_passes(&lab, &frame, reason, what);
        }
        lab.send(&frame(1, 1000 - 28));
        assert_eq!((lab.arrived(0).len(), lab.passed().len()), (1, 0));
        lab.table.switch(false).unwrap();
        assert_passes(&lab, &frame(1, 60), Pass::Off, "switched off");
        assert_eq!(lab.table.counters(1).unwrap().matched.datagrams, 1);
    });
}

type Case = (&'static str, Vec<u8>, Pass);

/// Frames that are not for the rules, or too long for them.
fn link_cases() -> Vec<Case> {
    vec![
        ("other port", change(frame(1, 60), |frame| frame[UDP_AT + 3] ^= 1), Pass::NoRule),
        ("other group", frame_to([239, 1, 1, 9], 1, 60), Pass::NoRule),
        (
            "two tags",
            change(frame(1, 60), |frame| {
                frame.splice(12..12, [0x81, 0, 0, 5, 0x81, 0, 0, 5]);
            }),
            Pass::Other,
        ),
        ("not UDP", with_header(|ip| ip.protocol = etherparse::IpNumber::TCP), Pass::Other),
        ("not IP", change(frame(1, 60), |frame| frame[13] = 6), Pass::Other),
        ("not to a group's MAC", change(frame(1, 60), |frame| frame[0] = 2), Pass::Other),
        ("too long", frame(1, 1000 - 28 + 1), Pass::TooLong),
        ("cut off", change(frame(1, 60), |frame| frame.truncate(90)), Pass::TooLong),
    ]
}

/// Datagrams for the rules that the kernel does not finish.
fn network_cases() -> Vec<Case> {
    let v6 = ipv6_frame(GROUP_V6, &[7; 40]);
    vec![
        ("more fragments", with_header(|ip| ip.more_fragments = true), Pass::Fragment),
        (
            "a later fragment",
            with_header(|ip| {
                ip.fragment_offset = 100.try_into().unwrap();
            }),
            Pass::Fragment,
        ),
        ("options", with_options(), Pass::Fragment),
        ("extension header", change(v6.clone(), |frame| frame[IP_AT + 6] = 0), Pass::Fragment),
        ("used up", with_header(|ip| ip.time_to_live = 1), Pass::Ttl),
        ("header checksum", change(frame(1, 60), |frame| frame[IP_AT + 8] -= 1), Pass::BadHeader),
        ("UDP length", change(frame(1, 60), |frame| frame[UDP_AT + 5] -= 1), Pass::BadHeader),
        (
            "no checksum in IPv6",
            change(v6, |frame| {
                frame[IP_AT + 46..IP_AT + 48].fill(0);
            }),
            Pass::BadHeader,
        ),
        (
            "unfinished checksum",
            change(frame(1, 60), |frame| {
                let sum = pseudo_sum(frame);
                frame[UDP_AT + 6..UDP_AT + 8].copy_from_slice(&sum.to_be_bytes());
            }),
            Pass::Unfinished,
        ),
    ]
}

fn with_options() -> Vec<u8> {
    with_header(|ip| ip.options = [1, 1, 1, 0].into())
}

/// The sum of RFC 1071 over the pseudo header of a plain IPv4 frame.
fn pseudo_sum(frame: &[u8]) -> u16 {
    sum(&frame[IP_AT + 12..IP_AT + 20], 17 + u32::from(word(frame, UDP_AT + 4)))
}

fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

fn sum(bytes: &[u8], more: u32) -> u16 {
    let words = bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = words.sum::<u32>() + more;
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
}

#[test]
fn a_finished_checksum_may_look_unfinished() {
    with_lab(1, |mut lab| {
        lab.put(1, rule(Addr::v4(GROUP), vec![output(0, 1)]));
        for payload_bytes in [2, 60, 64, 1400] {
            // Two bytes of the payload make the checksum equal to the sum of the pseudo header.
            let blank = ipv4_frame(&ipv4_header(GROUP, payload_bytes), &vec![0; payload_bytes]);
            let pseudo = pseudo_sum(&blank);
            let rest = sum(&blank[UDP_AT..UDP_AT + 6], 0);
            let wanted = !sum(&[], 2 * u32::from(pseudo) + u32::from(rest));
            let mut payload = vec![0; payload_bytes];
            payload[..2].copy_from_slice(&wanted.to_be_bytes());
            let frame = ipv4_frame(&ipv4_header(GROUP, payload_bytes), &payload);
            assert_eq!(word(&frame, UDP_AT + 6), pseudo);
            lab.send(&frame);
            let copies = lab.datagrams(0);
            assert_eq!(copies.len(), 1, "{payload_bytes} bytes");
            assert_eq!(copies[0].1, payload);
        }
    });
}

#[test]
fn what_a_local_sender_leaves_to_the_device_is_never_relayed_unfinished() {
    with_lab(1, |mut lab| {
        lab.put(1, rule(Addr::v4(GROUP), vec![output(0, 1)]));
        ip(&format!("address add 10.9.0.1/24 dev {NEAR}"));
        ip(&format!("route add 239.0.0.0/8 dev {NEAR}"));
        let sender = UdpSocket::bind("10.9.0.1:0").unwrap();
        let send = || {
            for length in [1, 60, 1401] {
                sender.send_to(&vec![7; length], (Ipv4Addr::from(GROUP), 5001)).unwrap();
            }
        };
        lab.passed();
        send();
        let mut passed = lab.passed();
        wait_until("all have passed", || {
            passed.extend(lab.passed());
            passed.iter().filter(|frame| frame[IP_AT + 9] == 17).count() == 3
        });
        assert!(lab.arrived(0).is_empty());
        assert_eq!(lab.programs.passed(Pass::Unfinished).unwrap(), 3);

        let devices = socket::open(libc::AF_INET, libc::SOCK_DGRAM, NEAR).unwrap();
        netdev::set_feature(devices.as_fd(), NEAR, "tx-checksum-ip-generic", false).unwrap();
        send();
        let mut lengths: Vec<usize> = Vec::new();
        wait_until("all are relayed", || {
            lengths.extend(lab.datagrams(0).iter().map(|(_, bytes)| bytes.len()));
            lengths.len() == 3
        });
        assert_eq!(lengths, [1, 60, 1401]);
    });
}
