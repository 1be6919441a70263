//! `struct group_filter` of RFC 3678: the source filter of a membership.
//!
//! On a query, the kernel writes as many sources behind the structure as its count field allows. So
//! that field is private, and the list is never requested.

use std::io;
use std::mem::{offset_of, size_of};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use libc::{c_int, sa_family_t, sockaddr_storage};

use super::sockopt;

/// The libc constant in the width of the field.
const AF_INET: sa_family_t = 2;
const AF_INET6: sa_family_t = 10;

/// The source filter of one membership, without its list of sources.
#[repr(C)]
#[derive(Clone, Copy)]
struct GroupFilter {
    interface: u32,
    group: sockaddr_storage,
    mode: u32,
    sources: u32,
    /// The start of the list: the kernel requires the full structure.
    list: sockaddr_storage,
}

// SAFETY: a C structure of numbers only, valid for any bits.
unsafe impl sockopt::Plain for GroupFilter {}

/// The filter mode of the membership of `group` on the interface with this index: `MCAST_INCLUDE`
/// or `MCAST_EXCLUDE`.
///
/// # Errors
/// EADDRNOTAVAIL if the socket is not a member.
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

/// Sets the filter mode and the source list of a membership in one step.
///
/// # Errors
/// The kernel's: EINVAL if the socket is not a member, ENOBUFS if the list is longer than
/// net.ipv4.igmp_max_msf or net.ipv6.mld_max_msf; the membership is then unchanged.
pub fn set(
    fd: BorrowedFd<'_>,
    level: c_int,
    interface: u32,
    group: SocketAddr,
    mode: u32,
    sources: &[SocketAddr],
) -> io::Result<()> {
    let count = u32::try_from(sources.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut bytes = Vec::with_capacity(size_of::<GroupFilter>() * (1 + sources.len()));
    bytes.extend(interface.to_ne_bytes());
    bytes.resize(offset_of!(GroupFilter, group), 0);
    put(&mut bytes, group);
    bytes.extend(mode.to_ne_bytes());
    bytes.extend(count.to_ne_bytes());
    sources.iter().for_each(|source| put(&mut bytes, *source));
    sockopt::set_bytes(fd, level, libc::MCAST_MSFILTER, &bytes)
}

/// Appends an address as a `sockaddr_storage`.
fn put(bytes: &mut Vec<u8>, address: SocketAddr) {
    let end = bytes.len() + size_of::<sockaddr_storage>();
    match address {
        SocketAddr::V4(v4) => {
            bytes.extend(AF_INET.to_ne_bytes());
            bytes.extend(v4.port().to_be_bytes());
            bytes.extend(v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            bytes.extend(AF_INET6.to_ne_bytes());
            bytes.extend(v6.port().to_be_bytes());
            bytes.extend(v6.flowinfo().to_be_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
        }
    }
    bytes.resize(end, 0);
}
