//! The socket options for multicast memberships (RFC 3678, the same for both families).

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use libc::{c_int, sockaddr_storage};

use super::socket;
use crate::addr::Addr;
use crate::error::Error;
use crate::sys::{group_filter, sockaddr, sockopt};

/// The filter mode of a membership for any source.
const EXCLUDE: u32 = libc::MCAST_EXCLUDE.unsigned_abs();
/// The filter mode of a membership for listed sources.
const INCLUDE: u32 = libc::MCAST_INCLUDE.unsigned_abs();

/// Joins for any source. EADDRINUSE: the socket is already a member, for any or for some sources.
pub(super) fn join_group(fd: BorrowedFd<'_>, ifindex: u32, group: Addr) -> io::Result<()> {
    group_request(fd, libc::MCAST_JOIN_GROUP, ifindex, group)
}

/// Ends the membership, whatever its sources.
pub(super) fn leave_group(fd: BorrowedFd<'_>, ifindex: u32, group: Addr) -> io::Result<()> {
    group_request(fd, libc::MCAST_LEAVE_GROUP, ifindex, group)
}

/// Adds a source to the membership. EADDRNOTAVAIL: it already has this source.
pub(super) fn join_source(
    fd: BorrowedFd<'_>,
    ifindex: u32,
    group: Addr,
    source: Addr,
) -> io::Result<()> {
    source_request(fd, libc::MCAST_JOIN_SOURCE_GROUP, ifindex, group, source)
}

/// Removes a source from the membership; removing the last one ends it.
pub(super) fn leave_source(
    fd: BorrowedFd<'_>,
    ifindex: u32,
    group: Addr,
    source: Addr,
) -> io::Result<()> {
    source_request(fd, libc::MCAST_LEAVE_SOURCE_GROUP, ifindex, group, source)
}

/// Changes a membership for some sources into one for any, without a gap.
pub(super) fn widen(fd: BorrowedFd<'_>, ifindex: u32, group: Addr) -> io::Result<()> {
    group_filter::set(fd, level(group), ifindex, plain(group), EXCLUDE, &[])
}

/// Changes the membership into one for exactly `sources`, which must not be empty. The kernel does
/// this in one step, so the group is not left in between.
pub(super) fn narrow(
    fd: BorrowedFd<'_>,
    ifindex: u32,
    group: Addr,
    sources: &[Addr],
) -> io::Result<()> {
    let sources: Vec<SocketAddr> = sources.iter().copied().map(plain).collect();
    group_filter::set(fd, level(group), ifindex, plain(group), INCLUDE, &sources)
}

/// Whether the socket is a member for any source. Joining a source would then narrow the membership
/// to that source.
pub(super) fn takes_any(fd: BorrowedFd<'_>, ifindex: u32, group: Addr) -> bool {
    group_filter::mode(fd, level(group), ifindex, storage(group)).is_ok_and(|mode| mode == EXCLUDE)
}

/// Whether the error means that a kernel limit was reached.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

/// The error for a failed join, naming the sysctl to raise.
pub(super) fn refusal(group: Addr, target: &str, error: io::Error) -> Error {
    let limits = if group.is_v4() {
        "net.ipv4.igmp_max_memberships, net.ipv4.igmp_max_msf"
    } else {
        // This sysctl exists only in the initial network namespace, but its value applies in all of
        // them.
        "net.ipv6.mld_max_msf (on the host itself, outside of containers)"
    };
    let error = if is_full(&error) {
        io::Error::other(format!("{error}; raise {limits} or net.core.optmem_max"))
    } else {
        error
    };
    socket::refused("joining the group", target, error)
}

fn group_request(fd: BorrowedFd<'_>, call: c_int, ifindex: u32, group: Addr) -> io::Result<()> {
    let request = libc::group_req { gr_interface: ifindex, gr_group: storage(group) };
    sockopt::set(fd, level(group), call, request)
}

fn source_request(
    fd: BorrowedFd<'_>,
    call: c_int,
    ifindex: u32,
    group: Addr,
    source: Addr,
) -> io::Result<()> {
    let request = libc::group_source_req {
        gsr_interface: ifindex,
        gsr_group: storage(group),
        gsr_source: storage(source),
    };
    sockopt::set(fd, level(group), call, request)
}

fn storage(address: Addr) -> sockaddr_storage {
    sockaddr::storage(plain(address))
}

fn plain(address: Addr) -> SocketAddr {
    socket::endpoint(address, 0, 0)
}

fn level(group: Addr) -> c_int {
    if group.is_v4() { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 }
}
