//! The connection to control: sends and receives messages and never waits for the peer. An error
//! closes the connection and has no other effect. This module must not depend on the content of
//! messages.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};
use nix::unistd::dup3;
use serde::Serialize;

use super::framing::{Decoder, Outbox, TooLong};
use crate::sys::scm_rights::{self, Received};

/// Bytes received with one call.
const PIECE_BYTES: usize = 64 << 10;

/// A connection to control, open or closed.
pub(super) struct Channel {
    /// Never closed, only replaced, so that its number never becomes free.
    fd: OwnedFd,
    is_open: bool,
    /// The last descriptor that came with a message.
    descriptor: Option<OwnedFd>,
    input: Decoder,
    output: Outbox,
}

impl Channel {
    /// A closed connection. Every later connection gets the number of `fd`.
    pub(super) fn new(fd: OwnedFd) -> Self {
        let (input, output) = (Decoder::default(), Outbox::default());
        Self { fd, is_open: false, descriptor: None, input, output }
    }

    /// Replaces the connection.
    ///
    /// # Errors
    /// The kernel's; the connection is closed then.
    pub(super) fn replace(&mut self, new: &OwnedFd) -> Result<(), Errno> {
        self.close();
        dup3(new, &mut self.fd, OFlag::O_CLOEXEC)?;
        self.is_open = true;
        Ok(())
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Closes the connection in both directions.
    pub(super) fn close(&mut self) {
        if self.is_open {
            // The peer may have closed it already.
            shutdown(self.fd.as_raw_fd(), Shutdown::Both).ok();
        }
        (self.is_open, self.descriptor) = (false, None);
        (self.input, self.output) = (Decoder::default(), Outbox::default());
    }

    /// The events to poll for.
    pub(super) fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::POLLIN;
        flags.set(PollFlags::POLLOUT, self.output.len() > 0);
        flags
    }

    /// Whether bytes are still to be sent.
    pub(super) fn has_output(&self) -> bool {
        self.is_open && self.output.len() > 0
    }

    /// Sends a message, at once or when the peer reads. Closes the connection if too much is unread.
    pub(super) fn send(&mut self, message: &impl Serialize) {
        if !self.is_open {
            return;
        }
        match serde_json::to_vec(message) {
            Ok(bytes) if self.output.push(&bytes) => self.flush(),
            _ => self.close(),
        }
    }

    /// Sends as much as the kernel accepts.
    pub(super) fn flush(&mut self) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        while self.is_open && self.output.len() > 0 {
            match send(self.fd.as_raw_fd(), self.output.front(), flags) {
                Ok(sent) => self.output.advance(sent),
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(_) => self.close(),
            }
        }
    }

    /// The next complete message that was received.
    ///
    /// # Errors
    /// The next message is too long.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        self.input.next()
    }

    /// The descriptor that came with the message that was received last, if one did.
    pub(super) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptor.take()
    }

    /// Receives bytes; closes the connection if the peer has closed it.
    pub(super) fn receive(&mut self) {
        let mut piece = vec![0; PIECE_BYTES];
        match scm_rights::receive(self.fd.as_fd(), &mut piece, MsgFlags::MSG_DONTWAIT) {
            Ok(Received { len: 0, .. }) => self.close(),
            Ok(Received { len, fd, .. }) => {
                self.descriptor = fd.or_else(|| self.descriptor.take());
                self.input.push(&piece[..len]);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.close(),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
