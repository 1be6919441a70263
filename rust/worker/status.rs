//! What has changed since control was last told: rules that wait or are parked, interfaces,
//! warnings. It must not know how it is told.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use super::messages::LogLevel;
use super::messages::answers::{RuleStatusEntry, WorkerEvent};
use super::session::ControlSession;
use crate::relay::{Relay, SeenLinks};

/// Rules in one message.
const PIECE_RULES: usize = 500;

/// What was told.
pub(super) struct RuleStatusTracker {
    version: Option<u64>,
    rules: BTreeMap<String, RuleStatusEntry>,
    warnings: HashSet<String>,
    /// The interfaces, for the one worker that tells of them.
    links: Option<SeenLinks>,
}

impl RuleStatusTracker {
    /// Of several workers one tells of the interfaces.
    pub(super) fn new(relay: &Relay, tells_links: bool) -> Self {
        Self {
            version: None,
            rules: BTreeMap::new(),
            warnings: HashSet::new(),
            links: tells_links.then(|| relay.links()),
        }
    }

    /// There is another control process, which knows nothing of any trouble.
    pub(super) fn forget(&mut self) {
        self.version = None;
        self.rules.clear();
    }

    /// Tells what is new.
    pub(super) fn report(&mut self, relay: &Relay, session: &mut ControlSession) {
        self.report_links(relay, session);
        let version = relay.version();
        if self.version == Some(version) || !session.is_open() {
            return;
        }
        self.version = Some(version);
        for warning in relay.warnings() {
            if self.warnings.insert(warning.clone()) {
                session.log.add(LogLevel::Warning, "socket", warning, Instant::now());
            }
        }
        let rules_in_trouble = relay.rules_in_trouble().into_iter().map(RuleStatusEntry::from);
        let now: BTreeMap<_, _> = rules_in_trouble.map(|news| (news.id.clone(), news)).collect();
        let news = differences(&self.rules, &now, |id| relay.has_rule(id));
        for rules in news.chunks(PIECE_RULES) {
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

/// The rules that are in another condition than before; one that is well again says nothing of
/// any trouble.
fn differences(
    before: &BTreeMap<String, RuleStatusEntry>,
    now: &BTreeMap<String, RuleStatusEntry>,
    is_there: impl Fn(&str) -> bool,
) -> Vec<RuleStatusEntry> {
    let new = now.iter().filter(|(id, news)| before.get(*id) != Some(news));
    let mut differences: Vec<RuleStatusEntry> = new.map(|(_, news)| news.clone()).collect();
    let well = before.iter().filter(|(id, _)| !now.contains_key(*id) && is_there(id));
    differences.extend(well.map(|(id, news)| RuleStatusEntry {
        id: id.clone(),
        trouble: None,
        parked: vec![None; news.parked.len()],
    }));
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(rules: &[(&str, Option<&str>)]) -> BTreeMap<String, RuleStatusEntry> {
        let news = |id: &str, trouble: Option<&str>| RuleStatusEntry {
            id: id.to_owned(),
            trouble: trouble.map(str::to_owned),
            parked: vec![trouble.map(str::to_owned)],
        };
        rules.iter().map(|(id, trouble)| ((*id).to_owned(), news(id, *trouble))).collect()
    }

    #[test]
    fn only_what_has_changed_is_told() {
        let before = told(&[("same", Some("x")), ("well", Some("x")), ("gone", Some("x"))]);
        let now = told(&[("same", Some("x")), ("other", Some("y"))]);
        let news = differences(&before, &now, |id| id != "gone");
        let ids: Vec<&str> = news.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["other", "well"]);
        assert_eq!((&news[1].trouble, &news[1].parked), (&None, &vec![None]));
    }
}
