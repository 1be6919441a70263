//! The mailbox of the main thread: a new connection to control, and the end of the
//! engine. It must not know what comes over a connection.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Error, Result};

/// Readable when something has come.
pub(super) struct Mailbox {
    eventfd: EventFd,
    waiting: Mutex<MailboxState>,
}

#[derive(Default)]
struct MailboxState {
    channel: Option<OwnedFd>,
    end: Option<String>,
}

impl Mailbox {
    /// # Errors
    /// No descriptor.
    pub(super) fn new() -> Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let eventfd =
            EventFd::from_flags(flags).map_err(|e| Error::os("eventfd", "the worker", e))?;
        Ok(Self { eventfd, waiting: Mutex::default() })
    }

    /// A new connection to control; one that waits still is out of date.
    pub(super) fn post_channel(&self, channel: OwnedFd) {
        self.waiting().channel = Some(channel);
        self.signal();
    }

    /// The engine has ended by itself.
    pub(super) fn post_end(&self, error: String) {
        self.waiting().end = Some(error);
        self.signal();
    }

    /// The connection that has come since the last time.
    pub(super) fn take_channel(&self) -> Option<OwnedFd> {
        // WouldBlock: nothing new has come.
        self.eventfd.read().ok();
        self.waiting().channel.take()
    }

    /// What ended the engine.
    pub(super) fn end(&self) -> Option<String> {
        self.waiting().end.clone()
    }

    fn signal(&self) {
        self.eventfd.write(1).ok();
    }

    fn waiting(&self) -> MutexGuard<'_, MailboxState> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
