//! Reports to control what has changed since the last report: the status of rules, interfaces and
//! warnings.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use super::messages::LogLevel;
use super::messages::answers::{RuleStatusEntry, WorkerEvent};
use super::session::ControlSession;
use crate::relay::{Relay, SeenLinks};

/// The most rules in one message.
const PIECE_RULES: usize = 500;

/// What was last reported.
pub(super) struct RuleStatusTracker {
    version: Option<u64>,
    rules: BTreeMap<String, RuleStatusEntry>,
    warnings: HashSet<String>,
    /// The interfaces, in the one worker that reports them.
    links: Option<SeenLinks>,
}

impl RuleStatusTracker {
    /// Nothing was reported yet. `reports_links` is true in one of several workers.
    pub(super) fn new(relay: &Relay, reports_links: bool) -> Self {
        Self {
            version: None,
            rules: BTreeMap::new(),
            warnings: HashSet::new(),
            links: reports_links.then(|| relay.links()),
        }
    }

    /// Forgets what was reported about rules, for a new control process.
    pub(super) fn reset(&mut self) {
        self.version = None;
        self.rules.clear();
    }

    /// Reports what has changed.
    pub(super) fn report(&mut self, relay: &Relay, session: &mut ControlSession) {
        self.report_links(relay, session);
        let version = relay.version();
        if self.version == Some(version) || !session.is_open() {
            return;
        }
        self.version = Some(version);
        for (subject, warning) in relay.warnings_by_subject() {
            if self.warnings.insert(warning.clone()) {
                session.log.add(LogLevel::Warning, subject.into(), warning, Instant::now());
            }
        }
        let rules_in_trouble = relay.rules_in_trouble().into_iter().map(RuleStatusEntry::from);
        let now: BTreeMap<_, _> = rules_in_trouble.map(|entry| (entry.id.clone(), entry)).collect();
        let changes = differences(&self.rules, &now, |id| relay.has_rule(id));
        for rules in changes.chunks(PIECE_RULES) {
            session.send_event(&WorkerEvent::Rules { rules: rules.to_vec() });
        }
        self.rules = now;
    }

    fn report_links(&mut self, relay: &Relay, session: &mut ControlSession) {
        let Some(seen) = &mut self.links else { return };
        let now = relay.links();
        for change in now.since(seen) {
            session.send_event(&WorkerEvent::from(&change));
        }
        *seen = now;
    }
}

/// The entries of the rules whose status has changed; a rule that has recovered gets an entry
/// without reasons.
fn differences(
    before: &BTreeMap<String, RuleStatusEntry>,
    now: &BTreeMap<String, RuleStatusEntry>,
    exists: impl Fn(&str) -> bool,
) -> Vec<RuleStatusEntry> {
    let new = now.iter().filter(|(id, entry)| before.get(*id) != Some(entry));
    let mut differences: Vec<RuleStatusEntry> = new.map(|(_, entry)| entry.clone()).collect();
    let recovered = before.iter().filter(|(id, _)| !now.contains_key(*id) && exists(id));
    differences.extend(recovered.map(|(id, entry)| RuleStatusEntry {
        id: id.clone(),
        trouble: None,
        parked: vec![None; entry.parked.len()],
        engine_sentence: None,
    }));
    differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::{InputTrouble, TroubleState};

    fn entries(rules: &[(&str, Option<&str>)]) -> BTreeMap<String, RuleStatusEntry> {
        let entry = |id: &str, trouble: Option<&str>| RuleStatusEntry {
            id: id.to_owned(),
            trouble: trouble.map(|reason| InputTrouble {
                state: TroubleState::Waiting,
                reason: reason.to_owned(),
            }),
            parked: vec![trouble.map(str::to_owned)],
            engine_sentence: None,
        };
        rules.iter().map(|(id, trouble)| ((*id).to_owned(), entry(id, *trouble))).collect()
    }

    #[test]
    fn only_changes_are_reported() {
        let before = entries(&[("same", Some("x")), ("well", Some("x")), ("removed", Some("x"))]);
        let now = entries(&[("same", Some("x")), ("other", Some("y"))]);
        let changes = differences(&before, &now, |id| id != "removed");
        let ids: Vec<&str> = changes.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["other", "well"]);
        assert_eq!((&changes[1].trouble, &changes[1].parked), (&None, &vec![None]));
    }
}
