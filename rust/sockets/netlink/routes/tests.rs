//! The kernel's answers, on networks that each test creates.

use std::io::{Write, stderr};
use std::os::fd::AsRawFd;
use std::process::Command;

use netlink_packet_core::NetlinkMessage;
use nix::sys::socket::{MsgFlags, send};

use super::*;
use crate::sockets::netlink::neighbours::{NeighbourState, NeighbourTable};
use crate::sockets::output;
use crate::sockets::testnet::{FAR, NEAR, in_namespace, interface, ip, tc, wait_until, with_cable};

fn to(address: &str, ifindex: u32) -> OutputSpec {
    let address = address.parse::<std::net::IpAddr>().unwrap().into();
    OutputSpec { ifindex, dscp: None, ..OutputSpec::to(address, 7000) }
}

fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

/// Queries a route, and compares its source with that of a newly connected socket.
fn find(socket: &RouteSocket, spec: &OutputSpec) -> Route {
    let way = socket.find(spec).unwrap().unwrap();
    let opened = output::open(spec).unwrap();
    assert_eq!(way.source, output::local_endpoint(opened.fd.as_fd()).map(|(source, _)| source));
    way
}

#[test]
fn a_route_matches_a_newly_connected_socket() {
    with_cable(|| {
        let socket = RouteSocket::open().unwrap();
        let near = interface(NEAR).index;
        ip(&format!("address add 2001:db8:a::1/64 dev {NEAR} nodad"));
        ip(&format!("address add 2001:db8:b::1/64 dev {NEAR} nodad"));
        ip("route add 192.0.2.0/24 via 10.9.0.3");
        ip("route add 2001:db8:7::/64 via 2001:db8:a::2");
        let host = find(&socket, &to("10.9.0.9", 0));
        assert_eq!(
            (host.ifindex, host.next_hop, host.is_to_a_host),
            (near, addr("10.9.0.9"), true)
        );
        let routed = find(&socket, &to("192.0.2.7", 0));
        assert_eq!((routed.next_hop, routed.is_to_a_host), (addr("10.9.0.3"), true));
        let routed = find(&socket, &to("2001:db8:7::7", 0));
        assert_eq!((routed.next_hop, routed.is_to_a_host), (addr("2001:db8:a::2"), true));
        for (group, of) in [("239.1.1.1", near), ("ff0e::1", near), ("10.9.0.255", 0)] {
            assert!(!find(&socket, &to(group, of)).is_to_a_host, "{group}");
        }
        assert!(!find(&socket, &to("127.0.0.1", 0)).is_to_a_host);
        assert_eq!(find(&socket, &to("2001:db8:b::9", 0)).source, Some(addr("2001:db8:b::1")));
        let group = find(&socket, &to("ff0e::1", near)).source;
        assert_eq!(socket.find(&to("198.51.100.1", 0)).unwrap(), None);
        ip(&format!("address change {}/64 dev {NEAR} preferred_lft 0", group.unwrap()));
        assert_ne!(find(&socket, &to("ff0e::1", near)).source, group);
        let chosen = OutputSpec { source: Choice::Chosen(addr("10.9.0.1")), ..to("10.9.0.9", 0) };
        assert_eq!(socket.find(&chosen).unwrap().unwrap().next_hop, addr("10.9.0.9"));
    });
}

#[test]
fn several_next_hops_and_wrapped_datagrams_are_told_apart_from_a_single_path() {
    with_cable(|| {
        let socket = RouteSocket::open().unwrap();
        ip(&format!("address add 2001:db8:a::1/64 dev {NEAR} nodad"));
        let hops =
            |one, other| format!("nexthop via {one} dev {NEAR} nexthop via {other} dev {FAR}");
        ip(&format!("route add 192.0.2.0/24 {}", hops("10.9.0.3", "10.9.0.4")));
        ip(&format!("route add 2001:db8:7::/64 {}", hops("2001:db8:a::2", "fe80::7")));
        ip("nexthop add id 7 via 10.9.0.3 dev near0");
        ip("nexthop add id 8 group 7");
        ip("nexthop add id 9 via 10.9.0.4 dev near0");
        ip("nexthop add id 10 group 7/9");
        ip("route add 198.51.100.0/24 nhid 7");
        ip("route add 203.0.113.0/24 nhid 10");
        let path = |address| socket.find(&to(address, 0)).unwrap().unwrap().path;
        assert_eq!(path("192.0.2.7"), RoutePath::Several);
        assert_eq!(path("2001:db8:7::7"), RoutePath::Several);
        assert_eq!(path("203.0.113.7"), RoutePath::Several);
        for single in ["10.9.0.9", "2001:db8:a::9", "198.51.100.7"] {
            assert_eq!(path(single), RoutePath::Single, "{single}");
        }
        let encapsulated = "route add 192.0.3.0/24 encap ip6 id 7 dst 2001:db8:a::2 dev near0";
        let added = Command::new("ip").args(encapsulated.split(' ')).output().unwrap();
        if added.status.success() {
            assert_eq!(path("192.0.3.7"), RoutePath::Encapsulated);
        } else {
            writeln!(stderr(), "partly skipped: the kernel has no lightweight tunnels").unwrap();
        }
    });
}

#[test]
fn a_neighbour_is_resolved_before_anything_is_sent_to_it() {
    with_cable(|| {
        let socket = RouteSocket::open().unwrap();
        // Both ends are in one namespace, so no host answers.
        let way = socket.find(&to("10.9.0.9", 0)).unwrap().unwrap();
        let table = NeighbourTable::open().unwrap();
        let state = || table.refresh(way.hop()).unwrap().state;
        assert_eq!(state(), NeighbourState::Unknown);
        ip(&format!("ntable change name arp_cache dev {NEAR} retrans 20"));
        socket.seek(&way).unwrap();
        wait_until("the resolution has failed", || state() == NeighbourState::Failed);
        ip(&format!("neighbour replace 10.9.0.9 lladdr 2:0:0:0:0:1 dev {NEAR} nud stale"));
        assert_eq!(state(), NeighbourState::Stale);
        socket.seek(&way).unwrap();
        assert_eq!(state(), NeighbourState::Known);
        ip(&format!("link set {FAR} down"));
        ip(&format!("link delete {NEAR}"));
        assert!(socket.seek(&way).is_err());
        assert_eq!(state(), NeighbourState::Unknown);
    });
}

#[test]
fn token_bucket_filters_are_found_anywhere_below_the_root() {
    with_cable(|| {
        let socket = RouteSocket::open().unwrap();
        assert_eq!(socket.bursts().unwrap(), BTreeMap::new());
        let [near, far] = [NEAR, FAR].map(|name| interface(name).index);
        let within = |found: Option<&u32>, bytes: u32| {
            found.is_some_and(|found| (bytes - 64..=bytes).contains(found))
        };
        tc(&format!("qdisc add dev {NEAR} root tbf rate 20mbit burst 20000 limit 60000"));
        tc(&format!("qdisc add dev {FAR} root handle 1: htb"));
        tc(&format!("class add dev {FAR} parent 1: classid 1:1 htb rate 9gbit"));
        tc(&format!("qdisc add dev {FAR} parent 1:1 tbf rate 9gbit burst 50000 limit 30000"));
        let bursts = socket.bursts().unwrap();
        assert!(within(bursts.get(&near), 20_000), "{bursts:?}");
        assert_eq!(bursts.get(&far), Some(&30_000), "not more than it queues");
        let peak = "peakrate 40gbit mtu 9000";
        tc(&format!(
            "qdisc replace dev {NEAR} root tbf rate 36gbit burst 90000 limit 90000 {peak}"
        ));
        let bursts = socket.bursts().unwrap();
        let found = bursts.get(&near).copied().unwrap();
        assert!((8_600..=9_000).contains(&found), "{bursts:?}");
    });
}

#[test]
fn unread_answers_do_not_confuse_the_next_request() {
    in_namespace(|| {
        let socket = RouteSocket::open().unwrap();
        let question = RouteNetlinkMessage::GetRoute(route_to(&to("::1", 0)));
        let mut question = NetlinkMessage::from(question);
        question.header.flags = NLM_F_REQUEST;
        question.finalize();
        let mut bytes = vec![0; question.buffer_len()];
        question.serialize(&mut bytes);
        send(socket.as_fd().as_raw_fd(), &bytes, MsgFlags::MSG_DONTWAIT).unwrap();
        let way = socket.find(&to("127.0.0.1", 0)).unwrap().unwrap();
        assert_eq!(way.next_hop, addr("127.0.0.1"));
    });
}
