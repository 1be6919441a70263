//! What the kernel says of the way that copies take (rtnetlink(7)): the interface, the next hop
//! and the source address that routing chooses, how well the next hop is known, and which
//! queueing disciplines cut batches. It must not know who sends what.
//!
//! Each question is answered before the call that asks it returns, and takes no right.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkMessage,
    parse_u32,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::tc::TcMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::sys::socket::{MsgFlags, send};

use super::links;
use super::messages;
use super::messages::attributes;
use super::qdiscs;
use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::sockets::socket;
use crate::spec::{Choice, OutputSpec};

const TARGET: &str = "the routes";

/// Room for one piece of an answer (net/netlink/af_netlink.c, `netlink_recvmsg`).
const PIECE_BYTES: usize = 32 * 1024;
/// `struct rtmsg`: the attributes come after.
const ROUTE_HEADER_BYTES: usize = 12;

/// Where the kernel would send a datagram now, and what as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The index of the interface.
    pub ifindex: u32,
    /// The address on its link that it is handed to: a router's, or its own destination.
    pub next_hop: Addr,
    /// The source address, where the kernel chooses it.
    pub source: Option<Addr>,
    /// Whether the next hop is one host on the link: neither this host nor a group of hosts.
    pub is_to_a_host: bool,
}

/// How well the kernel knows the link-layer address of a neighbour (`ndm_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// There is no entry, or no answer yet.
    Unknown,
    /// Nobody has answered for it.
    Failed,
    /// It is known, and was not used or confirmed for a while.
    Stale,
    /// It is known, or needs not be.
    Known,
}

/// A socket for questions, of the network namespace in which it was opened.
#[derive(Debug)]
pub struct RouteSocket {
    fd: OwnedFd,
}

impl RouteSocket {
    /// Opens it in the calling thread's network namespace; no right is needed.
    ///
    /// # Errors
    /// No descriptor, or no netlink (a sandbox without AF_NETLINK).
    pub fn open() -> Result<Self> {
        Ok(Self { fd: socket::open(libc::AF_NETLINK, libc::SOCK_RAW, TARGET)? })
    }

    /// The way that the copies of an output would take if it were connected now; `None` when
    /// there is none.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn find(&self, spec: &OutputSpec) -> io::Result<Option<Route>> {
        let question = RouteNetlinkMessage::GetRoute(route_to(spec));
        let mut way = None;
        let asked = self.ask(question, NLM_F_REQUEST, |kind, payload| {
            if kind == libc::RTM_NEWROUTE {
                way = read_way(payload, spec.address);
            }
        });
        match asked {
            Ok(()) => Ok(way),
            Err(QueryError::Refused(_)) => Ok(None),
            Err(QueryError::Missing(error)) => Err(error),
        }
    }

    /// How well the kernel knows a neighbour.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn neighbour(&self, way: &Route) -> io::Result<Neighbour> {
        let question = RouteNetlinkMessage::GetNeighbour(neighbour(way, NeighbourFlags::empty()));
        let mut state = 0;
        let asked = self.ask(question, NLM_F_REQUEST, |kind, payload| {
            if kind == libc::RTM_NEWNEIGH
                && let Ok(header) = NeighbourHeader::parse(payload)
            {
                state = header.state.into();
            }
        });
        match asked {
            Ok(()) => Ok(Neighbour::of(state)),
            Err(QueryError::Refused(_)) => Ok(Neighbour::Unknown),
            Err(QueryError::Missing(error)) => Err(error),
        }
    }

    /// Has the kernel look for a neighbour as if something were sent to it (`NTF_USE`).
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN in the network namespace; an interface that is gone or down.
    pub fn seek(&self, way: &Route) -> io::Result<()> {
        let question = RouteNetlinkMessage::NewNeighbour(neighbour(way, NeighbourFlags::Use));
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        self.ask(question, flags, |_, _| {}).map_err(QueryError::into_error)
    }

    /// The bytes of the largest batch that passes each interface in one piece where a token
    /// bucket filter, of the interface or somewhere below its root, would cut it (tc-tbf(8)):
    /// its burst, or what it queues if that is less.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn bursts(&self) -> io::Result<BTreeMap<u32, u32>> {
        let question = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let mut bursts = BTreeMap::new();
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        let asked = self.ask(question, flags, |kind, payload| {
            if kind == libc::RTM_NEWQDISC
                && let Some((ifindex, bytes)) = qdiscs::read(payload)
            {
                let least = bursts.entry(ifindex).or_insert(bytes);
                *least = bytes.min(*least);
            }
        });
        asked.map(|()| bursts).map_err(QueryError::into_error)
    }

    /// Sends a question, and takes all messages of the answer.
    fn ask(
        &self,
        question: RouteNetlinkMessage,
        flags: u16,
        mut take: impl FnMut(u16, &[u8]),
    ) -> std::result::Result<(), QueryError> {
        let mut bytes = vec![0; PIECE_BYTES];
        // What is left of an answer that was given up.
        while links::receive(self.fd.as_fd(), &mut bytes).is_ok() {}
        let mut question = NetlinkMessage::from(question);
        question.header.flags = flags;
        question.finalize();
        question.serialize(&mut bytes);
        let len = question.buffer_len();
        send(self.fd.as_raw_fd(), &bytes[..len], MsgFlags::MSG_DONTWAIT)
            .map_err(|errno| QueryError::Missing(errno.into()))?;
        let is_list = flags & NLM_F_DUMP == NLM_F_DUMP;
        loop {
            let piece = links::receive(self.fd.as_fd(), &mut bytes).map_err(QueryError::Missing)?;
            if read_piece(piece, is_list, &mut take)? {
                return Ok(());
            }
        }
    }
}

/// Has the kernel look for the host on the link that the copies of an output are handed to, if
/// they are handed to one: what is sent before it is found is dropped beyond a few, and reported
/// as sent.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN in the network namespace; no route; no netlink.
pub fn resolve_host(spec: &OutputSpec) -> Result<()> {
    let socket = RouteSocket::open()?;
    let found = socket.find(spec).and_then(|way| match way {
        Some(way) if way.is_to_a_host => socket.seek(&way),
        _ => Ok(()),
    });
    found.map_err(|error| Error::os("looking for the host of", spec.to_string(), error))
}

impl AsFd for RouteSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Neighbour {
    fn of(state: u16) -> Self {
        const KNOWN: u16 = libc::NUD_REACHABLE
            | libc::NUD_DELAY
            | libc::NUD_PROBE
            | libc::NUD_NOARP
            | libc::NUD_PERMANENT;
        match state {
            state if state & KNOWN != 0 => Self::Known,
            state if state & libc::NUD_STALE != 0 => Self::Stale,
            state if state & libc::NUD_FAILED != 0 => Self::Failed,
            _ => Self::Unknown,
        }
    }
}

/// Why a question has no answer.
enum QueryError {
    /// The kernel's error is the answer.
    Refused(io::Error),
    /// None came.
    Missing(io::Error),
}

impl QueryError {
    fn into_error(self) -> io::Error {
        match self {
            Self::Refused(error) | Self::Missing(error) => error,
        }
    }
}

/// Takes the messages of one piece; whether the answer is complete with it.
fn read_piece(
    bytes: &[u8],
    is_list: bool,
    take: &mut impl FnMut(u16, &[u8]),
) -> std::result::Result<bool, QueryError> {
    let mut is_complete = false;
    messages::each(bytes, |message| {
        match message.message_type() {
            NLMSG_DONE => is_complete = true,
            NLMSG_ERROR => match messages::refusal(message.payload()) {
                0 => is_complete = true,
                errno => return Err(QueryError::Refused(io::Error::from_raw_os_error(errno))),
            },
            kind => {
                take(kind, message.payload());
                is_complete |= !is_list;
            }
        }
        Ok(())
    })?;
    Ok(is_complete)
}

/// The question for the route to an output, asked as its socket would.
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

fn read_way(payload: &[u8], destination: Addr) -> Option<Route> {
    /// linux/rtnetlink.h; not in every libc.
    const RTA_VIA: u16 = 18;
    let kinds = [libc::RTA_OIF, libc::RTA_GATEWAY, libc::RTA_PREFSRC, RTA_VIA];
    let [interface, gateway, source, via] = attributes(payload, ROUTE_HEADER_BYTES, kinds);
    // `struct rtvia`: an IPv4 route by an IPv6 router has its family in front of the address.
    let via = via.and_then(|via| via.get(2..));
    let next_hop = gateway.or(via).and_then(messages::to_addr);
    Some(Route {
        ifindex: parse_u32(interface?).ok()?,
        next_hop: next_hop.unwrap_or(destination),
        source: source.and_then(messages::to_addr),
        // rtm_type of `struct rtmsg`. IPv6 has no broadcast, and its groups are of this type too.
        is_to_a_host: payload.get(7) == Some(&libc::RTN_UNICAST) && !destination.is_multicast(),
    })
}

fn neighbour(way: &Route, flags: NeighbourFlags) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let is_v4 = way.next_hop.is_v4();
    message.header.family = if is_v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = way.ifindex;
    message.header.flags = flags;
    let address = NeighbourAddress::from(way.next_hop.ip());
    message.attributes = vec![NeighbourAttribute::Destination(address)];
    message
}

#[cfg(test)]
mod tests;
