//! `struct group_filter` of RFC 3678 without sources. It must not know who is a member of what.

use libc::sockaddr_storage;

/// The source filter of one membership, its list of sources left out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct GroupFilter {
    /// The index of the interface.
    pub interface: u32,
    /// The group.
    pub group: sockaddr_storage,
    /// `MCAST_INCLUDE` or `MCAST_EXCLUDE`.
    pub mode: u32,
    /// How many sources the list has room for, or has.
    pub sources: u32,
    /// Where the list would begin: the kernel wants the structure in full.
    pub list: sockaddr_storage,
}
