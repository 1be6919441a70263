//! What traffic control and multicast routing do to the datagrams that leave an interface
//! (rtnetlink(7)). No query needs a privilege.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, parse_i32, parse_u32};
use netlink_packet_route::AddressFamily;

use super::messages::{LINK_HEADER_BYTES, attributes};
use super::qdiscs;
pub use super::qdiscs::Discipline;
use super::query::{QueryError, QuerySocket, request};
use crate::error::Result;

const TARGET: &str = "rtnetlink";

/// Length of `struct tcmsg`.
const TRAFFIC_HEADER_BYTES: usize = 20;
/// The classes of `clsact` for outgoing datagrams (linux/pkt_sched.h, `TC_H_CLSACT` and
/// `TC_H_MIN_EGRESS`).
const CLSACT_EGRESS: u32 = 0xffff_fff3;
/// The same for what arrives, which the discipline `ingress` knows too (`TC_H_MIN_INGRESS`).
const CLSACT_INGRESS: u32 = 0xffff_fff2;

/// Those on this host that an interface gives frames before the network stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkUsers {
    /// How many have made it promiscuous, such as captures and virtual machines.
    pub promiscuity: u32,
    /// The number of the XDP program that is attached.
    pub program: Option<u32>,
}

/// A socket for requests in the network namespace in which it was opened.
#[derive(Debug)]
pub struct TrafficSocket {
    queries: QuerySocket,
}

impl TrafficSocket {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// No descriptor is left, or netlink is unavailable (a sandbox without AF_NETLINK).
    pub fn open() -> Result<Self> {
        Ok(Self { queries: QuerySocket::open(libc::NETLINK_ROUTE, TARGET)? })
    }

    /// The queueing disciplines of an interface, at its root and below.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn disciplines(&self, ifindex: u32) -> io::Result<Vec<Discipline>> {
        let mut disciplines = Vec::new();
        let query = traffic_request(libc::RTM_GETQDISC, ifindex, 0);
        let answered = self.queries.ask(&query, |kind, payload| {
            // The kernel lists those of all interfaces.
            if kind == libc::RTM_NEWQDISC && interface(payload) == Some(ifindex) {
                disciplines.extend(qdiscs::read_kind(payload));
            }
        });
        answered.map(|()| disciplines).map_err(QueryError::into_error)
    }

    /// Whether a filter looks at what leaves the interface through one of these disciplines.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn has_egress_filter(&self, ifindex: u32, disciplines: &[Discipline]) -> io::Result<bool> {
        for discipline in disciplines {
            let parent = match &*discipline.kind {
                "ingress" => continue,
                "clsact" => CLSACT_EGRESS,
                // One of the kernel's own has no number, to which a filter could be added.
                _ if discipline.handle == 0 => continue,
                _ => discipline.handle,
            };
            if self.has_filter(ifindex, parent)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a filter looks at what arrives at the interface, through one of these disciplines.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn has_ingress_filter(&self, ifindex: u32, disciplines: &[Discipline]) -> io::Result<bool> {
        let is_ingress = |one: &Discipline| matches!(&*one.kind, "ingress" | "clsact");
        Ok(disciplines.iter().any(is_ingress) && self.has_filter(ifindex, CLSACT_INGRESS)?)
    }

    fn has_filter(&self, ifindex: u32, parent: u32) -> io::Result<bool> {
        let mut has_filter = false;
        let query = traffic_request(libc::RTM_GETTFILTER, ifindex, parent);
        let answered = self.queries.ask(&query, |kind, _| {
            has_filter |= kind == libc::RTM_NEWTFILTER;
        });
        answered.map(|()| has_filter).map_err(QueryError::into_error)
    }

    /// Who has an interface give its frames. The kernel does not report all changes of it.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn link_users(&self, ifindex: u32) -> io::Result<LinkUsers> {
        /// `IFLA_XDP_PROG_ID` of <linux/if_link.h>.
        const PROGRAM: u16 = 4;
        let mut body = [0; LINK_HEADER_BYTES];
        body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        let mut users = LinkUsers::default();
        let query = request(libc::RTM_GETLINK, NLM_F_REQUEST, &body);
        let number = |value: Option<&[u8]>| value.and_then(|value| parse_u32(value).ok());
        let answered = self.queries.ask(&query, |_, payload| {
            let kinds = [libc::IFLA_PROMISCUITY, libc::IFLA_XDP];
            let [promiscuity, xdp] = attributes(payload, LINK_HEADER_BYTES, kinds);
            let [program] = attributes(xdp.unwrap_or_default(), 0, [PROGRAM]);
            users.promiscuity = number(promiscuity).unwrap_or(0);
            users.program = number(program).filter(|id| *id != 0);
        });
        answered.map(|()| users).map_err(QueryError::into_error)
    }

    /// Whether this host routes multicast: a routing daemon gets a copy of each multicast datagram
    /// that a socket of this host sends.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn routes_multicast(&self, is_v4: bool) -> io::Result<bool> {
        /// `NETCONFA_IFINDEX` with `NETCONFA_IFINDEX_ALL`, and `NETCONFA_MC_FORWARDING`
        /// (linux/netconf.h).
        const IFINDEX: u16 = 1;
        const ALL: i32 = -1;
        const MC_FORWARDING: u16 = 4;
        /// Length of `struct netconfmsg`, padded.
        const HEADER_BYTES: usize = 4;
        let family = if is_v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let mut body = vec![family.into(), 0, 0, 0];
        body.extend(super::query::attribute(IFINDEX, &ALL.to_ne_bytes()));
        let mut is_on = false;
        let query = request(libc::RTM_GETNETCONF, NLM_F_REQUEST, &body);
        let answered = self.queries.ask(&query, |_, payload| {
            let [value] = attributes(payload, HEADER_BYTES, [MC_FORWARDING]);
            is_on = value.and_then(|value| parse_i32(value).ok()).is_some_and(|value| value != 0);
        });
        match answered {
            // The kernel has no such family.
            Err(QueryError::Refused(error)) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                Ok(false)
            }
            other => other.map(|()| is_on).map_err(QueryError::into_error),
        }
    }
}

/// A request for a list, with a `struct tcmsg`.
fn traffic_request(kind: u16, ifindex: u32, parent: u32) -> Vec<u8> {
    let mut body = [0; TRAFFIC_HEADER_BYTES];
    body[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    body[12..16].copy_from_slice(&parent.to_ne_bytes());
    request(kind, NLM_F_REQUEST | NLM_F_DUMP, &body)
}

fn interface(payload: &[u8]) -> Option<u32> {
    parse_u32(payload.get(4..8)?).ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sockets::testnet::{FAR, NEAR, interface, ip, tc, with_cable};
    use crate::sys::sockopt;

    fn kinds(name: &str) -> Vec<String> {
        let found = TrafficSocket::open().unwrap().disciplines(interface(name).index).unwrap();
        found.into_iter().map(|discipline| discipline.kind).collect()
    }

    fn has_filter(name: &str) -> bool {
        let socket = TrafficSocket::open().unwrap();
        let index = interface(name).index;
        socket.has_egress_filter(index, &socket.disciplines(index).unwrap()).unwrap()
    }

    #[test]
    fn the_disciplines_of_one_interface_are_read() {
        with_cable(|| {
            assert_eq!(kinds(NEAR), ["noqueue"]);
            tc(&format!("qdisc add dev {NEAR} root handle 1: htb default 1"));
            tc(&format!("class add dev {NEAR} parent 1: classid 1:1 htb rate 1mbit"));
            tc(&format!("qdisc add dev {NEAR} parent 1:1 handle 2: pfifo limit 5"));
            tc(&format!("qdisc add dev {NEAR} clsact"));
            tc(&format!("qdisc add dev {FAR} root tbf rate 1mbit burst 10k latency 1ms"));
            let mut near = kinds(NEAR);
            near.sort();
            assert_eq!(near, ["clsact", "htb", "pfifo"]);
            assert_eq!(kinds(FAR), ["tbf"]);
        });
    }

    #[test]
    fn filters_for_outgoing_datagrams_are_found_wherever_they_are() {
        with_cable(|| {
            let add = |device: &str, place: &str| {
                let any = "protocol ip prio 1 u32 match u32 0 0 classid 1:1";
                tc(&format!("filter add dev {device} {place} {any}"));
            };
            tc(&format!("qdisc add dev {NEAR} clsact"));
            add(NEAR, "ingress");
            assert!(!has_filter(NEAR));
            add(NEAR, "egress");
            assert!(has_filter(NEAR));
            tc(&format!("filter delete dev {NEAR} egress"));
            assert!(!has_filter(NEAR));
            tc(&format!("qdisc add dev {FAR} root handle 1: htb"));
            assert!(!has_filter(FAR));
            add(FAR, "parent 1:");
            assert!(has_filter(FAR) && !has_filter(NEAR));
        });
    }

    #[test]
    fn filters_for_arriving_datagrams_are_found_with_either_discipline() {
        with_cable(|| {
            let has_filter = |name: &str| {
                let (socket, index) = (TrafficSocket::open().unwrap(), interface(name).index);
                socket.has_ingress_filter(index, &socket.disciplines(index).unwrap()).unwrap()
            };
            for discipline in ["clsact", "ingress"] {
                let any = "protocol ip prio 1 u32 match u32 0 0 classid 1:1";
                assert!(!has_filter(NEAR));
                tc(&format!("qdisc add dev {NEAR} {discipline}"));
                assert!(!has_filter(NEAR));
                tc(&format!("filter add dev {NEAR} ingress {any}"));
                assert!(has_filter(NEAR) && !has_filter(FAR));
                tc(&format!("qdisc delete dev {NEAR} {discipline}"));
            }
        });
    }

    #[test]
    fn promiscuity_is_read_as_it_is() {
        with_cable(|| {
            let (socket, index) = (TrafficSocket::open().unwrap(), interface(NEAR).index);
            assert_eq!(socket.link_users(index).unwrap().promiscuity, 0);
            ip(&format!("link set {NEAR} promisc on"));
            assert_eq!(socket.link_users(index).unwrap().promiscuity, 1);
            ip(&format!("link set {NEAR} promisc off"));
            assert_eq!(socket.link_users(index).unwrap().promiscuity, 0);
        });
    }

    #[test]
    fn a_multicast_routing_daemon_is_noticed() {
        /// From linux/mroute.h and linux/mroute6.h.
        const MRT_INIT: i32 = 200;
        with_cable(|| {
            let socket = TrafficSocket::open().unwrap();
            let routes = || [true, false].map(|is_v4| socket.routes_multicast(is_v4).unwrap());
            assert_eq!(routes(), [false, false]);
            let open = |family: i32, protocol: i32| {
                let raw =
                    socket2::Socket::new(family.into(), socket2::Type::RAW, Some(protocol.into()));
                raw.unwrap()
            };
            let v4 = open(libc::AF_INET, libc::IPPROTO_IGMP);
            sockopt::set(v4.as_fd(), libc::IPPROTO_IP, MRT_INIT, 1_i32).unwrap();
            assert_eq!(routes(), [true, false]);
            drop(v4);
            let v6 = open(libc::AF_INET6, libc::IPPROTO_ICMPV6);
            sockopt::set(v6.as_fd(), libc::IPPROTO_IPV6, MRT_INIT, 1_i32).unwrap();
            assert_eq!(routes(), [false, true]);
            drop(v6);
            assert_eq!(routes(), [false, false]);
        });
    }
}
