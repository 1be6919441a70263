//! The link-layer addresses of next hops (arp(7), RFC 4861), kept from the kernel's notifications
//! for those that were asked for. No query needs a privilege.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use netlink_packet_core::NLM_F_REQUEST;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::sys::socket::{NetlinkAddr, bind};

use super::links;
use super::messages::{self, MessageBuffer, attributes};
use super::query::{QueryError, QuerySocket};
use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::sockets::{filter, socket};
use crate::sys::sockopt;

const TARGET: &str = "rtnetlink";

/// Room for about a hundred messages; after an overrun all entries are asked for again.
const RECEIVE_BUFFER_BYTES: usize = 128 * 1024;
/// Buffer for one message.
const MESSAGE_BYTES: usize = 8 * 1024;
/// Length of `struct ndmsg`; the attributes follow.
const HEADER_BYTES: usize = 12;
/// From <linux/neighbour.h>.
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

/// A host on a link that datagrams are handed to: a router or the destination itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    /// The index of the interface.
    pub ifindex: u32,
    /// Its address on the link.
    pub address: Addr,
}

/// What the kernel knows about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// How far its link-layer address is to be trusted.
    pub state: NeighbourState,
    /// Its MAC address; `None` while it is unknown or has failed, or on other links than Ethernet.
    pub mac: Option<[u8; 6]>,
}

/// The state of a neighbour's link-layer address (`ndm_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// There is no entry, or no answer yet.
    Unknown,
    /// The neighbour did not answer.
    Failed,
    /// It is known, but was not used or confirmed for a while.
    Stale,
    /// It is known, or none is needed.
    Known,
}

/// The neighbours that were asked for, in the network namespace in which it was opened.
#[derive(Debug)]
pub struct NeighbourTable {
    notices: OwnedFd,
    known: Mutex<KnownNeighbours>,
}

#[derive(Debug)]
struct KnownNeighbours {
    queries: QuerySocket,
    entries: BTreeMap<NextHop, Entry>,
}

#[derive(Debug)]
struct Entry {
    neighbour: Neighbour,
    /// Whether it was asked for since the last [`NeighbourTable::forget_unused`].
    is_used: bool,
}

impl NeighbourTable {
    /// Opens it in the calling thread's network namespace; needs no privilege.
    ///
    /// # Errors
    /// No descriptor is left, or netlink is unavailable (a sandbox without AF_NETLINK).
    pub fn open() -> Result<Self> {
        let notices = socket::open(libc::AF_NETLINK, libc::SOCK_RAW, TARGET)?;
        sockopt::attach_filter(notices.as_fd(), &filter::ip_neighbours())
            .map_err(|error| Error::os("attaching a filter", TARGET, error))?;
        socket::receive_buffer(notices.as_fd(), RECEIVE_BUFFER_BYTES, TARGET)?;
        let groups = 1 << (libc::RTNLGRP_NEIGH - 1);
        bind(notices.as_raw_fd(), &NetlinkAddr::new(0, groups))
            .map_err(|errno| Error::os("subscribing to notifications", TARGET, errno))?;
        let queries = QuerySocket::open(libc::NETLINK_ROUTE, TARGET)?;
        Ok(Self {
            notices,
            known: Mutex::new(KnownNeighbours { queries, entries: BTreeMap::new() }),
        })
    }

    /// The entry of a next hop as last reported; the first call asks the kernel.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn find(&self, hop: NextHop) -> io::Result<Neighbour> {
        let mut known = self.known();
        if let Some(entry) = known.entries.get_mut(&hop) {
            entry.is_used = true;
            return Ok(entry.neighbour);
        }
        known.refresh(hop)
    }

    /// The entry of a next hop, asked for again: the kernel reports neither that it was used again
    /// nor that a search began.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn refresh(&self, hop: NextHop) -> io::Result<Neighbour> {
        self.known().refresh(hop)
    }

    /// Reads the kernel's notifications; returns whether an entry has changed. Never blocks.
    pub fn receive(&self) -> bool {
        let mut known = self.known();
        let mut bytes = [0; MESSAGE_BYTES];
        let mut has_changed = false;
        loop {
            match links::receive(self.notices.as_fd(), &mut bytes) {
                Ok(piece) => {
                    let applied = messages::each(piece, |message| {
                        has_changed |= known.apply(message);
                        Ok::<(), Infallible>(())
                    });
                    let Ok(()) = applied;
                }
                // Messages were lost: any entry may have changed.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EMSGSIZE)) =>
                {
                    known.refresh_all();
                    has_changed = true;
                }
                Err(_) => return has_changed,
            }
        }
    }

    /// Forgets the entries that were not asked for since the last call.
    pub fn forget_unused(&self) {
        self.known().entries.retain(|_, entry| std::mem::take(&mut entry.is_used));
    }

    fn known(&self) -> MutexGuard<'_, KnownNeighbours> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KnownNeighbours {
    fn refresh(&mut self, hop: NextHop) -> io::Result<Neighbour> {
        let neighbour = self.ask(hop)?;
        self.entries.insert(hop, Entry { neighbour, is_used: true });
        Ok(neighbour)
    }

    fn refresh_all(&mut self) {
        let hops: Vec<NextHop> = self.entries.keys().copied().collect();
        for hop in hops {
            let answer = self.ask(hop);
            if let (Ok(neighbour), Some(entry)) = (answer, self.entries.get_mut(&hop)) {
                entry.neighbour = neighbour;
            }
        }
    }

    /// Updates the entry that a notification is about; returns whether there is one and it differs.
    fn apply(&mut self, message: &MessageBuffer<'_>) -> bool {
        let news = read(message.message_type(), message.payload());
        let Some((hop, neighbour)) = news else { return false };
        let Some(entry) = self.entries.get_mut(&hop) else { return false };
        std::mem::replace(&mut entry.neighbour, neighbour) != neighbour
    }

    fn ask(&self, hop: NextHop) -> io::Result<Neighbour> {
        ask(&self.queries, hop)
    }
}

impl AsFd for NeighbourTable {
    /// Readable when some entry of the kernel has changed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notices.as_fd()
    }
}

impl Neighbour {
    const UNKNOWN: Self = Self { state: NeighbourState::Unknown, mac: None };
}

impl NeighbourState {
    fn of(state: u16) -> Self {
        const KNOWN: u16 = libc::NUD_REACHABLE
            | libc::NUD_DELAY
            | libc::NUD_PROBE
            | libc::NUD_NOARP
            | libc::NUD_PERMANENT;
        match state {
            state if state & KNOWN != 0 => Self::Known,
            state if state & libc::NUD_STALE != 0 => Self::Stale,
            state if state & libc::NUD_FAILED != 0 => Self::Failed,
            _ => Self::Unknown,
        }
    }
}

/// The entry of a next hop now, without following it.
///
/// # Errors
/// The kernel does not answer.
pub(super) fn ask(queries: &QuerySocket, hop: NextHop) -> io::Result<Neighbour> {
    let request = RouteNetlinkMessage::GetNeighbour(about(hop, NeighbourFlags::empty()));
    let mut found = Neighbour::UNKNOWN;
    let answered = queries.ask_route(request, NLM_F_REQUEST, |kind, payload| {
        if let Some((_, neighbour)) = read(kind, payload) {
            found = neighbour;
        }
    });
    match answered {
        Ok(()) | Err(QueryError::Refused(_)) => Ok(found),
        Err(QueryError::Missing(error)) => Err(error),
    }
}

/// A message about a next hop, for a request.
pub(super) fn about(hop: NextHop, flags: NeighbourFlags) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let is_v4 = hop.address.is_v4();
    message.header.family = if is_v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = hop.ifindex;
    message.header.flags = flags;
    let address = NeighbourAddress::from(hop.address.ip());
    message.attributes = vec![NeighbourAttribute::Destination(address)];
    message
}

/// The entry in an RTM_NEWNEIGH or RTM_DELNEIGH message.
pub(super) fn read(kind: u16, payload: &[u8]) -> Option<(NextHop, Neighbour)> {
    let header = NeighbourHeader::parse(payload).ok()?;
    let [address, mac] = attributes(payload, HEADER_BYTES, [NDA_DST, NDA_LLADDR]);
    let hop = NextHop { ifindex: header.ifindex, address: messages::to_addr(address?)? };
    let neighbour = match kind {
        libc::RTM_NEWNEIGH => {
            let state = NeighbourState::of(header.state.into());
            let is_valid = matches!(state, NeighbourState::Known | NeighbourState::Stale);
            Neighbour { state, mac: mac.filter(|_| is_valid).and_then(|mac| mac.try_into().ok()) }
        }
        libc::RTM_DELNEIGH => Neighbour::UNKNOWN,
        _ => return None,
    };
    Some((hop, neighbour))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::testnet::{NEAR, interface, ip, with_cable};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn hop(address: &str) -> NextHop {
        let address = address.parse::<std::net::IpAddr>().unwrap().into();
        NextHop { ifindex: interface(NEAR).index, address }
    }

    fn set(address: &str, mac: &str, state: &str) {
        ip(&format!("neighbour replace {address} lladdr {mac} dev {NEAR} nud {state}"));
    }

    #[test]
    fn an_entry_is_followed_from_the_first_question_on() {
        with_cable(|| {
            ip(&format!("address add 2001:db8:a::1/64 dev {NEAR} nodad"));
            for address in ["10.9.0.9", "2001:db8:a::9"] {
                let table = NeighbourTable::open().unwrap();
                let hop = hop(address);
                assert_eq!(table.find(hop).unwrap(), Neighbour::UNKNOWN);
                let known = |mac| Neighbour { state: NeighbourState::Known, mac: Some(mac) };
                set(address, "2:0:0:0:0:1", "reachable");
                assert!(table.receive());
                assert_eq!(table.find(hop).unwrap(), known(MAC));
                set(address, "2:0:0:0:0:2", "reachable");
                assert!(table.receive());
                assert_eq!(table.find(hop).unwrap(), known([2, 0, 0, 0, 0, 2]));
                set(address, "2:0:0:0:0:2", "stale");
                assert!(table.receive());
                assert_eq!(table.find(hop).unwrap().state, NeighbourState::Stale);
                ip(&format!("neighbour delete {address} dev {NEAR}"));
                assert!(table.receive() && !table.receive());
                assert_eq!(table.find(hop).unwrap(), Neighbour::UNKNOWN);
            }
        });
    }

    #[test]
    fn other_entries_are_no_change_and_unused_ones_are_forgotten() {
        with_cable(|| {
            let table = NeighbourTable::open().unwrap();
            table.find(hop("10.9.0.9")).unwrap();
            set("10.9.0.8", "2:0:0:0:0:1", "reachable");
            assert!(!table.receive());
            table.forget_unused();
            set("10.9.0.9", "2:0:0:0:0:1", "reachable");
            assert!(table.receive());
            table.forget_unused();
            set("10.9.0.9", "2:0:0:0:0:2", "reachable");
            assert!(!table.receive());
            assert_eq!(table.find(hop("10.9.0.9")).unwrap().mac, Some([2, 0, 0, 0, 0, 2]));
        });
    }

    #[test]
    fn after_an_overrun_entries_are_asked_for_again() {
        with_cable(|| {
            let table = NeighbourTable::open().unwrap();
            table.find(hop("10.9.0.9")).unwrap();
            let mut lines = String::new();
            for state in ["stale", "reachable", "stale", "reachable"] {
                for low in 9..250 {
                    let entry = format!("10.9.0.{low} lladdr 2:0:0:0:0:1 dev {NEAR} nud {state}");
                    lines += &format!("neighbour replace {entry}\n");
                }
            }
            let file = std::env::temp_dir().join(format!("mcr-neighbours-{}", std::process::id()));
            std::fs::write(&file, lines).unwrap();
            ip(&format!("-batch {}", file.display()));
            std::fs::remove_file(file).unwrap();
            assert!(socket::drops(table.as_fd()).unwrap() > 0, "it did not overrun");
            assert!(table.receive());
            assert_eq!(table.find(hop("10.9.0.9")).unwrap().mac, Some(MAC));
        });
    }

    #[test]
    fn a_message_without_an_address_or_of_another_kind_is_no_entry() {
        let header = [2, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0];
        assert_eq!(read(libc::RTM_NEWNEIGH, &header), None);
        assert_eq!(read(libc::RTM_NEWNEIGH, &header[..7]), None);
        let whole = [&header[..], &[8, 0, 1, 0, 10, 9, 0, 9], &[8, 0, 2, 0, 1, 2, 3, 4]].concat();
        let (hop, neighbour) = read(libc::RTM_NEWNEIGH, &whole).unwrap();
        assert_eq!((hop.ifindex, hop.address), (7, Addr::v4([10, 9, 0, 9])));
        assert_eq!(neighbour, Neighbour { state: NeighbourState::Known, mac: None });
        assert_eq!(read(libc::RTM_NEWROUTE, &whole), None);
    }
}
