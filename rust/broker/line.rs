//! The worker's connection to the supervisor: one request at a time, also if it was sent in advance,
//! and the leases that it returns.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::socket::sockopt::SndBuf;
use nix::sys::socket::{MsgFlags, getsockopt};

use super::messages::{Answer, MESSAGE_BYTES, PROTOCOL, Request};
use super::pipeline::{Pipeline, Reply};
use super::wire::MAX_ITEMS;
use crate::error::{Error, Result};
use crate::sockets::provider::Lender;
use crate::sockets::socket::descriptors_used_up;
use crate::sys::scm_rights::{self, Received};

/// The most requests that are sent in advance.
const MOST_AHEAD: usize = 64;
/// More than an answer takes of the supervisor's socket, which never waits for room, in bytes.
const ANSWER_BYTES: usize = 4096;

/// The connection to the supervisor.
pub(super) struct Line {
    socket: Arc<OwnedFd>,
    /// Allows one request at a time.
    conversation: Mutex<Conversation>,
    returned: Arc<ReturnedLeases>,
}

struct Conversation {
    pipeline: Pipeline,
    /// How many requests may wait for an answer: those whose answers have room.
    most_ahead: usize,
    room: Vec<u8>,
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
        // Both ends of the connection were created with the same size.
        let sndbuf = getsockopt(&socket, SndBuf).unwrap_or(0);
        let conversation = Conversation {
            pipeline: Pipeline::default(),
            most_ahead: (sndbuf / ANSWER_BYTES).clamp(1, MOST_AHEAD),
            room: vec![0; MESSAGE_BYTES],
        };
        let line = Self {
            socket: socket.clone(),
            conversation: Mutex::new(conversation),
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

    pub(super) fn request(&self, request: &Request) -> Reply {
        let request = request.to_bytes();
        let mut conversation = self.lock();
        match conversation.pipeline.take_early(&request) {
            Some(reply) => reply,
            None => self.converse(&mut conversation, &request).unwrap_or_else(|e| Err(silence(&e))),
        }
    }

    /// Sends requests in advance that will be made in this order.
    pub(super) fn expect(&self, requests: impl Iterator<Item = Request>) {
        self.lock().pipeline.expect(requests.map(|request| request.to_bytes()));
    }

    /// Expects no more requests, and gives back what was granted in advance and is not needed.
    pub(super) fn forget_expected(&self) {
        let mut conversation = self.lock();
        while let Some(request) = conversation.pipeline.take_sent() {
            // If the supervisor does not answer, it is gone and so is what it granted.
            let Ok(reply) = self.receive(&mut conversation.room) else { break };
            conversation.pipeline.keep(request, reply);
        }
        let unused: Vec<_> = conversation.pipeline.clear().collect();
        drop(conversation);
        for (request, reply) in unused {
            self.give_back(&request, reply);
        }
    }

    fn give_back(&self, request: &[u8], reply: Reply) {
        match (Request::from_bytes(request), reply) {
            (Some(Request::Join { interface, group, sources }), Ok(_)) => {
                let ifindex = interface.index;
                self.execute(&Request::Leave { ifindex, group, sources }).ok();
            }
            (_, Ok((Answer::Helper { lease }, _))) => self.return_lease(lease),
            (_, Ok((answer, _))) => answer.lease().into_iter().for_each(|it| self.return_lease(it)),
            (_, Err(_)) => {}
        }
    }

    /// Sends the request, unless it was sent in advance, and waits for its answer.
    fn converse(&self, conversation: &mut Conversation, request: &[u8]) -> io::Result<Reply> {
        let Conversation { pipeline, most_ahead, room } = conversation;
        self.returned.flush(&self.socket)?;
        // Many at a time, so that the supervisor wakes up once for many.
        if pipeline.under_way() <= *most_ahead / 2 {
            while pipeline.under_way() < *most_ahead
                && let Some(next) = pipeline.next()
            {
                send(&self.socket, next)?;
            }
        }
        if !pipeline.is_sent(request) {
            send(&self.socket, request)?;
            pipeline.add_sent(request);
        }
        loop {
            let reply = self.receive(room)?;
            let Some(answered) = pipeline.take_sent() else { return Ok(Err(unexpected())) };
            if *answered == *request {
                return Ok(reply);
            }
            pipeline.keep(answered, reply);
        }
    }

    /// Receives the next answer.
    fn receive(&self, room: &mut [u8]) -> io::Result<Reply> {
        let message = receive(&self.socket, room)?;
        let answer = room.get(..message.len).and_then(Answer::from_bytes);
        Ok(match answer {
            Some(Answer::Refused { why }) => Err(why.into()),
            Some(answer) if message.lacks_fd => Err(self.descriptor_lost(&answer)),
            Some(answer) => Ok((answer, message.fd)),
            None => Err(unexpected()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Conversation> {
        self.conversation.lock().unwrap_or_else(PoisonError::into_inner)
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
            send(socket, &Request::Release { leases: leases.to_vec() }.to_bytes())?;
        }
        waiting.leases.clear();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, ReturnQueue> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn send(socket: &OwnedFd, request: &[u8]) -> io::Result<()> {
    loop {
        match scm_rights::send(socket.as_fd(), request, None, MsgFlags::empty()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait(socket, PollFlags::POLLOUT)?
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn receive(socket: &OwnedFd, room: &mut [u8]) -> io::Result<Received> {
    loop {
        match scm_rights::receive(socket.as_fd(), room, MsgFlags::empty()) {
            Ok(message) if message.len == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(message) => return Ok(message),
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

fn silence(error: &io::Error) -> Error {
    Error::Engine(format!("the supervisor does not answer ({error})"))
}

/// The supervisor's answer belongs to another request.
pub(super) fn unexpected() -> Error {
    Error::Engine("the supervisor's answer does not match the request".to_owned())
}
