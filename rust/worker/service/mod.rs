//! Executes control's requests in a worker. The engine keeps relaying whatever control sends, or if
//! it sends nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::messages::answers::{Committed, Done, Hello, WorkerEvent};
use super::messages::failure::Failure;
use super::messages::requests::{ControlRequest, check, check_edit};
use super::messages::{Facility, FacilityLevels, LogLevel};
use super::page::{PagePublisher, TICK};
use super::session::{ControlSession, SessionInput};
use super::status::RuleStatusTracker;
use crate::error::{Error, Result};
use crate::relay::{ChangeError, Prepared, Relay, RuleChange};
use crate::sys::ring::RingKind;
use crate::tap::TapFilter;

/// The version of the protocol with control.
const PROTOCOL: u32 = 4;
/// The time after which a prepared change without a decision is abandoned.
const DECISION: Duration = Duration::from_secs(10);
/// The time that control has to read why this process ends.
const FAREWELL: Duration = Duration::from_millis(500);

/// The main thread of a worker.
pub(super) struct Service {
    relay: Arc<Relay>,
    session: ControlSession,
    /// The revision of the last change; 0 before the first.
    revision: u64,
    status: RuleStatusTracker,
    page: PagePublisher,
    number: u16,
    /// Whether all rules were received since the start, so that what a predecessor left and this
    /// process did not claim was released.
    is_settled: bool,
}

/// The decision about a prepared change, with the id of the request to answer.
enum Decision {
    Commit(u64),
    Abort(Option<u64>),
}

/// The number and revision of a worker, for its hello.
#[derive(Clone, Copy)]
struct Identity {
    number: u16,
    revision: u64,
}

impl Identity {
    fn hello<'a>(self, relay: &Relay, rules: Vec<&'a str>) -> Hello<'a> {
        let Self { number, revision } = self;
        let ingress = relay.ingress().name();
        let engine = relay.ring_kind().map(RingKind::name);
        let pid = std::process::id();
        Hello { protocol: PROTOCOL, number, pid, ingress, engine, revision, rules }
    }
}

impl Service {
    pub(super) fn new(relay: Arc<Relay>, session: ControlSession, number: u16) -> Self {
        let status = RuleStatusTracker::new(&relay, number == 0);
        let page = PagePublisher::new();
        Self { relay, session, revision: 0, status, page, number, is_settled: false }
    }

    /// Serves control until the engine ends by itself; returns its error.
    pub(super) fn run(mut self) -> String {
        let mut tick = Instant::now();
        loop {
            match self.session.next(tick) {
                SessionInput::Request(request) => self.serve(request),
                SessionInput::EngineEnded(error) => return self.end(error),
                SessionInput::Replaced | SessionInput::Closed | SessionInput::Timeout => {}
            }
            if self.session.take_reconnected() {
                self.status.reset();
                // Those who watch were clients of the previous process. An engine that has ended
                // records nothing either.
                self.relay.remove_taps().ok();
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
            ControlRequest::Prepare { id, revision, whole, remove, add, edit, shaping } => {
                let shaping = shaping.as_ref();
                let change = RuleChange { remove: &remove, put: &add, edit: &edit, whole, shaping };
                self.prepare(id, revision, &change);
            }
            ControlRequest::Commit { id } => {
                self.session.respond_error(id, Failure::of_request("no change is prepared"))
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
            ControlRequest::Log { id, levels } => set_levels(&mut self.session, id, levels),
            ControlRequest::Tap { id, number, filter } => {
                let added = self.add_tap(number, filter);
                self.respond_done(id, added);
            }
            ControlRequest::Untap { id, number } => {
                let removed = self.relay.remove_tap(number);
                self.respond_done(id, removed);
            }
        }
    }

    fn add_tap(&mut self, number: u64, filter: TapFilter) -> Result<()> {
        let ring = self.session.take_descriptor();
        let ring = ring.ok_or_else(|| Error::Invalid("there is no ring for a tap".to_owned()))?;
        self.relay.add_tap(number, filter, vec![ring])
    }

    fn respond_done(&mut self, id: u64, result: Result<()>) {
        match result {
            Ok(()) => self.session.respond(id, Done {}),
            Err(error) => {
                self.session.respond_error(id, ChangeError { rule: None, error }.into());
            }
        }
    }

    /// Prepares a change, waits for the decision of control, and applies it if that is a commit.
    fn prepare(&mut self, id: u64, revision: u64, change: &RuleChange<'_>) {
        let checked = change.put.iter().try_for_each(check);
        if let Err(failure) = checked.and_then(|()| change.edit.iter().try_for_each(check_edit)) {
            return self.session.respond_error(id, failure);
        }
        let Self { relay, session, number, .. } = self;
        let own = Identity { number: *number, revision: self.revision };
        let mut decision = None;
        let changed = relay.apply(change, |prepared| {
            session.respond(id, Done {});
            let received = await_decision(session, prepared, own, relay);
            let is_commit = matches!(received, Decision::Commit(_));
            decision = Some(received);
            is_commit
        });
        match (changed, decision) {
            (Ok(true), Some(Decision::Commit(id))) => {
                self.revision = revision;
                self.adopt(id, change.whole);
            }
            (_, Some(Decision::Abort(request))) => {
                if let Some(id) = request {
                    self.session.respond(id, Done {});
                }
            }
            (Err(refusal), Some(Decision::Commit(id))) => {
                self.session.respond_error(id, refusal.into());
            }
            (Err(refusal), None) => self.session.respond_error(id, refusal.into()),
            // Impossible: `apply` returns true if and only if the decision was a commit.
            (Ok(_), None) | (Ok(false), Some(Decision::Commit(_))) => {}
        }
    }

    fn adopt(&mut self, id: u64, whole: bool) {
        if whole && !self.is_settled {
            self.is_settled = true;
            if let Err(error) = self.relay.settle() {
                let text = format!("unclaimed sockets and counters are not released: {error}");
                self.session.log.add(LogLevel::Warning, Facility::Worker, text, Instant::now());
            }
        }
        self.relay.publish_alive();
        self.relay.publish_ways();
        if whole {
            // Shows the frames that were lost between a predecessor and this process.
            self.page.publish_kernel_drops(&self.relay);
        }
        // Before the answer, so that control's answer to the client includes why new rules wait.
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
        self.session.finish(deadline);
        error
    }
}

/// Waits for the decision about a prepared change; serves requests that only read meanwhile.
fn await_decision(
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
            SessionInput::Request(ControlRequest::Log { id, levels }) => {
                set_levels(session, id, levels)
            }
            SessionInput::Request(_) => {
                session.close_with_error("expected the decision about a change");
                return Decision::Abort(None);
            }
            SessionInput::Timeout if Instant::now() < deadline => {}
            SessionInput::Timeout => {
                let text = "a change was abandoned: no decision arrived for 10 s".to_owned();
                session.log.add(LogLevel::Warning, Facility::Worker, text, Instant::now());
                return Decision::Abort(None);
            }
            SessionInput::Replaced | SessionInput::Closed | SessionInput::EngineEnded(_) => {
                return Decision::Abort(None);
            }
        }
    }
}

fn set_levels(session: &mut ControlSession, id: u64, levels: FacilityLevels) {
    session.log.levels = levels;
    session.respond(id, Done {});
}

#[cfg(test)]
mod tests;
