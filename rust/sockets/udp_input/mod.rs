//! The sockets of the `udp` ingress: one for each (interface, group, port), or local address
//! instead of a group. They need no privilege.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::net::if_::if_indextoname;

use super::socket::{self, set};
use super::{InterfaceRef, mcast_options};
use crate::addr::Addr;
use crate::error::Result;

/// The requested receive buffer in bytes.
pub const RECEIVE_BUFFER_BYTES: usize = 16 << 20;

/// A request for a socket.
#[derive(Clone, Copy, Debug)]
pub struct UdpInputRequest<'a> {
    /// The interface on which the datagrams arrive.
    pub interface: InterfaceRef<'a>,
    /// Their destination: a group, an address of this host, or a broadcast address.
    pub group: Addr,
    /// Whether it is a broadcast address.
    pub is_broadcast: bool,
    /// Whether datagrams to an address of this host may arrive on any interface, as at an ordinary
    /// socket: Linux accepts them everywhere (the weak host model).
    pub is_everywhere: bool,
    /// Whether other sockets of mcr may also have the address and port.
    pub is_beside_own: bool,
    /// Their destination port.
    pub port: u16,
}

impl<'a> UdpInputRequest<'a> {
    /// A request for datagrams that arrive on the interface, on a port that no other socket of mcr
    /// has.
    #[must_use]
    pub fn on(interface: InterfaceRef<'a>, group: Addr, port: u16) -> Self {
        let (is_broadcast, is_everywhere, is_beside_own) = (false, false, false);
        Self { interface, group, is_broadcast, is_everywhere, is_beside_own, port }
    }
}

/// An open socket without memberships.
#[derive(Debug)]
pub struct UdpInput {
    /// The descriptor, nonblocking.
    pub fd: OwnedFd,
    /// The actual receive buffer, in the unit of [`RECEIVE_BUFFER_BYTES`].
    pub receive_buffer_bytes: usize,
}

/// Opens a socket for datagrams to an address and port that arrive on the interface, or on any.
/// Groups and broadcast addresses are shared with other programs.
///
/// For one interface it is also bound to the interface: IPv6 ignores the interface of a membership,
/// so two sockets of one group would receive from both interfaces.
///
/// # Errors
/// [`crate::error::Error::Permission`] for a privileged port; [`crate::error::Error::Os`] with
/// EADDRINUSE if an application has the unicast address and port, or EADDRNOTAVAIL if this host
/// does not have the address.
pub fn open(request: &UdpInputRequest<'_>) -> Result<UdpInput> {
    let UdpInputRequest { interface, group, port, .. } = *request;
    let target = describe(interface.name, group);
    let owned = socket::open(socket::family(group), libc::SOCK_DGRAM, &target)?;
    let fd = owned.as_fd();
    let is_shared = group.is_multicast() || request.is_broadcast;
    if is_shared {
        socket::share_group(fd, group, &target)?;
    }
    let receive_buffer_bytes = socket::receive_buffer(fd, RECEIVE_BUFFER_BYTES, &target)?;
    if !request.is_everywhere {
        socket::bind_to_interface(fd, interface.index, &target)?;
    }
    let endpoint = socket::endpoint(group, port, interface.index);
    if is_shared {
        socket::bind(fd, endpoint, &target)?;
    } else {
        socket::bind_own(fd, endpoint, request.is_beside_own, &target)?;
    }
    Ok(UdpInput { fd: owned, receive_buffer_bytes })
}

/// Enables the report of TTL and traffic class with each datagram, for outputs that preserve them.
///
/// # Errors
/// [`crate::error::Error::Os`] if the kernel refuses the options.
pub fn enable_marks(fd: BorrowedFd<'_>, interface: &InterfaceRef<'_>, group: Addr) -> Result<()> {
    let names = if group.is_v4() {
        [(libc::IPPROTO_IP, libc::IP_RECVTTL), (libc::IPPROTO_IP, libc::IP_RECVTOS)]
    } else {
        let level = libc::IPPROTO_IPV6;
        [(level, libc::IPV6_RECVHOPLIMIT), (level, libc::IPV6_RECVTCLASS)]
    };
    let target = describe(interface.name, group);
    names.into_iter().try_for_each(|name| set(fd, name, 1, "enabling the TTL and DSCP", &target))
}

/// Adds `sources` to the socket's membership of `group`, or any source if `sources` is empty. Any
/// source takes precedence over a list, whichever comes first; the change from a list to any source
/// loses nothing.
///
/// # Errors
/// [`crate::error::Error::Os`], naming the sysctl if a limit is reached. None of the sources is
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

/// Removes `sources` from the membership. If `sources` is empty, removes any source and with it the
/// whole membership of this group: join the sources that are still needed again. Removing sources
/// has no effect while the socket is a member for any source.
///
/// It also works if the interface is gone; leaving what was never joined has no effect.
pub fn leave(fd: BorrowedFd<'_>, ifindex: u32, group: Addr, sources: &[Addr]) {
    if sources.is_empty() {
        mcast_options::leave_group(fd, ifindex, group).ok();
    } else if !mcast_options::takes_any(fd, ifindex, group) {
        leave_sources(fd, ifindex, group, sources);
    }
}

/// Changes a membership for any source into one for `sources` only, which must not be empty. No
/// datagram from them is lost, and no leave is sent to the network.
///
/// # Errors
/// [`crate::error::Error::Os`], naming the sysctl if a limit is reached. The membership then stays
/// one for any source.
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

/// Ignores sources that are not in the membership.
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
