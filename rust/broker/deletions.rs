//! Notifications about deleted interfaces on which sockets are held.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use nix::net::if_::if_indextoname;

use crate::error::Result;
use crate::sockets::netlink::link::LinkEvent;
use crate::sockets::netlink::links::{self, LinkSocket};

/// A subscription to the deletion of watched interfaces. Events about other interfaces cost neither
/// time nor memory.
#[derive(Debug)]
pub(super) struct Deletions {
    socket: LinkSocket,
    watched: BTreeSet<u32>,
    room: Vec<u8>,
}

impl Deletions {
    /// Opens it in the calling thread's network namespace; no interface is watched yet.
    ///
    /// # Errors
    /// No descriptor is left, or netlink is unavailable.
    pub(super) fn open() -> Result<Self> {
        Ok(Self {
            socket: LinkSocket::open_for_deletions()?,
            watched: BTreeSet::new(),
            room: vec![0; links::MESSAGE_BYTES],
        })
    }

    /// Also watches this interface. Call it before opening anything there.
    ///
    /// # Errors
    /// The kernel has no memory.
    pub(super) fn watch(&mut self, ifindex: u32) -> Result<()> {
        if !self.watched.insert(ifindex) {
            return Ok(());
        }
        let indices: Vec<u32> = self.watched.iter().copied().collect();
        let watched = self.socket.watch_deletions_of(&indices);
        if watched.is_err() {
            self.watched.remove(&ifindex);
        }
        watched
    }

    pub(super) fn watches(&self, ifindex: u32) -> bool {
        self.watched.contains(&ifindex)
    }

    /// Ends watching an interface that does not exist.
    pub(super) fn forget(&mut self, ifindex: u32) {
        self.watched.remove(&ifindex);
    }

    /// Returns the watched interfaces that were deleted since the last call, and stops watching
    /// them: the index may already belong to a new interface. If events were lost, compares all
    /// watched interfaces with those that exist; for one that exists, `is_renewed` says whether it
    /// is known to be a new one.
    pub(super) fn take(&mut self, is_renewed: impl Fn(u32) -> bool) -> BTreeSet<u32> {
        let mut gone = BTreeSet::new();
        loop {
            let received = self.socket.receive(&mut self.room).and_then(|piece| {
                links::read(piece, |event| {
                    if let LinkEvent::LinkGone(index) = event {
                        gone.insert(index);
                    }
                })
            });
            match received {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    let is_gone = |index: &u32| !is_there(*index) || is_renewed(*index);
                    gone.extend(self.watched.iter().copied().filter(is_gone));
                }
                Err(_) => break,
            }
        }
        gone.retain(|index| self.watched.remove(index));
        gone
    }
}

/// Whether an interface with this index exists.
pub(super) fn is_there(ifindex: u32) -> bool {
    // For an unused index, nix returns an empty name.
    if_indextoname(ifindex).is_ok_and(|name| !name.is_empty())
}

impl AsFd for Deletions {
    /// Readable when there are events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
