//! The kernel's list of the multicast groups that interfaces are members of.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, parse_u32,
};
use netlink_packet_route::AddressFamily;

use super::group_users;
use super::links::{LinkSocket, MESSAGE_BYTES};
use super::messages::{ADDRESS_HEADER_BYTES, attributes, refusal, to_addr};
use super::query;
use crate::addr::Addr;
use crate::error::Result;
use crate::sys::sockopt;

/// Pairs of interface index and group.
pub type InterfaceGroups = HashSet<(u32, Addr)>;

/// Retries for a dump that changed while it was read; the last one is used as it is.
const INTERRUPTED: usize = 4;

/// A socket for requests, and the kernel's list of IPv4 groups as text.
#[derive(Debug)]
pub struct GroupList {
    socket: LinkSocket,
    /// The latter only if the kernel does not answer for IPv4.
    igmp: Option<File>,
}

/// The list as text, if it was opened before files were hidden from this process.
static KEPT: OnceLock<File> = OnceLock::new();

/// Opens the list of IPv4 groups as text, if it is needed, for all later [`GroupList`]s of this
/// process, in the calling thread's network namespace: for a process that can open no file later.
pub fn keep_text() {
    if let Ok(GroupList { igmp: Some(file), .. }) = GroupList::open() {
        KEPT.set(file).ok();
    }
}

const IGMP: &str = "/proc/thread-self/net/igmp";

impl GroupList {
    /// Opens it in the calling thread's network namespace; needs no privilege.
    ///
    /// # Errors
    /// As [`LinkSocket::open`].
    pub fn open() -> Result<Self> {
        let mut list = Self { socket: LinkSocket::subscribe(0)?, igmp: None };
        // Without it, as before Linux 4.20, the kernel lists the groups of all interfaces.
        let strict = libc::NETLINK_GET_STRICT_CHK;
        sockopt::set(list.socket.as_fd(), libc::SOL_NETLINK, strict, 1_i32).ok();
        if list.ask_kernel(true, 0).is_err_and(|error| is_unsupported(&error)) {
            // Without /proc there is none.
            list.igmp = KEPT.get().map_or_else(|| File::open(IGMP), File::try_clone).ok();
        }
        Ok(list)
    }

    /// Lists the groups of one family on the interface with this index, or on all for 0; there may
    /// be others in it (`RTM_GETMULTICAST`: for IPv4 since Linux 6.14, before from a file).
    ///
    /// # Errors
    /// EOPNOTSUPP from a kernel that cannot list them.
    pub fn ask(&self, is_v4: bool, index: u32) -> io::Result<InterfaceGroups> {
        match (self.ask_kernel(is_v4, index), &self.igmp) {
            (Err(error), Some(file)) if is_v4 && is_unsupported(&error) => read_igmp(file),
            (answer, _) => answer,
        }
    }

    fn ask_kernel(&self, is_v4: bool, index: u32) -> io::Result<InterfaceGroups> {
        let mut bytes = vec![0; MESSAGE_BYTES];
        for _ in 0..INTERRUPTED {
            let (groups, interrupted) = self.list((is_v4, index), &mut bytes)?;
            if !interrupted {
                return Ok(groups);
            }
        }
        self.list((is_v4, index), &mut bytes).map(|(groups, _)| groups)
    }

    /// The groups, and whether they changed while they were listed.
    fn list(
        &self,
        (is_v4, index): (bool, u32),
        bytes: &mut [u8],
    ) -> io::Result<(InterfaceGroups, bool)> {
        // Discard the rest of an earlier dump that failed.
        while self.socket.receive(bytes).is_ok() {}
        self.socket.send_request(&request(is_v4, index))?;
        let (mut groups, mut interrupted) = (InterfaceGroups::new(), false);
        loop {
            // The kernel produces the dump as it is read, so this never blocks.
            let mut piece = self.socket.receive(bytes)?;
            while let Ok(message) = NetlinkBuffer::new_checked(piece) {
                interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
                match message.message_type() {
                    NLMSG_DONE => return Ok((groups, interrupted)),
                    NLMSG_ERROR => return Err(failure(message.payload())),
                    _ => groups.extend(group(message.payload())),
                }
                let next = (message.length() as usize).next_multiple_of(4);
                piece = piece.get(next..).unwrap_or_default();
            }
        }
    }
}

/// The kernel's answer to a request that it does not know.
fn is_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

fn read_igmp(file: &File) -> io::Result<InterfaceGroups> {
    let text = group_users::whole(file)?;
    Ok(group_users::igmp_entries(&text).map(|(membership, _)| membership).collect())
}

/// The request for the groups of a family on an interface, or on all for 0.
fn request(is_v4: bool, index: u32) -> Vec<u8> {
    let family = if is_v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let [a, b, c, d] = index.to_ne_bytes();
    // `struct ifaddrmsg`.
    let body = [family.into(), 0, 0, 0, a, b, c, d];
    query::request(libc::RTM_GETMULTICAST, NLM_F_REQUEST | NLM_F_DUMP, &body)
}

pub(super) fn group(payload: &[u8]) -> Option<(u32, Addr)> {
    let index = parse_u32(payload.get(4..8)?).ok()?;
    let [group] = attributes(payload, ADDRESS_HEADER_BYTES, [libc::IFA_MULTICAST]);
    Some((index, to_addr(group?)?))
}

fn failure(payload: &[u8]) -> io::Error {
    match refusal(payload) {
        0 => ErrorKind::InvalidData.into(),
        errno => io::Error::from_raw_os_error(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sockets::testnet::{NEAR, interface, ip, with_cable};
    use crate::sockets::udp_input;

    #[test]
    fn a_list_contains_joined_groups_until_the_kernel_drops_them() {
        with_cable(|| {
            let list = GroupList::open().unwrap();
            let near = interface(NEAR);
            let group: Addr = "ff3e::1".parse::<std::net::IpAddr>().unwrap().into();
            let is_member = || list.ask(false, near.index).unwrap().contains(&(near.index, group));
            assert!(!is_member());
            let input =
                udp_input::open(&udp_input::UdpInputRequest::on(near, group, 5001)).unwrap();
            udp_input::join(input.fd.as_fd(), near.index, group, &[]).unwrap();
            assert!(is_member());
            ip(&format!("link set {NEAR} mtu 1200"));
            ip(&format!("link set {NEAR} mtu 1500"));
            assert!(!is_member());
        });
    }

    #[test]
    fn the_text_has_the_groups_of_the_list() {
        with_cable(|| {
            let list = GroupList::open().unwrap();
            let near = interface(NEAR);
            let mut joins = crate::sockets::joins::Joins::new();
            let groups = (0..300_u32).map(|low| Addr::v4((0xef01_0000 + low).to_be_bytes()));
            for group in groups.clone() {
                joins.join(near.index, NEAR, group, &[]).unwrap();
            }
            let file = File::open(IGMP).unwrap();
            let text = read_igmp(&file).unwrap();
            assert!(groups.into_iter().all(|group| text.contains(&(near.index, group))));
            // A kernel that answers only for IPv6 leaves nothing to compare with.
            if let Ok(listed) = list.ask_kernel(true, 0) {
                assert_eq!(text, listed);
            }
            joins.leave(near.index, Addr::v4([239, 1, 0, 7]), &[]).unwrap();
            assert_eq!(read_igmp(&file).unwrap().len(), text.len() - 1);
        });
    }

    #[test]
    fn many_groups_are_listed_whole() {
        with_cable(|| {
            let near = interface(NEAR);
            let groups = (0..2000_u128).map(|low| Addr::from_bits((0xff3e << 112) + low));
            let mut joins = crate::sockets::joins::Joins::new();
            for group in groups.clone() {
                joins.join(near.index, NEAR, group, &[]).unwrap();
            }
            let listed = GroupList::open().unwrap().ask(false, 0).unwrap();
            assert!(groups.into_iter().all(|group| listed.contains(&(near.index, group))));
        });
    }
}
