//! The rules as control knows them, by their ids: what a change that it asks for means for the
//! relay, which knows keys. It must not know sockets, nor how control is spoken to.

use std::collections::{BTreeMap, BTreeSet};

use super::messages::failure::Failure;
use super::messages::requests::check;
use crate::relay::Change;
use crate::spec::RuleSpec;

/// The rules that run.
#[derive(Default)]
pub(super) struct Rules {
    held: BTreeMap<String, ActiveRule>,
    /// Of the last change; 0 before the first.
    pub(super) revision: u64,
}

struct ActiveRule {
    key: u32,
    spec: RuleSpec,
}

/// A change, before it is decided.
#[derive(Debug, Default)]
pub(super) struct Proposal {
    revision: u64,
    /// The ids of those that go or are replaced, and their keys.
    gone: Vec<String>,
    remove: Vec<u32>,
    add: Vec<RuleSpec>,
    enable: Vec<(u32, bool)>,
}

impl Rules {
    /// What is to be done so that these rules go and those are there. A rule that is there already
    /// and is to be the same is not touched; `whole`: what is not in `add` goes.
    ///
    /// # Errors
    /// A rule that cannot be, is there twice, or is to go and is not there.
    pub(super) fn propose(
        &self,
        revision: u64,
        whole: bool,
        remove: &[String],
        add: Vec<RuleSpec>,
    ) -> Result<Proposal, Failure> {
        let mut proposal = Proposal { revision, ..Proposal::default() };
        let mut coming = BTreeSet::new();
        for spec in add {
            check(&spec)?;
            if !coming.insert(spec.id.clone()) {
                return Err(Failure::of_rule(&spec.id, "it is there twice"));
            }
            self.propose_one(spec, &mut proposal);
        }
        if let Some(unknown) = remove.iter().find(|id| !self.held.contains_key(*id)) {
            return Err(Failure::of_rule(unknown, "it is to go and is not there"));
        }
        let removed: BTreeSet<&String> = remove.iter().collect();
        for (id, held) in &self.held {
            if !coming.contains(id) && (whole || removed.contains(id)) {
                proposal.gone.push(id.clone());
                proposal.remove.push(held.key);
            }
        }
        Ok(proposal)
    }

    fn propose_one(&self, spec: RuleSpec, proposal: &mut Proposal) {
        let Some(held) = self.held.get(&spec.id) else { return proposal.add.push(spec) };
        if held.spec.is_same(&spec) {
            if held.spec.enabled != spec.enabled {
                proposal.enable.push((held.key, spec.enabled));
            }
            return;
        }
        proposal.gone.push(spec.id.clone());
        proposal.remove.push(held.key);
        proposal.add.push(spec);
    }

    /// The change is made; `keys` are those of what was added.
    pub(super) fn adopt(&mut self, proposal: Proposal, keys: &[u32]) {
        self.revision = proposal.revision;
        for id in proposal.gone {
            self.held.remove(&id);
        }
        let enabled: BTreeMap<u32, bool> = proposal.enable.into_iter().collect();
        for held in self.held.values_mut() {
            held.spec.enabled = *enabled.get(&held.key).unwrap_or(&held.spec.enabled);
        }
        for (spec, &key) in proposal.add.into_iter().zip(keys) {
            self.held.insert(spec.id.clone(), ActiveRule { key, spec });
        }
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.held.contains_key(id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.held.keys().map(String::as_str)
    }
}

impl Proposal {
    /// For the relay.
    pub(super) fn change(&self) -> Change<'_> {
        Change { remove: &self.remove, add: &self.add, enable: &self.enable }
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::requests::ControlRequest;
    use super::super::messages::requests::tests::prepare;
    use super::*;

    fn rule(id: &str, replaced: &[(&str, &str)]) -> RuleSpec {
        let text = prepare(replaced).replace("\"id\":\"a\"", &format!("\"id\":\"{id}\""));
        match ControlRequest::parse(text.as_bytes()).unwrap() {
            ControlRequest::Prepare { add, .. } => add.into_iter().next().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn with(ids: &[&str]) -> Rules {
        let mut rules = Rules::default();
        let add = ids.iter().map(|id| rule(id, &[])).collect();
        let proposal = rules.propose(1, true, &[], add).unwrap();
        let keys: Vec<u32> = (10..).take(ids.len()).collect();
        rules.adopt(proposal, &keys);
        rules
    }

    fn ids(proposal: &Proposal) -> Vec<&str> {
        proposal.add.iter().map(|spec| spec.id.as_str()).collect()
    }

    #[test]
    fn a_rule_that_stays_is_not_touched_and_another_spec_replaces_it() {
        let mut rules = with(&["a", "b", "c"]);
        let disabled = [("\"enabled\":true", "\"enabled\":false")];
        let other = [("\"vlan\":0", "\"vlan\":7")];
        let index = [("\"ifindex\":1", "\"ifindex\":9")];
        let add = vec![rule("a", &disabled), rule("b", &other), rule("c", &index), rule("d", &[])];
        let proposal = rules.propose(5, false, &[], add).unwrap();
        assert_eq!(ids(&proposal), ["b", "d"]);
        assert_eq!(proposal.remove, [11]);
        assert_eq!(proposal.enable, [(10, false)]);
        rules.adopt(proposal, &[20, 21]);
        assert_eq!(
            (rules.revision, rules.ids().collect::<Vec<_>>()),
            (5, vec!["a", "b", "c", "d"])
        );
        let again = rules.propose(6, false, &[], vec![rule("a", &disabled)]).unwrap();
        assert!(again.enable.is_empty() && again.add.is_empty() && again.remove.is_empty());
    }

    #[test]
    fn what_goes_is_named_or_is_not_in_the_whole() {
        let rules = with(&["a", "b", "c"]);
        let removed = ["a".to_owned(), "b".to_owned()];
        let proposal = rules.propose(2, false, &removed, vec![rule("b", &[])]).unwrap();
        assert_eq!((proposal.remove, proposal.add.len()), (vec![10], 0));
        let proposal = rules.propose(2, true, &[], vec![rule("b", &[])]).unwrap();
        assert_eq!(proposal.remove, [10, 12]);
        let unknown = rules.propose(2, false, &["x".to_owned()], Vec::new()).unwrap_err();
        assert!(unknown.message.contains("rule x"), "{}", unknown.message);
        let twice = vec![rule("x", &[]), rule("x", &[])];
        assert!(rules.propose(2, false, &[], twice).unwrap_err().message.contains("twice"));
    }
}
