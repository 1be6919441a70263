//! The connection to the supervisor: sends heartbeats, receives new connections to control, and ends
//! this process together with the supervisor.

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
use crate::relay::EnginePulse;
use crate::sys::scm_rights::{self, Received};

/// The interval of heartbeats; the supervisor kills a worker after 3 s without one.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// The heartbeat message.
const ALIVE: &[u8] = b"P";
/// The first byte of the message that carries a connection to control.
const CHANNEL: u8 = b'C';
/// The time in which an engine that has just started takes a turn, if the machine is not busy.
const FIRST_TURN: Duration = Duration::from_millis(10);
/// An upper bound of the length of messages.
const MESSAGE_BYTES: usize = 64;

/// Starts two threads, which send and receive. Heartbeats are sent while each of the engines turns.
/// Nothing is received before `gate` opens, since the process has privileges until then.
///
/// # Errors
/// A thread cannot be started.
pub(super) fn start(
    supervisor: OwnedFd,
    pulses: Vec<EnginePulse>,
    mailbox: Arc<Mailbox>,
    gate: Arc<Barrier>,
) -> Result<()> {
    let supervisor = Arc::new(supervisor);
    let channel = supervisor.clone();
    spawn("mcr-heartbeat", move || send_heartbeats(&channel, &pulses))?;
    spawn("mcr-supervisor", move || {
        gate.wait();
        listen(&supervisor, &mailbox);
        // Without a supervisor no process could control or end this one.
        std::process::exit(0);
    })
}

/// Starts a thread with all signals blocked.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let run = move || {
        SigSet::all().thread_block().ok();
        run();
    };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map(drop).map_err(|e| Error::os("starting a thread", "the worker", e))
}

fn send_heartbeats(supervisor: &OwnedFd, pulses: &[EnginePulse]) {
    // The first one at once: until then the supervisor allows for a slow start.
    let mut wait = FIRST_TURN;
    loop {
        let before: Vec<u64> = pulses.iter().map(EnginePulse::request).collect();
        thread::sleep(wait);
        if pulses.iter().zip(before).any(|(pulse, before)| pulse.count() == before) {
            continue;
        }
        // Errors are harmless: a full queue holds enough heartbeats, and the other thread notices
        // the end of the supervisor.
        scm_rights::send(supervisor.as_fd(), ALIVE, None, MsgFlags::MSG_DONTWAIT).ok();
        wait = HEARTBEAT;
    }
}

/// Receives messages until the supervisor has ended.
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
            // This version knows no other messages.
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {}
            Err(_) => return,
        }
    }
}
