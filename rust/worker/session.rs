//! The session with control: waits for requests and sends responses and events. This module must not
//! depend on what a request does.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::channel::Channel;
use super::log::Log;
use super::mailbox::Mailbox;
use super::messages::answers::{Response, ResponseBody, WorkerEvent};
use super::messages::failure::Failure;
use super::messages::requests::ControlRequest;
use super::messages::{Facility, LogLevel};

/// What [`ControlSession::next`] has waited for.
pub(super) enum SessionInput {
    Request(ControlRequest),
    /// A new control process has connected; requests of the previous one are void.
    Replaced,
    /// The connection was closed.
    Closed,
    /// The deadline has passed.
    Timeout,
    /// The engine has ended by itself, with this error.
    EngineEnded(String),
}

/// The worker's side of the session.
pub(super) struct ControlSession {
    channel: Channel,
    mailbox: Arc<Mailbox>,
    pub(super) log: Log,
    /// Whether a new control process has connected since the last [`Self::take_reconnected`].
    has_reconnected: bool,
    /// Whether the end of the connection is still to be reported as [`SessionInput::Closed`].
    is_disconnect_unreported: bool,
}

impl ControlSession {
    pub(super) fn new(channel: Channel, mailbox: Arc<Mailbox>) -> Self {
        let log = Log::new(Instant::now());
        Self { channel, mailbox, log, has_reconnected: false, is_disconnect_unreported: false }
    }

    /// Waits for the next input until `deadline`, and sends pending messages meanwhile.
    pub(super) fn next(&mut self, deadline: Instant) -> SessionInput {
        loop {
            if let Some(error) = self.mailbox.end() {
                return SessionInput::EngineEnded(error);
            }
            if self.accept_channel() {
                return SessionInput::Replaced;
            }
            self.send_pending();
            if let Some(request) = self.read() {
                return SessionInput::Request(request);
            }
            if self.is_disconnect_unreported && !self.channel.is_open() {
                self.is_disconnect_unreported = false;
                return SessionInput::Closed;
            }
            if Instant::now() >= deadline {
                return SessionInput::Timeout;
            }
            self.wait(deadline);
        }
    }

    /// Sends all pending messages, until `deadline` at most.
    pub(super) fn finish(&mut self, deadline: Instant) {
        self.send_pending();
        while self.channel.has_output() && Instant::now() < deadline {
            self.wait(deadline);
            self.channel.flush();
        }
    }

    /// Whether a new control process has connected since the last call.
    pub(super) fn take_reconnected(&mut self) -> bool {
        std::mem::take(&mut self.has_reconnected)
    }

    pub(super) fn is_open(&self) -> bool {
        self.channel.is_open()
    }

    /// The descriptor that came with the last request, if one did.
    pub(super) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.channel.take_descriptor()
    }

    pub(super) fn respond(&mut self, id: u64, result: impl Serialize) {
        self.channel.send(&Response { id, outcome: ResponseBody::Ok(result) });
    }

    pub(super) fn respond_error(&mut self, id: u64, failure: Failure) {
        self.channel.send(&Response { id, outcome: ResponseBody::<()>::Error(failure) });
    }

    pub(super) fn send_event(&mut self, event: &WorkerEvent<'_>) {
        self.channel.send(event);
    }

    /// Closes the connection after a violation of the protocol, and logs the reason.
    pub(super) fn close_with_error(&mut self, why: &str) {
        let text = format!("the connection to control is closed: {why}");
        self.log.add(LogLevel::Error, Facility::Worker, text, Instant::now());
        self.channel.close();
    }

    /// Replaces the connection, if a new one was posted; returns whether it was.
    fn accept_channel(&mut self) -> bool {
        let Some(new) = self.mailbox.take_channel() else { return false };
        self.channel.close();
        if let Err(errno) = self.channel.replace(&new) {
            let text = format!("a connection to control cannot be accepted: {}", errno.desc());
            self.log.add(LogLevel::Error, Facility::Worker, text, Instant::now());
        }
        (self.has_reconnected, self.is_disconnect_unreported) = (true, true);
        true
    }

    /// Sends pending log records, as far as control reads.
    fn send_pending(&mut self) {
        while self.channel.is_open()
            && let Some(record) = self.log.next(Instant::now())
        {
            let (level, facility) = (record.level, record.facility);
            self.channel.send(&WorkerEvent::Log { level, facility, text: &record.text });
        }
        self.channel.flush();
    }

    /// The next complete request.
    fn read(&mut self) -> Option<ControlRequest> {
        let request = match self.channel.next() {
            Ok(None) => return None,
            Ok(Some(message)) => ControlRequest::parse(&message),
            Err(_) => Err("a message is too long".to_owned()),
        };
        if let Ok(request) = &request {
            let text = || format!("serves the request {}", request.name());
            self.log.add_with(LogLevel::Trace, Facility::Worker, text, Instant::now());
        }
        request.inspect_err(|why| self.close_with_error(why)).ok()
    }

    /// Waits until `deadline` for messages, room to send, or the end of the connection.
    fn wait(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, lest the thread spin during the last millisecond.
        let left = left + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mailbox = PollFd::new(self.mailbox.as_fd(), PollFlags::POLLIN);
        let channel = PollFd::new(self.channel.as_fd(), self.channel.interest());
        let mut both = [mailbox, channel];
        let polled = if self.channel.is_open() { &mut both[..] } else { &mut both[..1] };
        // If interrupted, the caller waits again.
        poll(polled, timeout).ok();
        let events = both[1].revents().unwrap_or(PollFlags::empty());
        if events.contains(PollFlags::POLLIN) {
            self.channel.receive();
        } else if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            self.channel.close();
        }
    }
}
