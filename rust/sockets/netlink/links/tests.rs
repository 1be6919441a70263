//! Valid and malformed messages, and a link that changes under the socket.

use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR};
use proptest::prelude::*;

use super::*;
use crate::addr::Addr;
use crate::sockets::netlink::link::{BridgeSnooping, Foundation, LinkEvent, LinkStack, LowerLink};
use crate::sockets::testnet::{FAR, NEAR, interface, ip, wait_until, with_cable};

const UP: u32 = libc::IFF_UP.unsigned_abs();
const RUNNING: u32 = libc::IFF_RUNNING.unsigned_abs();
const LOWER_UP: u32 = libc::IFF_LOWER_UP.unsigned_abs();
const BRIDGE: u8 = 7; // AF_BRIDGE of <linux/socket.h>
const TENTATIVE: u8 = 0x40; // IFA_F_* of <linux/if_addr.h>
const DADFAILED: u8 = 0x08;
const OPTIMISTIC: u8 = 0x04;

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

/// `struct rtattr` and its value.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap();
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct ifinfomsg`, an attribute of an unknown type, and those that are read.
fn link(kind: u16, family: u8, index: u32, flags: u32) -> Vec<u8> {
    let mut payload = vec![family, 0, 1, 0];
    payload.extend(index.to_ne_bytes());
    payload.extend(flags.to_ne_bytes());
    payload.extend([0; 4]);
    payload.extend(attribute(0x3fff, &[9]));
    payload.extend(attribute(libc::IFLA_IFNAME, format!("name{index}\0").as_bytes()));
    payload.extend(attribute(libc::IFLA_MTU, &1400_u32.to_ne_bytes()));
    message(kind, 0, &payload)
}

/// `struct ifaddrmsg` and its attributes.
fn address(kind: u16, flags: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut payload = vec![0, 24, flags, 0];
    payload.extend(7_u32.to_ne_bytes());
    for (kind, value) in attributes {
        payload.extend(attribute(*kind, value));
    }
    message(kind, 0, &payload)
}

fn events(bytes: &[u8]) -> Vec<LinkEvent> {
    let mut all = Vec::new();
    read(bytes, |event| all.push(event)).unwrap();
    all
}

fn carrier_event(index: u32, up: bool, carrier: bool) -> LinkEvent {
    let name = format!("name{index}");
    LinkEvent::Link(Link { index, name, up, carrier, mtu: 1400, ..Link::default() })
}

#[test]
fn the_list_contains_the_stacking() {
    with_cable(|| {
        let near = interface(NEAR).index;
        ip(&format!("link add up0 link {NEAR} type macvlan"));
        ip("link add br0 type bridge");
        ip(&format!("link set {FAR} master br0"));
        let links = list().unwrap();
        let of = |name: &str| links.values().find(|link| link.name == name).unwrap();
        assert_eq!(of("up0").layers.foundation, Foundation::On(LowerLink::Here(near)));
        assert_eq!(of("br0").layers.foundation, Foundation::Members);
        let (master, peer) = (Some(of("br0").index), Some(LowerLink::Here(near)));
        assert_eq!(of(FAR).layers, LinkStack { master, peer, ..LinkStack::default() });
        assert_eq!(of("lo").layers, LinkStack::default());
        let snooping = || list().unwrap()[&of("br0").index].layers.snooping.clone();
        let expected = BridgeSnooping { groups: 4096, asks: false, queriers: Vec::new() };
        assert_eq!(snooping(), Some(expected.clone()));
        ip("link set br0 type bridge mcast_hash_max 512 mcast_querier 1");
        assert_eq!(snooping(), Some(BridgeSnooping { groups: 512, asks: true, ..expected }));
        ip("link set br0 type bridge mcast_snooping 0");
        assert_eq!(snooping(), None);
    });
}

#[test]
fn a_carrier_takes_both_flags() {
    let events_with = |flags| events(&link(libc::RTM_NEWLINK, 0, 7, flags));
    assert_eq!(events_with(UP | RUNNING | LOWER_UP), [carrier_event(7, true, true)]);
    assert_eq!(events_with(0), [carrier_event(7, false, false)]);
    for flags in [UP, UP | RUNNING, UP | LOWER_UP] {
        assert_eq!(events_with(flags), [carrier_event(7, true, false)]);
    }
    assert_eq!(events(&link(libc::RTM_DELLINK, 0, 7, UP)), [LinkEvent::LinkGone(7)]);
}

#[test]
fn only_ethernet_has_a_mac() {
    with_cable(|| {
        ip(&format!("link set {NEAR} address 02:00:00:00:00:07"));
        ip("tuntap add tun7 mode tun");
        let links = list().unwrap();
        let of = |name: &str| links.values().find(|link| link.name == name).unwrap().mac;
        assert_eq!(of(NEAR), Some([2, 0, 0, 0, 0, 7]));
        assert_eq!(["lo", "tun7"].map(of), [None, None]);
    });
}

#[test]
fn a_link_has_flags_and_alternative_names() {
    let mut payload = vec![0, 0, 1, 0];
    let flags = UP | libc::IFF_MULTICAST.unsigned_abs() | libc::IFF_LOOPBACK.unsigned_abs();
    payload.extend([7, flags, 0].into_iter().flat_map(u32::to_ne_bytes));
    payload.extend(attribute(libc::IFLA_IFNAME, b"name7\0"));
    let of_another_kind = attribute(libc::IFLA_ALT_IFNAME + 1, b"no\0");
    let long = [&[b'x'; 127][..], b"\0"].concat();
    let names = [b"feed0\0".as_slice(), &long, b"cut"];
    // The kernel accepts these names, but a rule cannot contain them.
    let odd: [&[u8]; 8] =
        [b"\0", b".\0", b"..\0", b"a/b\0", b"a b\0", b"\x1b[2J\0", b"a\nb\0", b"\xff\0"];
    let names: Vec<_> =
        names.into_iter().chain(odd).map(|it| attribute(libc::IFLA_ALT_IFNAME, it)).collect();
    let properties = [of_another_kind, names.concat()].concat();
    // As the kernel writes it, with NLA_F_NESTED in the type.
    payload.extend(attribute(libc::IFLA_PROP_LIST | 0x8000, &properties));
    payload.extend(attribute(libc::IFLA_MTU, &1400_u32.to_ne_bytes()));
    let [LinkEvent::Link(link)] = &events(&message(libc::RTM_NEWLINK, 0, &payload))[..] else {
        panic!("no link")
    };
    assert_eq!(link.altnames, ["feed0", &"x".repeat(127)]);
    assert_eq!(
        (link.name.as_str(), link.up, link.multicast, link.loopback),
        ("name7", true, true, true)
    );
}

#[test]
fn a_bridge_port_message_is_not_a_deletion() {
    for kind in [libc::RTM_NEWLINK, libc::RTM_DELLINK] {
        assert_eq!(events(&link(kind, BRIDGE, 7, 0)), []);
    }
}

#[test]
fn an_address_is_the_interfaces_own_and_usable() {
    let (own, other) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let both: [(u16, &[u8]); 2] = [(libc::IFA_ADDRESS, &other), (libc::IFA_LOCAL, &own)];
    let v4 = Addr::v4(own);
    assert_eq!(events(&address(libc::RTM_NEWADDR, 0, &both)), [LinkEvent::Address(7, v4)]);
    assert_eq!(events(&address(libc::RTM_DELADDR, 0, &both)), [LinkEvent::AddressGone(7, v4)]);
    let v6: [(u16, &[u8]); 1] = [(libc::IFA_ADDRESS, &[0xfd; 16])];
    let of = |flags| events(&address(libc::RTM_NEWADDR, flags, &v6));
    let v6 = Addr::v6([0xfd; 16]);
    assert_eq!(of(0), [LinkEvent::Address(7, v6)]);
    assert_eq!(of(TENTATIVE), [LinkEvent::AddressGone(7, v6)]);
    assert_eq!(of(TENTATIVE | OPTIMISTIC), [LinkEvent::Address(7, v6)]);
    assert_eq!(of(DADFAILED), [LinkEvent::AddressGone(7, v6)]);
    assert_eq!(events(&address(libc::RTM_NEWADDR, 0, &[(libc::IFA_ADDRESS, &[1; 5])])), []);
}

#[test]
fn one_piece_may_hold_several_messages() {
    let mut bytes = link(libc::RTM_NEWLINK, 0, 3, UP | LOWER_UP | RUNNING);
    bytes.extend(message(libc::RTM_NEWADDR, 0, &[0; 9]));
    bytes.extend(link(libc::RTM_NEWLINK, 0, 4, 0));
    bytes.extend(message(NLMSG_DONE, 0, &[0; 4]));
    let done = LinkEvent::Listed { interrupted: false };
    assert_eq!(
        events(&bytes),
        [carrier_event(3, true, true), carrier_event(4, false, false), done]
    );
}

#[test]
fn a_refusal_is_an_error() {
    let answer = |errno: i32| message(NLMSG_ERROR, 9, &(-errno).to_ne_bytes());
    assert_eq!(events(&answer(0)), []);
    let error = read(&answer(libc::EPERM), |_| panic!("no event expected")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    assert_eq!(events(&message(NLMSG_ERROR, 9, &i32::MIN.to_ne_bytes()[..3])), []);
}

#[test]
fn truncated_messages_are_skipped() {
    let whole = link(libc::RTM_NEWLINK, 0, 3, UP | LOWER_UP | RUNNING);
    for end in 0..whole.len() {
        assert_eq!(events(&whole[..end]), []);
    }
    for len in [0_u32, 1, 15, 16, 20, 31, 50, u32::MAX] {
        let mut bytes = whole.clone();
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        assert_eq!(events(&bytes), []);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_panic_or_an_endless_loop(bytes: Vec<u8>) {
        read(&bytes, |_| ()).ok();
    }

    #[test]
    fn no_corruption_causes_a_panic(
        kind in prop_oneof![
            Just(libc::RTM_NEWLINK), Just(libc::RTM_DELLINK), Just(libc::RTM_NEWADDR), Just(NLMSG_ERROR)
        ],
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

/// All events waiting on the socket.
fn all(socket: &LinkSocket) -> Vec<LinkEvent> {
    let mut bytes = vec![0; MESSAGE_BYTES];
    let mut all = Vec::new();
    while let Ok(piece) = socket.receive(&mut bytes) {
        read(piece, |event| all.push(event)).unwrap();
    }
    all
}

/// Whether the link with this index has a carrier, according to its latest event.
fn carrier(events: &[LinkEvent], index: u32) -> Option<bool> {
    events.iter().rev().find_map(|event| match event {
        LinkEvent::Link(link) if link.index == index => Some(link.carrier),
        _ => None,
    })
}

#[test]
fn a_link_is_reported_on_changes_and_in_dumps() {
    with_cable(|| {
        let near = interface(NEAR).index;
        let socket = LinkSocket::open().unwrap();
        assert_eq!(all(&socket), []);
        socket.ask(Dump::Links).unwrap();
        let list = all(&socket);
        assert_eq!(carrier(&list, near), Some(true));
        let of_list: Vec<Link> = list
            .iter()
            .filter_map(|event| match event {
                LinkEvent::Link(link) => Some(link.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(super::list().unwrap().into_values().collect::<Vec<_>>(), of_list);
        assert_eq!(list.last(), Some(&LinkEvent::Listed { interrupted: false }));
        socket.ask(Dump::Addresses).unwrap();
        assert!(all(&socket).contains(&LinkEvent::Address(near, Addr::v4([10, 9, 0, 1]))));
        ip(&format!("link property add dev {NEAR} altname feed0"));
        let is_named = |event: &LinkEvent| matches!(event, LinkEvent::Link(link) if link.altnames == ["feed0"]);
        assert!(all(&socket).iter().any(is_named));
        ip(&format!("link set {FAR} down"));
        wait_until("the change is reported", || carrier(&all(&socket), near) == Some(false));
        ip(&format!("address del 10.9.0.1/24 dev {NEAR}"));
        assert!(all(&socket).contains(&LinkEvent::AddressGone(near, Addr::v4([10, 9, 0, 1]))));
        ip(&format!("link delete {NEAR}"));
        assert!(all(&socket).contains(&LinkEvent::LinkGone(near)));
    });
}
