//! Bytes as the kernel writes them, as it never would, and a link that changes under the socket.

use proptest::prelude::*;

use super::*;
use crate::open::testnet::{FAR, NEAR, interface, ip, wait_until, with_cable};

const UP: u32 = libc::IFF_UP.unsigned_abs();
const RUNNING: u32 = libc::IFF_RUNNING.unsigned_abs();
const LOWER_UP: u32 = libc::IFF_LOWER_UP.unsigned_abs();
const BRIDGE: u8 = 7; // AF_BRIDGE of <linux/socket.h>

/// `struct nlmsghdr`, then the payload, then padding to four bytes.
fn message(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(16 + payload.len()).unwrap();
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 2]);
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct ifinfomsg` and an attribute of an unknown kind.
fn link(kind: u16, family: u8, index: u32, flags: u32) -> Vec<u8> {
    let mut payload = vec![family, 0, 1, 0];
    payload.extend(index.to_ne_bytes());
    payload.extend(flags.to_ne_bytes());
    payload.extend([0; 4]);
    payload.extend([5, 0, 0xff, 0x3f, 9]);
    message(kind, 0, &payload)
}

fn heard(bytes: &[u8]) -> Vec<(u32, bool)> {
    let mut links = Vec::new();
    read(bytes, |link| links.push((link.index, link.carrier))).unwrap();
    links
}

#[test]
fn a_carrier_takes_both_flags() {
    let told = |flags| heard(&link(libc::RTM_NEWLINK, 0, 7, flags));
    assert_eq!(told(UP | RUNNING | LOWER_UP), [(7, true)]);
    for flags in [0, UP, UP | RUNNING, UP | LOWER_UP] {
        assert_eq!(told(flags), [(7, false)]);
    }
    assert_eq!(heard(&link(libc::RTM_DELLINK, 0, 7, UP | RUNNING | LOWER_UP)), [(7, false)]);
}

#[test]
fn what_a_bridge_says_of_its_ports_is_no_deletion() {
    for kind in [libc::RTM_NEWLINK, libc::RTM_DELLINK] {
        assert_eq!(heard(&link(kind, BRIDGE, 7, 0)), []);
    }
}

#[test]
fn one_piece_may_hold_several_messages() {
    let mut bytes = link(libc::RTM_NEWLINK, 0, 3, LOWER_UP | RUNNING);
    bytes.extend(message(libc::RTM_NEWADDR, 0, &[0; 9]));
    bytes.extend(link(libc::RTM_NEWLINK, 0, 4, 0));
    assert_eq!(heard(&bytes), [(3, true), (4, false)]);
}

#[test]
fn a_refusal_says_that_the_link_is_gone_or_is_an_error() {
    let answer = |errno: i32| message(NLMSG_ERROR, 9, &(-errno).to_ne_bytes());
    assert_eq!(heard(&answer(0)), []);
    assert_eq!(heard(&answer(libc::ENODEV)), [(9, false)]);
    let error = read(&answer(libc::EPERM), |_| panic!("no link is told")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    assert_eq!(heard(&message(NLMSG_ERROR, 9, &i32::MIN.to_ne_bytes()[..3])), []);
}

#[test]
fn messages_cut_anywhere_are_passed_over() {
    let whole = link(libc::RTM_NEWLINK, 0, 3, LOWER_UP | RUNNING);
    for end in 0..whole.len() - 3 {
        assert_eq!(heard(&whole[..end]), []);
    }
    for len in [0_u32, 1, 15, 16, 20, 31, u32::MAX] {
        let mut bytes = whole.clone();
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        assert_eq!(heard(&bytes), []);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_panic_or_an_endless_loop(bytes: Vec<u8>) {
        read(&bytes, |_| ()).ok();
    }

    #[test]
    fn no_damage_makes_a_panic(
        kind in prop_oneof![Just(libc::RTM_NEWLINK), Just(libc::RTM_DELLINK), Just(NLMSG_ERROR)],
        damage in prop::collection::vec((0_usize..100, any::<u8>()), 0..6),
    ) {
        let mut bytes = [link(kind, 0, 3, UP), link(kind, 0, 4, LOWER_UP | RUNNING)].concat();
        let len = bytes.len();
        for (at, byte) in damage {
            bytes[at % len] = byte;
        }
        read(&bytes, |_| ()).ok();
    }
}

#[test]
fn a_link_is_heard_of_when_it_changes_and_when_asked_for() {
    with_cable(|| {
        let near = interface(NEAR).index;
        let socket = LinkSocket::open().unwrap();
        let mut bytes = vec![0; MESSAGE_BYTES];
        let mut next = || {
            let mut last = None;
            while let Ok(piece) = socket.hear(&mut bytes) {
                let note = |link: Link| last = if link.index == near { Some(link) } else { last };
                read(piece, note).unwrap();
            }
            last.map(|link| link.carrier)
        };
        assert_eq!(next(), None);
        socket.ask(near).unwrap();
        assert_eq!(next(), Some(true));
        ip(&format!("link set {FAR} down"));
        wait_until("the change is told", || next() == Some(false));
        ip(&format!("link delete {NEAR}"));
        assert_eq!(next(), Some(false));
        socket.ask(near).unwrap();
        assert_eq!(next(), Some(false));
    });
}
