//! The socket of the `udp` ingress: one for each (interface, group, port), or local address
//! instead of the group. It needs no privilege. It must not know rules.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::net::if_::if_indextoname;

use super::socket::{self, set};
use super::{InterfaceRef, mcast_options};
use crate::addr::Addr;
use crate::error::Result;

/// The receive buffer that is asked for, in bytes.
pub const RECEIVE_BUFFER_BYTES: usize = 16 << 20;

/// A socket to be opened.
#[derive(Clone, Copy, Debug)]
pub struct UdpInputRequest<'a> {
    /// Where the datagrams arrive.
    pub interface: InterfaceRef<'a>,
    /// Their destination: a group, or an address of this host, or a broadcast address.
    pub group: Addr,
    /// Whether it is a broadcast address.
    pub is_broadcast: bool,
    /// Whether datagrams to an address of this host may arrive on any interface, as they do at an
    /// ordinary socket: Linux takes them wherever they come (the weak host model).
    pub is_everywhere: bool,
    /// Whether other sockets of mcr may have the address and port, too.
    pub is_beside_own: bool,
    /// Their port.
    pub port: u16,
}

impl<'a> UdpInputRequest<'a> {
    /// For what arrives on the interface, by a socket that no other of mcr shares the port with.
    #[must_use]
    pub fn on(interface: InterfaceRef<'a>, group: Addr, port: u16) -> Self {
        let (is_broadcast, is_everywhere, is_beside_own) = (false, false, false);
        Self { interface, group, is_broadcast, is_everywhere, is_beside_own, port }
    }
}

/// An open socket, not yet a member of anything.
#[derive(Debug)]
pub struct UdpInput {
    /// The descriptor, nonblocking.
    pub fd: OwnedFd,
    /// The receive buffer that it got, in the unit of [`RECEIVE_BUFFER_BYTES`].
    pub receive_buffer_bytes: usize,
}

/// Opens a socket for datagrams to an address and port that arrive on the interface, or
/// everywhere. A group and a broadcast address are shared with other programs.
///
/// For one interface it is bound to the interface too: IPv6 does not look at the interface of a
/// membership, so that two sockets of one group would hear both interfaces.
///
/// # Errors
/// [`crate::error::Error::Permission`] for a port that needs a right;
/// [`crate::error::Error::Os`] with EADDRINUSE when an application has the unicast address and
/// port, or EADDRNOTAVAIL when it is not this host's.
pub fn open(wish: &UdpInputRequest<'_>) -> Result<UdpInput> {
    let UdpInputRequest { interface, group, port, .. } = *wish;
    let target = describe(interface.name, group);
    let owned = socket::open(socket::family(group), libc::SOCK_DGRAM, &target)?;
    let fd = owned.as_fd();
    let is_shared = group.is_multicast() || wish.is_broadcast;
    if is_shared {
        socket::share_group(fd, group, &target)?;
    }
    let receive_buffer_bytes = socket::receive_buffer(fd, RECEIVE_BUFFER_BYTES, &target)?;
    if !wish.is_everywhere {
        socket::bind_to_interface(fd, interface.index, &target)?;
    }
    let endpoint = socket::endpoint(group, port, interface.index);
    if is_shared {
        socket::bind(fd, endpoint, &target)?;
    } else {
        socket::bind_own(fd, endpoint, wish.is_beside_own, &target)?;
    }
    Ok(UdpInput { fd: owned, receive_buffer_bytes })
}

/// Has the TTL and the traffic class of each datagram told, for outputs that keep them.
///
/// # Errors
/// [`crate::error::Error::Os`], if the kernel cannot.
pub fn enable_marks(fd: BorrowedFd<'_>, interface: &InterfaceRef<'_>, group: Addr) -> Result<()> {
    let names = if group.is_v4() {
        [(libc::IPPROTO_IP, libc::IP_RECVTTL), (libc::IPPROTO_IP, libc::IP_RECVTOS)]
    } else {
        let level = libc::IPPROTO_IPV6;
        [(level, libc::IPV6_RECVHOPLIMIT), (level, libc::IPV6_RECVTCLASS)]
    };
    let target = describe(interface.name, group);
    names.into_iter().try_for_each(|name| set(fd, name, 1, "asking for the TTL and DSCP", &target))
}

/// Makes the socket a member of `group` for `sources` beside those it has, or for any source if
/// there are none. Any source wins over a list, whichever comes first; the change from a list
/// to any source loses nothing.
///
/// # Errors
/// [`crate::error::Error::Os`], naming the sysctl where a limit is met. Of the sources none is
/// added then.
pub fn join(fd: BorrowedFd<'_>, ifindex: u32, group: Addr, sources: &[Addr]) -> Result<()> {
    let joined = if sources.is_empty() {
        join_any(fd, ifindex, group)
    } else if mcast_options::takes_any(fd, ifindex, group) {
        Ok(())
    } else {
        join_sources(fd, ifindex, group, sources)
    };
    joined.map_err(|error| mcast_options::refusal(group, &describe(&name(ifindex), group), error))
}

/// Ends the membership for `sources`, or, if there are none, for any source and with it all
/// that the socket has of this group: sources that are still wanted are joined anew. Leaving
/// sources changes nothing while the socket is a member for any.
///
/// It also works when the interface is gone, and what was never joined is left already.
pub fn leave(fd: BorrowedFd<'_>, ifindex: u32, group: Addr, sources: &[Addr]) {
    if sources.is_empty() {
        mcast_options::leave_group(fd, ifindex, group).ok();
    } else if !mcast_options::takes_any(fd, ifindex, group) {
        leave_sources(fd, ifindex, group, sources);
    }
}

/// Turns a membership for any source into one for these only, of which there must be some.
/// Nothing of theirs is lost, and the network hears of no leave.
///
/// # Errors
/// [`crate::error::Error::Os`], naming the sysctl where a limit is met. The membership stays one
/// for any source then.
pub fn narrow(fd: BorrowedFd<'_>, ifindex: u32, group: Addr, sources: &[Addr]) -> Result<()> {
    let narrowed = mcast_options::narrow(fd, ifindex, group, sources);
    narrowed.map_err(|error| mcast_options::refusal(group, &describe(&name(ifindex), group), error))
}

fn join_any(fd: BorrowedFd<'_>, ifindex: u32, group: Addr) -> io::Result<()> {
    match mcast_options::join_group(fd, ifindex, group) {
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
            mcast_options::widen(fd, ifindex, group)
        }
        other => other,
    }
}

fn join_sources(fd: BorrowedFd<'_>, ifindex: u32, group: Addr, sources: &[Addr]) -> io::Result<()> {
    let mut added = Vec::with_capacity(sources.len());
    for source in sources {
        match mcast_options::join_source(fd, ifindex, group, *source) {
            Ok(()) => added.push(*source),
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {}
            Err(error) => {
                leave_sources(fd, ifindex, group, &added);
                return Err(error);
            }
        }
    }
    Ok(())
}

/// A source that is not there is what was wanted.
fn leave_sources(fd: BorrowedFd<'_>, ifindex: u32, group: Addr, sources: &[Addr]) {
    for source in sources {
        mcast_options::leave_source(fd, ifindex, group, *source).ok();
    }
}

fn describe(interface: &str, group: Addr) -> String {
    format!("{interface} for {group}")
}

fn name(ifindex: u32) -> String {
    if_indextoname(ifindex)
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("interface {ifindex}"))
}

#[cfg(test)]
mod tests;
