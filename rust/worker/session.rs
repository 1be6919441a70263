//! The conversation with control: what is heard next, and what is answered. It must not know what a
//! request does.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::channel::Channel;
use super::log::Log;
use super::mailbox::Mailbox;
use super::messages::LogLevel;
use super::messages::answers::{Response, ResponseBody, WorkerEvent};
use super::messages::failure::Failure;
use super::messages::requests::ControlRequest;

/// What happens next.
pub(super) enum SessionInput {
    Request(ControlRequest),
    /// There is another control process: what the one before wanted counts no more.
    Replaced,
    /// The connection has ended.
    Gone,
    /// The time is over.
    Nothing,
    /// The engine has ended by itself.
    EngineEnded(String),
}

/// The worker's side.
pub(super) struct ControlSession {
    channel: Channel,
    mailbox: Arc<Mailbox>,
    pub(super) log: Log,
    /// Whether it is another control process since somebody asked.
    has_reconnected: bool,
    /// Whether there is a connection of which nobody was told that it has ended.
    is_disconnect_unreported: bool,
}

impl ControlSession {
    pub(super) fn new(channel: Channel, mailbox: Arc<Mailbox>) -> Self {
        let log = Log::new(Instant::now());
        Self { channel, mailbox, log, has_reconnected: false, is_disconnect_unreported: false }
    }

    /// Waits for what comes next, until `deadline`, and says meanwhile what is to be said.
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
                return SessionInput::Gone;
            }
            if Instant::now() >= deadline {
                return SessionInput::Nothing;
            }
            self.wait(deadline);
        }
    }

    /// Hands over what is still to be said, as long as somebody reads it and until `deadline`.
    pub(super) fn part(&mut self, deadline: Instant) {
        self.send_pending();
        while self.channel.has_output() && Instant::now() < deadline {
            self.wait(deadline);
            self.channel.flush();
        }
    }

    /// Whether there is another control process since the last time.
    pub(super) fn take_reconnected(&mut self) -> bool {
        std::mem::take(&mut self.has_reconnected)
    }

    pub(super) fn is_open(&self) -> bool {
        self.channel.is_open()
    }

    pub(super) fn respond(&mut self, id: u64, respond: impl Serialize) {
        self.channel.send(&Response { id, outcome: ResponseBody::Ok(respond) });
    }

    pub(super) fn respond_error(&mut self, id: u64, failure: Failure) {
        self.channel.send(&Response { id, outcome: ResponseBody::<()>::Error(failure) });
    }

    pub(super) fn send_event(&mut self, event: &WorkerEvent<'_>) {
        self.channel.send(event);
    }

    /// What control says makes no sense.
    pub(super) fn close_with_error(&mut self, why: &str) {
        let text = format!("the connection to control is closed: {why}");
        self.log.add(LogLevel::Error, "worker", text, Instant::now());
        self.channel.close();
    }

    /// Takes a new connection, if there is one.
    fn accept_channel(&mut self) -> bool {
        let Some(new) = self.mailbox.take_channel() else { return false };
        self.channel.close();
        if let Err(errno) = self.channel.replace(&new) {
            let text = format!("a connection to control cannot be taken: {}", errno.desc());
            self.log.add(LogLevel::Error, "worker", text, Instant::now());
        }
        (self.has_reconnected, self.is_disconnect_unreported) = (true, true);
        true
    }

    /// Says what is to be said, as far as it is read.
    fn send_pending(&mut self) {
        while self.channel.is_open()
            && let Some(record) = self.log.next(Instant::now())
        {
            let (level, facility) = (record.level, record.facility);
            self.channel.send(&WorkerEvent::Log { level, facility, text: &record.text });
        }
        self.channel.flush();
    }

    /// The next request that is there; one at a time.
    fn read(&mut self) -> Option<ControlRequest> {
        let request = match self.channel.next() {
            Ok(None) => return None,
            Ok(Some(message)) => ControlRequest::parse(&message),
            Err(_) => Err("a message is too long".to_owned()),
        };
        request.inspect_err(|why| self.close_with_error(why)).ok()
    }

    /// Until something comes or can be said, or the other side is gone.
    fn wait(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, lest the last millisecond be spent in a loop.
        let left = left + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mailbox = PollFd::new(self.mailbox.as_fd(), PollFlags::POLLIN);
        let channel = PollFd::new(self.channel.as_fd(), self.channel.interest());
        let mut both = [mailbox, channel];
        let polled = if self.channel.is_open() { &mut both[..] } else { &mut both[..1] };
        // Interrupted: whoever asked looks again.
        poll(polled, timeout).ok();
        let told = both[1].revents().unwrap_or(PollFlags::empty());
        if told.contains(PollFlags::POLLIN) {
            self.channel.receive();
        } else if told.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            self.channel.close();
        }
    }
}
