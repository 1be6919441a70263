//! What a worker does for control, request by request. Whatever control says or does not say, the
//! engine goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::messages::LogLevel;
use super::messages::answers::{Committed, Done, Hello, WorkerEvent};
use super::messages::failure::Failure;
use super::messages::requests::{ControlRequest, check};
use super::page::{PagePublisher, TICK};
use super::session::{ControlSession, SessionInput};
use super::status::RuleStatusTracker;
use crate::relay::{Prepared, Relay, RuleChange};

/// The version of what is said over the channel.
const PROTOCOL: u32 = 1;
/// How long everything may be open for a change that nobody decides.
const DECISION: Duration = Duration::from_secs(10);
/// How long control has to read why this process ends.
const FAREWELL: Duration = Duration::from_millis(500);

/// The main thread of a worker.
pub(super) struct Service {
    relay: Arc<Relay>,
    session: ControlSession,
    /// Of the last change; 0 before the first.
    revision: u64,
    status: RuleStatusTracker,
    page: PagePublisher,
    number: u16,
    /// Whether all is here again that a process before had; else it waits to be claimed.
    is_settled: bool,
}

/// How a change is decided: what is to be answered, to whom.
enum Decision {
    Commit(u64),
    Abort(Option<u64>),
}

/// What a worker says of itself beside its relay.
#[derive(Clone, Copy)]
struct Identity {
    number: u16,
    revision: u64,
}

impl Identity {
    fn hello<'a>(self, relay: &Relay, rules: Vec<&'a str>) -> Hello<'a> {
        let Self { number, revision } = self;
        let ingress = relay.ingress().name();
        Hello { protocol: PROTOCOL, number, pid: std::process::id(), ingress, revision, rules }
    }
}

impl Service {
    pub(super) fn new(relay: Arc<Relay>, session: ControlSession, number: u16) -> Self {
        let status = RuleStatusTracker::new(&relay, number == 0);
        let page = PagePublisher::new();
        Self { relay, session, revision: 0, status, page, number, is_settled: false }
    }

    /// Serves control until the engine ends by itself; says why it did.
    pub(super) fn run(mut self) -> String {
        let mut tick = Instant::now();
        loop {
            match self.session.next(tick) {
                SessionInput::Request(request) => self.serve(request),
                SessionInput::EngineEnded(error) => return self.end(error),
                SessionInput::Replaced | SessionInput::Gone | SessionInput::Nothing => {}
            }
            if self.session.take_reconnected() {
                self.status.forget();
            }
            if Instant::now() >= tick {
                self.report_status();
                self.page.publish(&self.relay);
                tick = Instant::now() + TICK;
            }
        }
    }

    fn serve(&mut self, request: ControlRequest) {
        match request {
            ControlRequest::Prepare { id, revision, whole, remove, add } => {
                let change = RuleChange { remove: &remove, put: &add, whole };
                self.prepare(id, revision, &change);
            }
            ControlRequest::Commit { id } => {
                self.session.respond_error(id, Failure::of_request("nothing is open"))
            }
            ControlRequest::Abort { id } => self.session.respond(id, Done {}),
            ControlRequest::Stop { id } => {
                self.relay.stop();
                self.page.publish_kernel_drops(&self.relay);
                self.session.respond(id, Done {});
            }
            ControlRequest::Hello { id } => {
                let own = Identity { number: self.number, revision: self.revision };
                let rules = self.relay.rule_ids();
                let rules = rules.iter().map(String::as_str).collect();
                self.session.respond(id, own.hello(&self.relay, rules));
            }
            ControlRequest::Log { id, level } => set_level(&mut self.session, id, level),
        }
    }

    /// Opens what a change needs, and makes it when control says so.
    fn prepare(&mut self, id: u64, revision: u64, change: &RuleChange<'_>) {
        if let Err(failure) = change.put.iter().try_for_each(check) {
            return self.session.respond_error(id, failure);
        }
        let Self { relay, session, number, .. } = self;
        let own = Identity { number: *number, revision: self.revision };
        let mut decision = None;
        let changed = relay.apply(change, |prepared| {
            session.respond(id, Done {});
            let made = decide(session, prepared, own, relay);
            let is_agreed = matches!(made, Decision::Commit(_));
            decision = Some(made);
            is_agreed
        });
        match (changed, decision) {
            (Ok(true), Some(Decision::Commit(id))) => {
                self.revision = revision;
                self.adopt(id, change.whole);
            }
            (_, Some(Decision::Abort(asker))) => {
                if let Some(id) = asker {
                    self.session.respond(id, Done {});
                }
            }
            (Err(refusal), Some(Decision::Commit(id))) => {
                self.session.respond_error(id, refusal.into());
            }
            (Err(refusal), None) => self.session.respond_error(id, refusal.into()),
            // A change is made when it is agreed to, and asked about before it is made.
            (Ok(_), None) | (Ok(false), Some(Decision::Commit(_))) => {}
        }
    }

    fn adopt(&mut self, id: u64, whole: bool) {
        if whole && !self.is_settled {
            self.is_settled = true;
            if let Err(error) = self.relay.settle() {
                let text = format!("what was not claimed is still held: {error}");
                self.session.log.add(LogLevel::Warning, "worker", text, Instant::now());
            }
        }
        self.relay.publish_alive();
        if whole {
            // A process that follows another shows what was missed between the two.
            self.page.publish_kernel_drops(&self.relay);
        }
        // First, so that control can say of a new rule at once what it waits for.
        self.report_status();
        self.session.respond(id, Committed { revision: self.revision });
    }

    fn report_status(&mut self) {
        let Self { status, relay, session, .. } = self;
        status.report(relay, session);
    }

    fn end(mut self, error: String) -> String {
        self.session.send_event(&WorkerEvent::Engine { error: &error });
        let deadline = Instant::now() + FAREWELL;
        self.session.part(deadline);
        error
    }
}

/// Waits for the word on a change that is open; all that reads goes on meanwhile.
fn decide(
    session: &mut ControlSession,
    prepared: &Prepared<'_>,
    own: Identity,
    relay: &Relay,
) -> Decision {
    let deadline = Instant::now() + DECISION;
    loop {
        relay.publish_alive();
        match session.next(deadline.min(Instant::now() + TICK)) {
            SessionInput::Request(ControlRequest::Commit { id }) => return Decision::Commit(id),
            SessionInput::Request(ControlRequest::Abort { id }) => {
                return Decision::Abort(Some(id));
            }
            SessionInput::Request(ControlRequest::Hello { id }) => {
                let rules = prepared.rule_ids().collect();
                session.respond(id, own.hello(relay, rules));
            }
            SessionInput::Request(ControlRequest::Log { id, level }) => {
                set_level(session, id, level)
            }
            SessionInput::Request(ControlRequest::Prepare { .. } | ControlRequest::Stop { .. }) => {
                session.close_with_error("a change was to be decided");
                return Decision::Abort(None);
            }
            SessionInput::Nothing if Instant::now() < deadline => {}
            SessionInput::Nothing => {
                let text = "a change was given up: nobody decided it for 10 s".to_owned();
                session.log.add(LogLevel::Warning, "worker", text, Instant::now());
                return Decision::Abort(None);
            }
            SessionInput::Replaced | SessionInput::Gone | SessionInput::EngineEnded(_) => {
                return Decision::Abort(None);
            }
        }
    }
}

fn set_level(session: &mut ControlSession, id: u64, level: LogLevel) {
    session.log.level = level;
    session.respond(id, Done {});
}

#[cfg(test)]
mod tests;
