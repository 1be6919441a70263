//! Messages of a worker: responses and events, as JSON.

use super::failure::Failure;
use super::{Facility, LogLevel};
use crate::relay::{InputTrouble, LinkChange, RuleStatus};

/// The response to a request.
#[derive(serde::Serialize)]
pub(in crate::worker) struct Response<T> {
    pub(in crate::worker) id: u64,
    #[serde(flatten)]
    pub(in crate::worker) outcome: ResponseBody<T>,
}

/// The result of a request.
#[derive(serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::worker) enum ResponseBody<T> {
    Ok(T),
    Error(Failure),
}

/// The empty result of a successful request.
#[derive(serde::Serialize)]
pub(in crate::worker) struct Done {}

/// The worker's identity and rules.
#[derive(serde::Serialize)]
pub(in crate::worker) struct Hello<'a> {
    pub(in crate::worker) protocol: u32,
    pub(in crate::worker) number: u16,
    pub(in crate::worker) pid: u32,
    pub(in crate::worker) ingress: &'static str,
    pub(in crate::worker) engine: Option<&'static str>,
    pub(in crate::worker) revision: u64,
    pub(in crate::worker) rules: Vec<&'a str>,
}

/// The result of a commit.
#[derive(serde::Serialize)]
pub(in crate::worker) struct Committed {
    pub(in crate::worker) revision: u64,
}

/// A message that is not a response.
#[derive(serde::Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(in crate::worker) enum WorkerEvent<'a> {
    Rules { rules: Vec<RuleStatusEntry> },
    Link { name: &'a str, index: u32, change: &'static str, detail: &'a str },
    Log { level: LogLevel, facility: Facility, text: &'a str },
    Engine { error: &'a str },
}

/// Why a rule cannot receive or send now, and why the engine relays it; without reasons if it can
/// and there is nothing to say.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(in crate::worker) struct RuleStatusEntry {
    pub(in crate::worker) id: String,
    pub(in crate::worker) trouble: Option<InputTrouble>,
    pub(in crate::worker) parked: Vec<Option<String>>,
    pub(in crate::worker) engine_sentence: Option<String>,
}

impl From<RuleStatus> for RuleStatusEntry {
    fn from(RuleStatus { id, trouble, parked, engine_sentence }: RuleStatus) -> Self {
        Self { id, trouble, parked, engine_sentence }
    }
}

impl<'a> From<&'a LinkChange> for WorkerEvent<'a> {
    fn from(change: &'a LinkChange) -> Self {
        let LinkChange { name, index, change, detail } = change;
        Self::Link { name, index: *index, change, detail }
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn answers_and_events_have_the_shape_that_control_reads() {
        let outcome = ResponseBody::Ok(Committed { revision: 7 });
        assert_eq!(json(&Response { id: 3, outcome }), r#"{"id":3,"ok":{"revision":7}}"#);
        let outcome: ResponseBody<Done> = ResponseBody::Error(Failure::of_request("no"));
        let refused = r#"{"id":4,"error":{"kind":"rule","rule":null,"message":"no"}}"#;
        assert_eq!(json(&Response { id: 4, outcome }), refused);
        assert_eq!(json(&WorkerEvent::Engine { error: "x" }), r#"{"event":"engine","error":"x"}"#);
        let log =
            WorkerEvent::Log { level: LogLevel::Warning, facility: Facility::Worker, text: "y" };
        let expected = r#"{"event":"log","level":"warning","facility":"worker","text":"y"}"#;
        assert_eq!(json(&log), expected);
    }
}
