//! A change of the rules by their ids, and what it differs in from the rules that run.

use std::collections::{BTreeMap, BTreeSet};

use super::error::ChangeError;
use super::live::{LiveRule, RuleId};
use crate::error::Error;
use crate::spec::RuleSpec;

/// A change of the rules. A rule that runs already and shall be the same is not touched, and keeps
/// its sockets and counters; one that is only enabled or disabled keeps them too.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuleChange<'a> {
    /// The ids of rules that go, unless `put` has them.
    pub remove: &'a [String],
    /// Rules that come, or replace those of the same ids.
    pub put: &'a [RuleSpec],
    /// Whether every rule goes that `put` does not have.
    pub whole: bool,
}

/// What has to be done for a [`RuleChange`].
#[derive(Debug, Default)]
pub(super) struct Difference<'a> {
    /// Rules that go, or are replaced.
    pub(super) remove: Vec<RuleId>,
    /// Rules that come, or replace others.
    pub(super) add: Vec<&'a RuleSpec>,
    /// Rules that take what comes from now on (true), or nothing (false).
    pub(super) enable: Vec<(RuleId, bool)>,
}

impl<'a> Difference<'a> {
    /// # Errors
    /// A rule that is put twice, or is to go and does not run.
    pub(super) fn of(
        change: &RuleChange<'a>,
        rules: &BTreeMap<RuleId, LiveRule>,
    ) -> Result<Self, ChangeError> {
        let mut difference = Self::default();
        let mut put = BTreeSet::new();
        for spec in change.put {
            if !put.insert(&*spec.id) {
                return Err(refused(&spec.id, "it is there twice"));
            }
            difference.put(spec, rules);
        }
        for id in change.remove {
            if !rules.contains_key(id.as_str()) {
                return Err(refused(id, "it is to go and is not there"));
            }
        }
        let removed: BTreeSet<&str> = change.remove.iter().map(String::as_str).collect();
        let goes =
            |id: &&RuleId| !put.contains(&***id) && (change.whole || removed.contains(&***id));
        difference.remove.extend(rules.keys().filter(goes).cloned());
        Ok(difference)
    }

    fn put(&mut self, spec: &'a RuleSpec, rules: &BTreeMap<RuleId, LiveRule>) {
        match rules.get_key_value(spec.id.as_str()) {
            Some((id, live)) if live.matches_spec(spec) => {
                if live.enabled != spec.enabled {
                    self.enable.push((id.clone(), spec.enabled));
                }
            }
            running => {
                self.remove.extend(running.map(|(id, _)| id.clone()));
                self.add.push(spec);
            }
        }
    }
}

fn refused(id: &str, text: &str) -> ChangeError {
    ChangeError { rule: Some(id.to_owned()), error: Error::Invalid(text.to_owned()) }
}
