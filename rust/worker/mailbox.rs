//! The mailbox of the main thread: a new connection to control, or the end of the engine.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Error, Result};

/// Readable after a new connection or the end of the engine was posted.
pub(super) struct Mailbox {
    eventfd: EventFd,
    state: Mutex<MailboxState>,
}

#[derive(Default)]
struct MailboxState {
    channel: Option<OwnedFd>,
    end: Option<String>,
}

impl Mailbox {
    /// Creates an empty mailbox.
    ///
    /// # Errors
    /// No free descriptor.
    pub(super) fn new() -> Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let eventfd =
            EventFd::from_flags(flags).map_err(|e| Error::os("eventfd", "the worker", e))?;
        Ok(Self { eventfd, state: Mutex::default() })
    }

    /// Posts a new connection to control; replaces one that was not taken.
    pub(super) fn post_channel(&self, channel: OwnedFd) {
        self.state().channel = Some(channel);
        self.signal();
    }

    /// Posts the error with which the engine has ended.
    pub(super) fn post_end(&self, error: String) {
        self.state().end = Some(error);
        self.signal();
    }

    /// Takes the connection that was posted since the last call.
    pub(super) fn take_channel(&self) -> Option<OwnedFd> {
        // WouldBlock if nothing was posted.
        self.eventfd.read().ok();
        self.state().channel.take()
    }

    /// The error with which the engine has ended; `None` while it runs.
    pub(super) fn end(&self) -> Option<String> {
        self.state().end.clone()
    }

    fn signal(&self) {
        self.eventfd.write(1).ok();
    }

    fn state(&self) -> MutexGuard<'_, MailboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
