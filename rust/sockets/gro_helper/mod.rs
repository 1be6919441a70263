//! Helper sockets that receive nothing: one kind makes the kernel form super-frames, the other
//! keeps the host from answering for a port without an open socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::InterfaceRef;
use super::socket::{self, set};
use crate::addr::Addr;
use crate::error::{Error, Result};

/// The kernel raises it to its minimum.
const RECEIVE_BUFFER_BYTES: usize = 1;

/// Opens a helper socket on a group (or broadcast address) and port. It receives nothing: it joins
/// no group and has a filter against broadcasts, which need no membership. Once it is switched on
/// with [`merge`], the kernel merges frames of this flow into super-frames where the device's GRO
/// is on. Before that it keeps them single, whatever sockets of other programs ask for.
///
/// It is bound to the interface, which makes the kernel prefer it to sockets of applications when
/// it looks up the one socket that decides on merging. Otherwise an application without UDP_GRO on
/// the same group and port would end the merging. Such an application still gets its datagrams one
/// by one.
///
/// # Errors
/// [`Error::Permission`] for a privileged port; [`Error::Os`] when an application holds the group
/// and port exclusively, which costs only speed.
pub fn open(group: Addr, port: u16, interface: &InterfaceRef<'_>) -> Result<OwnedFd> {
    let target = format!("{} for {group}", interface.name);
    open_on(group, port, interface.index, &target)
}

/// Switches on or off whether the kernel merges datagrams for this socket (udp(7), UDP_GRO).
///
/// # Errors
/// The kernel refuses the option.
pub fn merge(fd: BorrowedFd<'_>, on: bool) -> Result<()> {
    let what = if on { "enabling UDP_GRO" } else { "disabling UDP_GRO" };
    set(fd, (libc::SOL_UDP, libc::UDP_GRO), on.into(), what, "a GRO helper socket")
}

/// The same for a group that arrives on an interface with other interfaces below it: a bridge, a
/// bond, a VLAN, a macvlan. The kernel merges at the lower ones and looks for a socket that listens
/// there (`udp4_gro_lookup_skb`). A socket bound to no interface is found at each of them, also at
/// those added later. The kernel may find a socket of another program on the same group and port
/// without UDP_GRO instead, which ends the merging, not the relaying.
///
/// # Errors
/// As [`open`]; EINVAL for an IPv6 group of a scope that needs an interface.
pub fn open_anywhere(group: Addr, port: u16) -> Result<OwnedFd> {
    open_on(group, port, 0, &format!("{group} on any interface"))
}

fn open_on(group: Addr, port: u16, ifindex: u32, target: &str) -> Result<OwnedFd> {
    let owned = socket::open(socket::family(group), libc::SOCK_DGRAM, target)?;
    let fd = owned.as_fd();
    socket::share_group(fd, group, target)?;
    prepare(fd, ifindex, target)?;
    socket::drop_all(fd, target)?;
    socket::bind(fd, socket::endpoint(group, port, ifindex), target)?;
    Ok(owned)
}

/// Opens a socket on a port of the wildcard address, which serves many groups at once. Returns
/// `None` when an application has the port, since that may receive unicast too. `is_beside_own`
/// says whether other sockets of mcr may have the port.
///
/// It enables sharing only after it has bound the port, so it never takes precedence over an
/// existing socket, and it is bound to no interface: an application that binds the port later with
/// sharing goes first.
///
/// The kernel also finds such a socket for "packet too big" messages about copies sent from the
/// port ([`crate::spec::OutputSpec::mtu_port`]), and then stores the path's MTU.
///
/// # Errors
/// [`Error::Permission`] for a privileged port.
pub fn open_for_any(v4: bool, port: u16, is_beside_own: bool) -> Result<Option<OwnedFd>> {
    let any = if v4 { Addr::v4([0; 4]) } else { Addr::v6([0; 16]) };
    let target = format!("any group, port {port}");
    let owned = socket::open(socket::family(any), libc::SOCK_DGRAM, &target)?;
    let fd = owned.as_fd();
    if !v4 {
        set(fd, (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY), 1, "restricting to IPv6", &target)?;
    }
    prepare(fd, 0, &target)?;
    socket::drop_all(fd, &target)?;
    match socket::bind_own(fd, socket::endpoint(any, port, 0), is_beside_own, &target) {
        Ok(()) => socket::share_group(fd, any, &target).map(|()| Some(owned)),
        Err(Error::Os { source, .. }) if source.raw_os_error() == Some(libc::EADDRINUSE) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Holds a local address and port, so that the host does not answer "port unreachable" to datagrams
/// that the packet ingress relays. Returns `None` when an application holds it, or when this host
/// does not have the address: in both cases the host does not answer.
///
/// It shares the port only with other sockets of mcr; `is_beside_own` says whether there may be
/// any. `ifindex` is the interface on which the datagrams arrive; 0 for any.
///
/// # Errors
/// [`Error::Permission`] for a privileged port.
pub fn port_guard(
    address: Addr,
    port: u16,
    ifindex: u32,
    is_beside_own: bool,
) -> Result<Option<OwnedFd>> {
    let target = address.to_string();
    let owned = socket::open(socket::family(address), libc::SOCK_DGRAM, &target)?;
    let fd = owned.as_fd();
    prepare(fd, ifindex, &target)?;
    socket::drop_all(fd, &target)?;
    match socket::bind_own(fd, socket::endpoint(address, port, ifindex), is_beside_own, &target) {
        Ok(()) => Ok(Some(owned)),
        Err(Error::Os { source, .. })
            if matches!(source.raw_os_error(), Some(libc::EADDRINUSE | libc::EADDRNOTAVAIL)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn prepare(fd: BorrowedFd<'_>, ifindex: u32, target: &str) -> Result<()> {
    socket::receive_buffer(fd, RECEIVE_BUFFER_BYTES, target)?;
    if ifindex == 0 { Ok(()) } else { socket::bind_to_interface(fd, ifindex, target) }
}

#[cfg(test)]
mod tests;
