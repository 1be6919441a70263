//! Notifications that routes or queueing disciplines have changed (rtnetlink(7)), without the
//! details; [`super::routes`] queries those. A full routing table that comes or goes
//! costs only a few messages: an overrun of the small buffer counts as one more change.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::NetlinkBuffer;
use nix::sys::socket::{NetlinkAddr, bind};

use super::links;
use crate::error::{Error, Result};
use crate::sockets::socket;

const TARGET: &str = "rtnetlink";

/// Room for some dozen messages.
const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;
/// Buffer for one message. A longer one counts as lost, and so as a change of anything.
const MESSAGE_BYTES: usize = 8 * 1024;

/// From <linux/rtnetlink.h>.
const RTM_NEWCHAIN: u16 = 100;
const RTM_DELCHAIN: u16 = 101;

/// The kinds of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// Routes, routing rules, or next hops.
    pub routes: bool,
    /// Queueing disciplines.
    pub disciplines: bool,
    /// Filters of queueing disciplines.
    pub filters: bool,
    /// Neighbours that are followed, which [`super::neighbours`] reports.
    pub neighbours: bool,
    /// Memberships of multicast groups, which [`super::group_notices`] reports.
    pub memberships: bool,
}

impl Notices {
    /// All that this socket reports.
    const ALL: Self = Self {
        routes: true,
        disciplines: true,
        filters: true,
        neighbours: false,
        memberships: false,
    };

    /// Whether anything has changed.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// The changes in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            routes: self.routes || other.routes,
            disciplines: self.disciplines || other.disciplines,
            filters: self.filters || other.filters,
            neighbours: self.neighbours || other.neighbours,
            memberships: self.memberships || other.memberships,
        }
    }

    fn of(kind: u16) -> Self {
        match kind {
            libc::RTM_NEWQDISC | libc::RTM_DELQDISC => {
                Self { disciplines: true, ..Self::default() }
            }
            libc::RTM_NEWTFILTER | libc::RTM_DELTFILTER => {
                Self { filters: true, ..Self::default() }
            }
            // Classes, and chains of filters, are reported to the same multicast group.
            libc::RTM_NEWTCLASS | libc::RTM_DELTCLASS | RTM_NEWCHAIN | RTM_DELCHAIN => {
                Self::default()
            }
            _ => Self { routes: true, ..Self::default() },
        }
    }
}

/// A socket that receives notifications of the network namespace in which it was opened.
#[derive(Debug)]
pub struct NoticeSocket {
    fd: OwnedFd,
}

impl NoticeSocket {
    /// Opens it in the calling thread's network namespace; needs no privilege.
    ///
    /// # Errors
    /// No descriptor, or no netlink (a sandbox without AF_NETLINK).
    pub fn open() -> Result<Self> {
        let groups = [
            libc::RTNLGRP_TC,
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV4_RULE,
            libc::RTNLGRP_IPV6_ROUTE,
            libc::RTNLGRP_IPV6_RULE,
            libc::RTNLGRP_NEXTHOP,
        ];
        let groups = groups.into_iter().fold(0, |mask, group| mask | 1 << (group - 1));
        let fd = socket::open(libc::AF_NETLINK, libc::SOCK_RAW, TARGET)?;
        socket::receive_buffer(fd.as_fd(), RECEIVE_BUFFER_BYTES, TARGET)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))
            .map_err(|errno| Error::os("subscribing to notifications", TARGET, errno))?;
        Ok(Self { fd })
    }

    /// Returns the changes since the last call. It empties the socket and never blocks.
    #[must_use]
    pub fn take(&self) -> Notices {
        let mut bytes = vec![0; MESSAGE_BYTES];
        let mut changes = Notices::default();
        loop {
            match links::receive(self.fd.as_fd(), &mut bytes) {
                Ok(piece) => {
                    let kind = NetlinkBuffer::new_checked(piece).map(|it| it.message_type());
                    changes = changes.or(kind.map_or(Notices::default(), Notices::of));
                }
                // Messages were lost: anything may have changed.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EMSGSIZE)) =>
                {
                    changes = Notices::ALL;
                }
                Err(_) => return changes,
            }
            if changes == Notices::ALL {
                // The remaining messages add nothing; the buffer limits their number.
                while links::receive(self.fd.as_fd(), &mut bytes).is_ok() {}
                return changes;
            }
        }
    }
}

impl AsFd for NoticeSocket {
    /// Readable when something has changed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::testnet::{NEAR, ip, tc, wait_until, with_cable};

    #[test]
    fn a_change_is_reported() {
        with_cable(|| {
            let socket = NoticeSocket::open().unwrap();
            assert_eq!(socket.take(), Notices::default());
            let routes = Notices { routes: true, ..Notices::default() };
            for change in ["route add 192.0.2.0/24 via 10.9.0.3", "rule add to 192.0.2.1 table 7"] {
                ip(change);
                assert_eq!(socket.take(), routes, "{change}");
            }
            ip(&format!("-6 route add 2001:db8::/64 dev {NEAR}"));
            assert!(socket.take().routes);
        });
    }

    #[test]
    fn disciplines_and_their_filters_are_told_apart() {
        with_cable(|| {
            let socket = NoticeSocket::open().unwrap();
            tc(&format!("qdisc add dev {NEAR} clsact"));
            assert_eq!(socket.take(), Notices { disciplines: true, ..Notices::default() });
            tc(&format!("filter add dev {NEAR} egress protocol ip u32 match u32 0 0 classid 1:1"));
            assert_eq!(socket.take(), Notices { filters: true, ..Notices::default() });
        });
    }

    #[test]
    fn a_flood_is_one_change() {
        with_cable(|| {
            let socket = NoticeSocket::open().unwrap();
            let lines: String = (0..=255)
                .map(|low| format!("route add 198.51.100.{low}/32 via 10.9.0.3\n"))
                .collect();
            let file = std::env::temp_dir().join(format!("mcr-routes-{}", std::process::id()));
            std::fs::write(&file, lines).unwrap();
            ip(&format!("-batch {}", file.display()));
            std::fs::remove_file(file).unwrap();
            assert!(socket::drops(socket.as_fd()).unwrap() > 0, "it did not overrun");
            assert_eq!(socket.take(), Notices::ALL);
            wait_until("it is empty", || !socket.take().any());
            ip("route delete 198.51.100.1/32");
            assert!(socket.take().routes, "it receives no more notifications");
        });
    }
}
