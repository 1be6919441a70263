//! Queries for the route of an output (rtnetlink(7)): the interface, next hop and source address
//! that routing selects, and which queueing disciplines split batches.
//!
//! Each call waits for the kernel's answer, which comes before the request returns. No query needs
//! a privilege.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, parse_u32};
use netlink_packet_route::neighbour::NeighbourFlags;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use netlink_packet_route::tc::TcMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::messages::{self, attributes};
use super::neighbours::{self, Neighbour, NextHop};
use super::qdiscs;
use super::query::{QueryError, QuerySocket};
use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::spec::{Choice, OutputSpec};

const TARGET: &str = "rtnetlink";

/// Length of `struct rtmsg`; the attributes follow.
const ROUTE_HEADER_BYTES: usize = 12;

/// The kernel's current route for a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The index of the outgoing interface.
    pub ifindex: u32,
    /// The address on the link that receives the datagram: a router's, or the destination itself.
    pub next_hop: Addr,
    /// The source address, if the kernel selects it.
    pub source: Option<Addr>,
    /// Whether the next hop is a single other host on the link, not this host or a group.
    pub is_to_a_host: bool,
    /// How the datagram gets there; always [`RoutePath::Single`] unless it is for a host.
    pub path: RoutePath,
}

/// How routing gets a datagram to its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutePath {
    /// By the one next hop, as it is.
    Single,
    /// By one of several next hops (ECMP), which the kernel selects.
    Several,
    /// Inside another packet (lightweight tunnels, such as MPLS or SRv6).
    Encapsulated,
}

/// A socket for requests in the network namespace in which it was opened.
#[derive(Debug)]
pub struct RouteSocket {
    queries: QuerySocket,
}

impl RouteSocket {
    /// Opens it in the calling thread's network namespace; needs no privilege.
    ///
    /// # Errors
    /// No descriptor is left, or netlink is unavailable (a sandbox without AF_NETLINK).
    pub fn open() -> Result<Self> {
        Ok(Self { queries: QuerySocket::open(libc::NETLINK_ROUTE, TARGET)? })
    }

    /// The route that an output would use if it were connected now; `None` if there is none.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn find(&self, spec: &OutputSpec) -> io::Result<Option<Route>> {
        let mut route =
            self.ask_for(route_to(spec), |payload| read_route(payload, spec.address))?;
        if let Some(found) = route.as_mut().filter(|route| route.is_to_a_host) {
            let mut wanted = route_to(spec);
            wanted.header.flags = RouteFlags::FibMatch;
            // The entry was removed in between: the notification about it leads to another query.
            found.path = self.ask_for(wanted, read_path)?.unwrap_or(RoutePath::Single);
        }
        Ok(route)
    }

    /// The neighbour that receives the datagrams of a route, as it is now.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn neighbour(&self, route: &Route) -> io::Result<Neighbour> {
        neighbours::ask(&self.queries, route.hop())
    }

    /// The answer to a request for a route, as `read` reads it; `None` if there is no route.
    fn ask_for<T>(
        &self,
        wanted: RouteMessage,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let mut answer = None;
        let request = RouteNetlinkMessage::GetRoute(wanted);
        let answered = self.queries.ask_route(request, NLM_F_REQUEST, |kind, payload| {
            if kind == libc::RTM_NEWROUTE {
                answer = read(payload);
            }
        });
        match answered {
            Ok(()) => Ok(answer),
            Err(QueryError::Refused(_)) => Ok(None),
            Err(QueryError::Missing(error)) => Err(error),
        }
    }

    /// Makes the kernel resolve the next hop as if a datagram were sent to it (`NTF_USE`).
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN in the network namespace; the interface is gone or down.
    pub fn seek(&self, route: &Route) -> io::Result<()> {
        let request =
            RouteNetlinkMessage::NewNeighbour(neighbours::about(route.hop(), NeighbourFlags::Use));
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        self.queries.ask_route(request, flags, |_, _| {}).map_err(QueryError::into_error)
    }

    /// For each interface with a token bucket filter, at its root or below (tc-tbf(8)), the size in
    /// bytes of the largest batch that passes in one piece: its burst, or its queue limit if that
    /// is less.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn bursts(&self) -> io::Result<BTreeMap<u32, u32>> {
        let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let mut bursts = BTreeMap::new();
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        let answered = self.queries.ask_route(request, flags, |kind, payload| {
            if kind == libc::RTM_NEWQDISC
                && let Some((ifindex, bytes)) = qdiscs::read(payload)
            {
                let least = bursts.entry(ifindex).or_insert(bytes);
                *least = bytes.min(*least);
            }
        });
        answered.map(|()| bursts).map_err(QueryError::into_error)
    }
}

/// Makes the kernel resolve the host that the copies of an output are handed to, if the next hop is
/// a single host. Until it is resolved, the kernel queues a few datagrams and drops the rest,
/// although sends succeed.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN in the network namespace; no route; netlink is unavailable.
pub fn resolve_host(spec: &OutputSpec) -> Result<()> {
    let socket = RouteSocket::open()?;
    let found = socket.find(spec).and_then(|route| match route {
        Some(route) if route.is_to_a_host => socket.seek(&route),
        _ => Ok(()),
    });
    found.map_err(|error| Error::os("resolving the next hop", spec.to_string(), error))
}

impl AsFd for RouteSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queries.as_fd()
    }
}

/// The request for the route of an output, with the same parameters as its socket.
fn route_to(spec: &OutputSpec) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, bits) =
        if spec.address.is_v4() { (AddressFamily::Inet, 32) } else { (AddressFamily::Inet6, 128) };
    message.header.address_family = family;
    message.header.destination_prefix_length = bits;
    message.header.tos = spec.dscp.unwrap_or(0) << 2;
    let protocol = u8::try_from(libc::IPPROTO_UDP).unwrap_or_default();
    message.attributes = vec![
        RouteAttribute::Destination(spec.address.ip().into()),
        RouteAttribute::IpProto(protocol),
        RouteAttribute::Dport(spec.port),
    ];
    if spec.ifindex != 0 {
        message.attributes.push(RouteAttribute::Oif(spec.ifindex));
    }
    if let Choice::Chosen(source) = spec.source {
        message.header.source_prefix_length = bits;
        message.attributes.push(RouteAttribute::Source(source.ip().into()));
    }
    if let Choice::Chosen(port) = spec.source_port {
        message.attributes.push(RouteAttribute::Sport(port));
    }
    message
}

pub(super) fn read_route(payload: &[u8], destination: Addr) -> Option<Route> {
    /// From linux/rtnetlink.h; not in every libc.
    const RTA_VIA: u16 = 18;
    let kinds = [libc::RTA_OIF, libc::RTA_GATEWAY, libc::RTA_PREFSRC, RTA_VIA];
    let [interface, gateway, source, via] = attributes(payload, ROUTE_HEADER_BYTES, kinds);
    // `struct rtvia`: an IPv4 route through an IPv6 router has the family before the address.
    let via = via.and_then(|via| via.get(2..));
    let next_hop = gateway.or(via).and_then(messages::to_addr);
    Some(Route {
        ifindex: parse_u32(interface?).ok()?,
        next_hop: next_hop.unwrap_or(destination),
        source: source.and_then(messages::to_addr),
        // rtm_type of `struct rtmsg`. IPv6 has no broadcast; its groups have this type too.
        path: RoutePath::Single,
        is_to_a_host: payload.get(7) == Some(&libc::RTN_UNICAST) && !destination.is_multicast(),
    })
}

/// How the routing table describes the path to a destination.
pub(super) fn read_path(payload: &[u8]) -> Option<RoutePath> {
    let kinds = [libc::RTA_OIF, libc::RTA_MULTIPATH, libc::RTA_ENCAP_TYPE];
    let [interface, several, encapsulation] = attributes(payload, ROUTE_HEADER_BYTES, kinds);
    Some(match (interface, several, encapsulation) {
        (_, _, Some(_)) => RoutePath::Encapsulated,
        (Some(_), None, None) => RoutePath::Single,
        // A group of next hop objects may be described by its number alone
        // (net.ipv4.nexthop_compat_mode).
        (_, _, None) => RoutePath::Several,
    })
}

impl Route {
    /// The neighbour that receives the datagram.
    #[must_use]
    pub fn hop(&self) -> NextHop {
        NextHop { ifindex: self.ifindex, address: self.next_hop }
    }
}

#[cfg(test)]
mod tests;
