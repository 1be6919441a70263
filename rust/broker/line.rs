//! The worker's connection to the supervisor: one request at a time, and the leases that it
//! returns.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::socket::MsgFlags;

use super::messages::{Answer, MESSAGE_BYTES, PROTOCOL, Request};
use super::wire::MAX_ITEMS;
use crate::error::{Error, Result};
use crate::sockets::provider::Lender;
use crate::sockets::socket::descriptors_used_up;
use crate::sys::scm_rights;

/// The connection to the supervisor.
pub(super) struct Line {
    socket: Arc<OwnedFd>,
    /// Allows one request at a time.
    request_lock: Mutex<()>,
    returned: Arc<ReturnedLeases>,
}

/// Dropped leases to return. They are sent before the next request, which may need what they held,
/// a port for example, and soon if there is no request.
#[derive(Default)]
struct ReturnedLeases {
    waiting: Mutex<ReturnQueue>,
    changed: Condvar,
}

#[derive(Default)]
struct ReturnQueue {
    leases: Vec<u64>,
    /// There will be no more.
    is_closed: bool,
}

impl Line {
    /// Sends a hello on a SOCK_SEQPACKET socket whose other end the supervisor serves.
    ///
    /// # Errors
    /// The supervisor does not answer or uses another protocol; no thread can be started.
    pub(super) fn connect(socket: OwnedFd) -> Result<Arc<Self>> {
        let socket = Arc::new(socket);
        let returned = Arc::new(ReturnedLeases::default());
        let line = Self {
            socket: socket.clone(),
            request_lock: Mutex::new(()),
            returned: returned.clone(),
        };
        line.execute(&Request::Hello { protocol: PROTOCOL })?;
        // The thread ends after the last lease is dropped, since leases keep the line alive.
        let run = move || {
            SigSet::all().thread_block().ok();
            while returned.wait() && returned.flush(&socket).is_ok() {}
        };
        thread::Builder::new()
            .name("mcr-leases".to_owned())
            .spawn(run)
            .map_err(|error| Error::os("starting a thread", "the broker client", error))?;
        Ok(Arc::new(line))
    }

    pub(super) fn execute(&self, request: &Request) -> Result<()> {
        match self.request(request)? {
            (Answer::Done {}, None) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    pub(super) fn request(&self, request: &Request) -> Result<(Answer, Option<OwnedFd>)> {
        let _alone = self.request_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = self.returned.flush(&self.socket);
        let reply = reply.and_then(|()| send(&self.socket, request));
        let reply = reply.and_then(|()| receive(&self.socket));
        let (bytes, fd, lacks_fd) =
            reply.map_err(|e| Error::Engine(format!("the supervisor does not answer ({e})")))?;
        match Answer::from_bytes(&bytes) {
            Some(Answer::Refused { why }) => Err(why.into()),
            Some(answer) if lacks_fd => Err(self.descriptor_lost(&answer)),
            Some(answer) => Ok((answer, fd)),
            None => Err(unexpected()),
        }
    }

    /// The socket was leased, but this process had no descriptor left to receive it.
    fn descriptor_lost(&self, answer: &Answer) -> Error {
        if let Some(lease) = answer.lease() {
            self.return_lease(lease);
        }
        Error::os("taking over a socket", "a worker", descriptors_used_up())
    }
}

impl Lender for Line {
    fn return_lease(&self, id: u64) {
        self.returned.lock().leases.push(id);
        self.returned.changed.notify_one();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.returned.lock().is_closed = true;
        self.returned.changed.notify_one();
    }
}

impl ReturnedLeases {
    /// Waits until there are some; false when there will be no more.
    fn wait(&self) -> bool {
        let is_idle = |waiting: &mut ReturnQueue| waiting.leases.is_empty() && !waiting.is_closed;
        let held = self.changed.wait_while(self.lock(), is_idle);
        !held.unwrap_or_else(PoisonError::into_inner).leases.is_empty()
    }

    /// Returns the leases, many in one message. The lock is held until they are sent, so that no
    /// request overtakes them.
    fn flush(&self, socket: &OwnedFd) -> io::Result<()> {
        let mut waiting = self.lock();
        for leases in waiting.leases.chunks(MAX_ITEMS) {
            send(socket, &Request::Release { leases: leases.to_vec() })?;
        }
        waiting.leases.clear();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, ReturnQueue> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn send(socket: &OwnedFd, request: &Request) -> io::Result<()> {
    let bytes = request.to_bytes();
    loop {
        match scm_rights::send(socket.as_fd(), &bytes, None, MsgFlags::empty()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait(socket, PollFlags::POLLOUT)?
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn receive(socket: &OwnedFd) -> io::Result<(Vec<u8>, Option<OwnedFd>, bool)> {
    let mut bytes = vec![0; MESSAGE_BYTES];
    loop {
        match scm_rights::receive(socket.as_fd(), &mut bytes, MsgFlags::empty()) {
            Ok(message) if message.len == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(message) => {
                bytes.truncate(message.len);
                return Ok((bytes, message.fd, message.lacks_fd));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(socket, PollFlags::POLLIN)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits in case the socket has been made nonblocking.
fn wait(socket: &OwnedFd, until: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::new(socket.as_fd(), until)], PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The supervisor's answer belongs to another request.
pub(super) fn unexpected() -> Error {
    Error::Engine("the supervisor's answer does not match the request".to_owned())
}
