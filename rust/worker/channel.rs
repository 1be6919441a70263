//! The connection to control: messages in and out, never waiting for the other side. What it gets
//! wrong closes the connection and nothing else. It must not know what messages say.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use nix::unistd::dup3;
use serde::Serialize;

use super::framing::{Decoder, Outbox, TooLong};

/// What is taken from the kernel at once.
const PIECE_BYTES: usize = 64 << 10;

/// A connection, or none.
pub(super) struct Channel {
    /// It keeps its number, and is never closed: only then is the number never free.
    fd: OwnedFd,
    is_open: bool,
    input: Decoder,
    output: Outbox,
}

impl Channel {
    /// None yet; `fd` has the number that every connection will have.
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd, is_open: false, input: Decoder::default(), output: Outbox::default() }
    }

    /// Goes on with another connection, in the place of the one before.
    ///
    /// # Errors
    /// The kernel's; there is no connection then.
    pub(super) fn replace(&mut self, new: &OwnedFd) -> Result<(), Errno> {
        self.close();
        dup3(new, &mut self.fd, OFlag::O_CLOEXEC)?;
        self.is_open = true;
        Ok(())
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Ends the connection; the other side sees it.
    pub(super) fn close(&mut self) {
        if self.is_open {
            // It may be gone already.
            shutdown(self.fd.as_raw_fd(), Shutdown::Both).ok();
        }
        self.is_open = false;
        (self.input, self.output) = (Decoder::default(), Outbox::default());
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::POLLIN;
        flags.set(PollFlags::POLLOUT, self.output.len() > 0);
        flags
    }

    /// Whether something is said that has not been taken.
    pub(super) fn has_output(&self) -> bool {
        self.is_open && self.output.len() > 0
    }

    /// Says something, now or when the other side reads. One that does not read is cut off.
    pub(super) fn send(&mut self, message: &impl Serialize) {
        if !self.is_open {
            return;
        }
        match serde_json::to_vec(message) {
            Ok(bytes) if self.output.push(&bytes) => self.flush(),
            _ => self.close(),
        }
    }

    /// Hands the kernel what it takes.
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

    /// The next message that is complete.
    ///
    /// # Errors
    /// One is announced that nobody would want to read.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        self.input.next()
    }

    /// Takes in what the other side has said; closes when it is gone.
    pub(super) fn receive(&mut self) {
        let mut piece = vec![0; PIECE_BYTES];
        match recv(self.fd.as_raw_fd(), &mut piece, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => self.close(),
            Ok(len) => self.input.push(&piece[..len]),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.close(),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
