//! What a worker says: answers, events and reports, as JSON. It must not know when.

use std::net::IpAddr;

use serde::ser::{Serialize, Serializer};

use super::LogLevel;
use super::failure::Failure;
use crate::relay::{
    InterfaceReport, LastLoss, LinkChange, OutputReport, RuleReport, RuleStatus, errno_name,
};

/// Rules in one piece of a report, and outputs after which a piece ends.
const PIECE_RULES: usize = 500;
const PIECE_OUTPUTS: usize = 2000;

/// An answer.
#[derive(serde::Serialize)]
pub(in crate::worker) struct Response<T> {
    pub(in crate::worker) id: u64,
    #[serde(flatten)]
    pub(in crate::worker) outcome: ResponseBody<T>,
}

/// How it went.
#[derive(serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::worker) enum ResponseBody<T> {
    Ok(T),
    Part(T),
    Error(Failure),
}

/// Nothing more to say.
#[derive(serde::Serialize)]
pub(in crate::worker) struct Done {}

/// Who this is.
#[derive(serde::Serialize)]
pub(in crate::worker) struct Hello<'a> {
    pub(in crate::worker) protocol: u32,
    pub(in crate::worker) number: u16,
    pub(in crate::worker) pid: u32,
    pub(in crate::worker) ingress: &'static str,
    pub(in crate::worker) revision: u64,
    pub(in crate::worker) rules: Vec<&'a str>,
}

/// What is followed now.
#[derive(serde::Serialize)]
pub(in crate::worker) struct Committed {
    pub(in crate::worker) revision: u64,
}

/// The end of a report.
#[derive(serde::Serialize)]
pub(in crate::worker) struct Reported {
    pub(in crate::worker) engine_error: Option<String>,
}

/// What is told without being asked for.
#[derive(serde::Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(in crate::worker) enum WorkerEvent<'a> {
    Rules { rules: Vec<RuleStatusEntry> },
    Link { name: &'a str, index: u32, change: &'static str, detail: &'a str },
    Log { level: LogLevel, facility: &'static str, text: &'a str },
    Engine { error: &'a str },
}

/// What keeps a rule from working now.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(in crate::worker) struct RuleStatusEntry {
    pub(in crate::worker) id: String,
    pub(in crate::worker) trouble: Option<String>,
    pub(in crate::worker) parked: Vec<Option<String>>,
}

impl From<RuleStatus> for RuleStatusEntry {
    fn from(RuleStatus { id, trouble, parked }: RuleStatus) -> Self {
        Self { id, trouble, parked }
    }
}

impl<'a> From<&'a LinkChange> for WorkerEvent<'a> {
    fn from(change: &'a LinkChange) -> Self {
        let LinkChange { name, index, change, detail } = change;
        Self::Link { name, index: *index, change, detail }
    }
}

/// Part of a report.
#[derive(serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::worker) enum ReportPart {
    Interfaces(Vec<InterfaceEntry>),
    Rules(Vec<RuleEntry>),
}

#[derive(serde::Serialize)]
pub(in crate::worker) struct InterfaceEntry {
    name: String,
    ingress: &'static str,
    received: u64,
    matched: u64,
    kernel_dropped_frames: u64,
    buffer_waits: u64,
    error: Option<String>,
    dropped: CountMap<&'static str>,
}

#[derive(serde::Serialize)]
pub(in crate::worker) struct RuleEntry {
    id: String,
    enabled: bool,
    trouble: Option<String>,
    matched: u64,
    matched_bytes: u64,
    last_source: Option<IpAddr>,
    last_seen_age_ms: Option<u64>,
    group_seen: u64,
    group_seen_age_ms: Option<u64>,
    other_port: Option<u16>,
    other_source: Option<IpAddr>,
    outputs: Vec<OutputEntry>,
}

#[derive(serde::Serialize)]
struct OutputEntry {
    parked: Option<String>,
    wanted: u64,
    sent: u64,
    sent_bytes: u64,
    pending: u64,
    refused: u64,
    dropped: CountMap<&'static str>,
    errors: CountMap<String>,
    lost_reason: Option<String>,
    lost_age_ms: Option<u64>,
    refused_age_ms: Option<u64>,
}

/// Names and their counts, as an object.
struct CountMap<K>(Vec<(K, u64)>);

impl<K: Serialize> Serialize for CountMap<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, count)| (name, count)))
    }
}

impl InterfaceEntry {
    pub(in crate::worker) fn new(report: InterfaceReport, ingress: &'static str) -> Self {
        Self {
            name: report.name,
            ingress,
            received: report.received,
            matched: report.matched,
            kernel_dropped_frames: report.kernel_dropped_frames,
            buffer_waits: report.buffer_waits,
            error: (report.error != 0).then(|| errno_name(report.error)),
            dropped: CountMap(report.dropped.map(|(why, count)| (why.name(), count)).to_vec()),
        }
    }
}

impl From<RuleReport> for RuleEntry {
    fn from(report: RuleReport) -> Self {
        Self {
            id: report.id,
            enabled: report.enabled,
            trouble: report.trouble,
            matched: report.matched,
            matched_bytes: report.matched_bytes,
            last_source: report.last_source,
            last_seen_age_ms: report.last_seen_age_ms,
            group_seen: report.group_seen,
            group_seen_age_ms: report.group_seen_age_ms,
            other_port: report.other_port,
            other_source: report.other_source,
            outputs: report.outputs.into_iter().map(OutputEntry::from).collect(),
        }
    }
}

impl From<OutputReport> for OutputEntry {
    fn from(report: OutputReport) -> Self {
        let errors = report.errors.into_iter();
        Self {
            parked: report.parked,
            wanted: report.wanted,
            sent: report.sent,
            sent_bytes: report.sent_bytes,
            pending: report.pending,
            refused: report.refused,
            dropped: CountMap(report.dropped.map(|(why, count)| (why.name(), count)).to_vec()),
            errors: CountMap(errors.map(|(errno, copies)| (errno_name(errno), copies)).collect()),
            lost_reason: report.last_loss.as_ref().map(LastLoss::reason),
            lost_age_ms: report.last_loss.map(|loss| loss.age_ms),
            refused_age_ms: report.refused_age_ms,
        }
    }
}

/// The next so many rules, as many as one message should have.
pub(in crate::worker) fn piece(rules: &mut impl Iterator<Item = RuleReport>) -> Vec<RuleEntry> {
    let (mut entries, mut outputs) = (Vec::new(), 0);
    while entries.len() < PIECE_RULES && outputs < PIECE_OUTPUTS {
        let Some(rule) = rules.next() else { break };
        outputs += rule.outputs.len();
        entries.push(RuleEntry::from(rule));
    }
    entries
}

#[cfg(test)]
mod tests {
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
        let outcome = ResponseBody::Part(ReportPart::Rules(Vec::new()));
        assert_eq!(json(&Response { id: 5, outcome }), r#"{"id":5,"part":{"rules":[]}}"#);
        assert_eq!(json(&WorkerEvent::Engine { error: "x" }), r#"{"event":"engine","error":"x"}"#);
        let log = WorkerEvent::Log { level: LogLevel::Warning, facility: "worker", text: "y" };
        let told = r#"{"event":"log","level":"warning","facility":"worker","text":"y"}"#;
        assert_eq!(json(&log), told);
    }
}
