//! `struct group_filter` of RFC 3678 without sources. It must not know who is a member of what.
//!
//! The kernel writes as many sources behind the structure as the number in it allows; so nobody
//! outside gets hold of that number.

use std::io;
use std::os::fd::BorrowedFd;

use libc::{c_int, sockaddr_storage};

use super::sockopt;

/// The source filter of one membership, its list of sources left out.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct GroupFilter {
    interface: u32,
    group: sockaddr_storage,
    mode: u32,
    sources: u32,
    /// Where the list would begin: the kernel wants the structure in full.
    list: sockaddr_storage,
}

/// The mode of the membership of `group` on the interface with this index: `MCAST_INCLUDE` or
/// `MCAST_EXCLUDE`.
///
/// # Errors
/// EADDRNOTAVAIL when the socket is no member.
pub fn mode(
    fd: BorrowedFd<'_>,
    level: c_int,
    interface: u32,
    group: sockaddr_storage,
) -> io::Result<u32> {
    let mut now = GroupFilter { interface, group, mode: 0, sources: 0, list: group };
    sockopt::get(fd, level, libc::MCAST_MSFILTER, &mut now)?;
    Ok(now.mode)
}

/// Gives the membership another mode and an empty list of sources.
///
/// # Errors
/// The kernel's answer, EINVAL when the socket is no member.
pub fn set_mode(
    fd: BorrowedFd<'_>,
    level: c_int,
    interface: u32,
    group: sockaddr_storage,
    mode: u32,
) -> io::Result<()> {
    let filter = GroupFilter { interface, group, mode, sources: 0, list: group };
    sockopt::set(fd, level, libc::MCAST_MSFILTER, filter)
}
