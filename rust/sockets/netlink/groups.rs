//! The groups that the interfaces are members of, as the kernel lists them. It must not know who
//! wants a membership.

use std::collections::HashSet;
use std::io::{self, ErrorKind};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, parse_u32,
};
use netlink_packet_route::AddressFamily;

use super::links::{LinkSocket, MESSAGE_BYTES};
use super::messages::{ADDRESS_HEADER_BYTES, attributes, refusal, to_addr};
use crate::addr::Addr;
use crate::error::Result;

/// Groups by the index of the interface.
pub type InterfaceGroups = HashSet<(u32, Addr)>;

/// `struct nlmsghdr`, and a question with its `struct ifaddrmsg`.
const HEADER_BYTES: usize = 16;
const QUESTION_BYTES: usize = HEADER_BYTES + ADDRESS_HEADER_BYTES;

/// Lists in a row that changed while they were made; the last one is taken as it is.
const INTERRUPTED: usize = 4;

/// A socket to ask by.
#[derive(Debug)]
pub struct GroupList {
    socket: LinkSocket,
}

impl GroupList {
    /// Opens it in the calling thread's network namespace; no right is needed.
    ///
    /// # Errors
    /// As [`LinkSocket::open`].
    pub fn open() -> Result<Self> {
        Ok(Self { socket: LinkSocket::subscribe(0)? })
    }

    /// The groups of one family (`RTM_GETMULTICAST`: for IPv4 from Linux 6.14 on).
    ///
    /// # Errors
    /// EOPNOTSUPP from a kernel that does not list them.
    pub fn ask(&self, is_v4: bool) -> io::Result<InterfaceGroups> {
        let mut bytes = vec![0; MESSAGE_BYTES];
        for _ in 0..INTERRUPTED {
            let (groups, interrupted) = self.list(is_v4, &mut bytes)?;
            if !interrupted {
                return Ok(groups);
            }
        }
        self.list(is_v4, &mut bytes).map(|(groups, _)| groups)
    }

    /// A list, and whether it changed while it was made.
    fn list(&self, is_v4: bool, bytes: &mut [u8]) -> io::Result<(InterfaceGroups, bool)> {
        // What a list before has left that came to a bad end.
        while self.socket.receive(bytes).is_ok() {}
        self.socket.tell(&question(is_v4))?;
        let (mut groups, mut interrupted) = (InterfaceGroups::new(), false);
        loop {
            // The kernel makes the list while it is heard, and so never has us wait.
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

/// The question for all groups of a family, which `netlink-packet-route` has no type for.
fn question(is_v4: bool) -> [u8; QUESTION_BYTES] {
    let family = if is_v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let mut bytes = [0; QUESTION_BYTES];
    let mut header = NetlinkBuffer::new(&mut bytes);
    header.set_length(u32::try_from(QUESTION_BYTES).unwrap_or(0));
    header.set_message_type(libc::RTM_GETMULTICAST);
    header.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
    bytes[HEADER_BYTES] = family.into();
    bytes
}

fn group(payload: &[u8]) -> Option<(u32, Addr)> {
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
    fn a_list_has_what_was_joined_until_the_kernel_forgets_it() {
        with_cable(|| {
            let list = GroupList::open().unwrap();
            let near = interface(NEAR);
            let group: Addr = "ff3e::1".parse::<std::net::IpAddr>().unwrap().into();
            let is_member = || list.ask(false).unwrap().contains(&(near.index, group));
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
    fn many_groups_are_listed_whole() {
        with_cable(|| {
            let near = interface(NEAR);
            let groups = (0..2000_u128).map(|low| Addr::from_bits((0xff3e << 112) + low));
            let mut joins = crate::sockets::joins::Joins::new();
            for group in groups.clone() {
                joins.join(near.index, NEAR, group, &[]).unwrap();
            }
            let listed = GroupList::open().unwrap().ask(false).unwrap();
            assert!(groups.into_iter().all(|group| listed.contains(&(near.index, group))));
        });
    }
}
