//! Sockets beside the inputs that receive nothing: one can make the kernel form super-frames, one
//! keeps the host from answering for a port that nobody has open. It must not know what the frames
//! are for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::InterfaceRef;
use super::socket::{self, set};
use crate::addr::Addr;
use crate::error::{Error, Result};

/// The kernel raises it to the least that it gives.
const RECEIVE_BUFFER_BYTES: usize = 1;

/// Opens a socket on group (or broadcast address) and port that receives nothing: it is a member
/// of nothing, and has a filter against broadcasts, which need no membership. While it is open and
/// told to [`merge`], frames of this flow are merged into super-frames where the device's GRO is on;
/// before that it keeps them single, whatever sockets of other programs want.
///
/// It is bound to the interface, which puts it before sockets of applications when the kernel
/// asks one socket whether it wants merging: an application without UDP_GRO on the same group
/// and port ends the merging otherwise. It still gets its datagrams one by one.
///
/// # Errors
/// [`Error::Permission`] for a port that needs a right; [`Error::Os`] when an application has
/// group and port to itself, which is no harm but for speed.
pub fn open(group: Addr, port: u16, interface: &InterfaceRef<'_>) -> Result<OwnedFd> {
    let target = format!("{} for {group}", interface.name);
    open_on(group, port, interface.index, &target)
}

/// Has the kernel merge what it would give this socket, or no longer (udp(7), UDP_GRO).
///
/// # Errors
/// The kernel's.
pub fn merge(fd: BorrowedFd<'_>, on: bool) -> Result<()> {
    let what = if on { "turning UDP_GRO on" } else { "turning UDP_GRO off" };
    set(fd, (libc::SOL_UDP, libc::UDP_GRO), on.into(), what, "a socket that receives nothing")
}

/// The same for a group that arrives on an interface that others receive for: a bridge, a bond, a
/// VLAN, a macvlan. The kernel merges at these, and asks for a socket that hears them
/// (`udp4_gro_lookup_skb`). One that is bound to no interface is found at each of them, also at
/// those that join later; a socket of a program on the same group and port without UDP_GRO may be
/// found instead, which ends the merging, not the relaying.
///
/// # Errors
/// As [`open`]; EINVAL for an IPv6 group of a scope that needs an interface.
pub fn open_anywhere(group: Addr, port: u16) -> Result<OwnedFd> {
    open_on(group, port, 0, &format!("{group} wherever it arrives"))
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

/// Opens a socket on a port of any address, which is what [`open`] is for many groups at once.
/// `None` when an application has the port, as it may be meant for unicast too; `is_beside_own` says
/// whether other sockets of mcr may have it.
///
/// It begins to share only when it has the port, so that it comes in front of nobody, and is
/// bound to no interface: an application that takes the port later and shares it too goes first.
///
/// Such a socket is also the one that the kernel finds for "packet too big" about copies which
/// leave from the port ([`crate::spec::OutputSpec::mtu_port`]): it notes the path's MTU then.
///
/// # Errors
/// [`Error::Permission`] for a port that needs a right.
pub fn open_for_any(v4: bool, port: u16, is_beside_own: bool) -> Result<Option<OwnedFd>> {
    let any = if v4 { Addr::v4([0; 4]) } else { Addr::v6([0; 16]) };
    let target = format!("any group, port {port}");
    let owned = socket::open(socket::family(any), libc::SOCK_DGRAM, &target)?;
    let fd = owned.as_fd();
    if !v4 {
        set(fd, (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY), 1, "leaving IPv4 out", &target)?;
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

/// Holds a local address and port, so that the host does not answer "port unreachable" to what
/// the packet ingress relays. `None` when an application holds it, or when the address is not
/// this host's: then the host does not answer.
///
/// It shares with other sockets of mcr only, of which `is_beside_own` says whether there may be any.
/// `ifindex` is the interface that they arrive on; 0 for any.
///
/// # Errors
/// [`Error::Permission`] for a port that needs a right.
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
