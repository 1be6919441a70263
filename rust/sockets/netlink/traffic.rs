//! What traffic control and multicast routing do to the datagrams that leave an interface
//! (rtnetlink(7)). No query needs a privilege.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, parse_i32, parse_u32};
use netlink_packet_route::AddressFamily;

use super::messages::attributes;
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
            let mut has_filter = false;
            let query = traffic_request(libc::RTM_GETTFILTER, ifindex, parent);
            let answered = self.queries.ask(&query, |kind, _| {
                has_filter |= kind == libc::RTM_NEWTFILTER;
            });
            answered.map_err(QueryError::into_error)?;
            if has_filter {
                return Ok(true);
            }
        }
        Ok(false)
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
    use crate::sockets::testnet::{FAR, NEAR, interface, tc, with_cable};
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
