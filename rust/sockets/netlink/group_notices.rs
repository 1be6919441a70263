//! Notifications that an interface has joined or left a multicast group (rtnetlink(7)), without the
//! details; [`super::groups`] queries those.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{NetlinkAddr, bind};

use super::links;
use crate::error::{Error, Result};
use crate::sockets::socket;
use crate::sys::sockopt;

const TARGET: &str = "rtnetlink";

/// Room for some dozen messages; an overrun is one more change.
const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;

/// RTNLGRP_IPV4_MCADDR and RTNLGRP_IPV6_MCADDR of <linux/rtnetlink.h>, since Linux 6.15.
const GROUPS: [i32; 2] = [37, 38];

/// The offset of `ifa_index` in a message.
const IFINDEX_OFFSET: usize = 20;

/// A socket that receives notifications of the network namespace in which it was opened.
#[derive(Debug)]
pub struct GroupNoticeSocket {
    fd: OwnedFd,
}

impl GroupNoticeSocket {
    /// Opens it in the calling thread's network namespace; needs no privilege. `None` from a kernel
    /// that does not send such notifications.
    ///
    /// # Errors
    /// No descriptor, or no netlink (a sandbox without AF_NETLINK).
    pub fn open() -> Result<Option<Self>> {
        let fd = socket::open(libc::AF_NETLINK, libc::SOCK_RAW, TARGET)?;
        socket::receive_buffer(fd.as_fd(), RECEIVE_BUFFER_BYTES, TARGET)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))
            .map_err(|errno| Error::os("subscribing to notifications", TARGET, errno))?;
        let join = |group: &i32| {
            sockopt::set(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, *group)
        };
        // EINVAL for a group that the kernel does not know.
        let joined = GROUPS.iter().try_for_each(join);
        Ok(joined.is_ok().then_some(Self { fd }))
    }

    /// Whether any membership has changed since the last call on an interface for whose index
    /// `is_relevant` is true. It empties the socket and never blocks.
    #[must_use]
    pub fn take(&self, is_relevant: impl Fn(u32) -> bool) -> bool {
        let mut bytes = [0; 256];
        let mut has_any = false;
        loop {
            match links::receive(self.fd.as_fd(), &mut bytes) {
                Ok(notice) => has_any |= ifindex(notice).is_none_or(&is_relevant),
                // Messages were lost, or one was too long to read whole: both count.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EMSGSIZE)) =>
                {
                    has_any = true;
                }
                Err(_) => return has_any,
            }
        }
    }
}

/// `ifa_index` of `struct ifaddrmsg`, behind `struct nlmsghdr`; `None` in a message that has none.
fn ifindex(notice: &[u8]) -> Option<u32> {
    let (_, rest) = notice.split_at_checked(IFINDEX_OFFSET)?;
    rest.first_chunk().copied().map(u32::from_ne_bytes)
}

impl AsFd for GroupNoticeSocket {
    /// Readable when something has changed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Write, stderr};

    use super::*;
    use crate::addr::Addr;
    use crate::sockets::joins::Joins;
    use crate::sockets::testnet::{NEAR, interface, wait_until, with_cable};

    #[test]
    fn memberships_that_come_and_go_are_reported() {
        with_cable(|| {
            let Some(socket) = GroupNoticeSocket::open().unwrap() else {
                writeln!(stderr(), "skipped: the kernel does not report memberships").unwrap();
                return;
            };
            let near = interface(NEAR).index;
            let mut joins = Joins::new();
            for group in ["239.1.1.1", "ff3e::1"] {
                let group: Addr = group.parse::<std::net::IpAddr>().unwrap().into();
                // The interface joins groups of its own at first.
                wait_until("it is quiet", || !socket.take(|_| true));
                joins.join(near, NEAR, group, &[]).unwrap();
                assert!(socket.take(|index| index == near), "{group} joined");
                joins.leave(near, group, &[]).unwrap();
                assert!(socket.take(|index| index == near), "{group} left");
                joins.join(near, NEAR, group, &[]).unwrap();
                assert!(!socket.take(|index| index != near), "{group} joined elsewhere");
            }
        });
    }

    #[test]
    fn a_flood_of_changes_is_noticed() {
        with_cable(|| {
            let Some(socket) = GroupNoticeSocket::open().unwrap() else { return };
            let near = interface(NEAR).index;
            let mut joins = Joins::new();
            for low in 0..500_u128 {
                joins.join(near, NEAR, Addr::from_bits((0xff3e << 112) + low), &[]).unwrap();
            }
            assert!(socket::drops(socket.as_fd()).unwrap() > 0, "it did not overrun");
            assert!(socket.take(|_| false) && !socket.take(|_| true));
        });
    }
}
