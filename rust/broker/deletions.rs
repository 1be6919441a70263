//! Which of the interfaces that something is held on are deleted, as the kernel tells it. It must
//! not know what is held.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use nix::net::if_::if_indextoname;

use crate::error::Result;
use crate::sockets::netlink::link::LinkEvent;
use crate::sockets::netlink::links::{self, LinkSocket};

/// Hears of the deletion of interfaces. What becomes of others costs neither time nor room.
#[derive(Debug)]
pub(super) struct Deletions {
    socket: LinkSocket,
    watched: BTreeSet<u32>,
    room: Vec<u8>,
}

impl Deletions {
    /// In the calling thread's network namespace; no interface is watched yet.
    ///
    /// # Errors
    /// No descriptor, or no netlink.
    pub(super) fn open() -> Result<Self> {
        Ok(Self {
            socket: LinkSocket::open_for_deletions()?,
            watched: BTreeSet::new(),
            room: vec![0; links::MESSAGE_BYTES],
        })
    }

    /// Watches this interface too: call it before anything is opened there.
    ///
    /// # Errors
    /// No memory in the kernel.
    pub(super) fn watch(&mut self, ifindex: u32) -> Result<()> {
        if !self.watched.insert(ifindex) {
            return Ok(());
        }
        let indices: Vec<u32> = self.watched.iter().copied().collect();
        let watched = self.socket.hear_deletions_of(&indices);
        if watched.is_err() {
            self.watched.remove(&ifindex);
        }
        watched
    }

    /// Those that were deleted since it was last asked, and are watched no longer: each may be
    /// there again, another one with its index. Where so many were deleted that the kernel could
    /// not tell of all, they are compared with what is there. Of one that is there, `is_renewed`
    /// says whether it is another one, as far as that can be known.
    pub(super) fn take(&mut self, is_renewed: impl Fn(u32) -> bool) -> BTreeSet<u32> {
        let mut gone = BTreeSet::new();
        loop {
            let heard = self.socket.receive(&mut self.room).and_then(|piece| {
                links::read(piece, |told| {
                    if let LinkEvent::LinkGone(index) = told {
                        gone.insert(index);
                    }
                })
            });
            match heard {
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

/// Whether an interface has this index.
pub(super) fn is_there(ifindex: u32) -> bool {
    // For an index that nobody has, nix gives an empty name.
    if_indextoname(ifindex).is_ok_and(|name| !name.is_empty())
}

impl AsFd for Deletions {
    /// Readable when there is something to hear.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
