//! The connection to the supervisor: a sign of life twice a second, new connections to control, and
//! the end of this process with that of the supervisor. It must not know rules.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::socket::MsgFlags;

use super::mailbox::Mailbox;
use crate::error::{Error, Result};
use crate::sys::scm_rights::{self, Received};

/// How often the supervisor hears from this process; it waits for 3 s.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// The sign of life.
const ALIVE: &[u8] = b"P";
/// The first byte of the message that brings a connection to control.
const CHANNEL: u8 = b'C';
/// All messages are shorter.
const MESSAGE_BYTES: usize = 64;

/// Starts the two threads. Nothing is read before `gate` opens: until then there are rights.
///
/// # Errors
/// No thread.
pub(super) fn start(supervisor: OwnedFd, mailbox: Arc<Mailbox>, gate: Arc<Barrier>) -> Result<()> {
    let supervisor = Arc::new(supervisor);
    let beating = supervisor.clone();
    spawn("mcr-pulse", move || send_heartbeats(&beating))?;
    spawn("mcr-supervisor", move || {
        gate.wait();
        listen(&supervisor, &mailbox);
        // Without a supervisor nobody would end what this process does, or have it do anything.
        std::process::exit(0);
    })
}

/// A thread that signals do not interrupt.
///
/// # Errors
/// No thread.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let run = move || {
        SigSet::all().thread_block().ok();
        run();
    };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map(drop).map_err(|e| Error::os("starting a thread", "the worker", e))
}

fn send_heartbeats(supervisor: &OwnedFd) {
    loop {
        // A supervisor that sleeps has enough of them; that it is gone, the other thread learns.
        scm_rights::send(supervisor.as_fd(), ALIVE, None, MsgFlags::MSG_DONTWAIT).ok();
        thread::sleep(HEARTBEAT);
    }
}

/// Returns when the supervisor is gone.
fn listen(supervisor: &OwnedFd, mailbox: &Mailbox) {
    let mut room = [0; MESSAGE_BYTES];
    loop {
        let mut ready = [PollFd::new(supervisor.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        match scm_rights::receive(supervisor.as_fd(), &mut room, MsgFlags::MSG_DONTWAIT) {
            Ok(Received { len: 0, .. }) => return,
            Ok(Received { fd: Some(fd), .. }) if room[0] == CHANNEL => mailbox.post_channel(fd),
            // The supervisor says nothing else to this version.
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {}
            Err(_) => return,
        }
    }
}
