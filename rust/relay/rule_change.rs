//! A change of the rules by their ids, and its difference from the current rules.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::error::ChangeError;
use super::live::{LiveRule, RuleId};
use super::rule_edit::RuleEdit;
use crate::spec::RuleSpec;

/// A change of the rules. A rule that stays the same keeps its sockets and counters, also if it is
/// enabled or disabled.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuleChange<'a> {
    /// The ids of rules to remove, unless `put` contains them.
    pub remove: &'a [String],
    /// Rules to add; they replace current rules with the same ids.
    pub put: &'a [RuleSpec],
    /// Current rules to put again with some other outputs.
    pub edit: &'a [RuleEdit],
    /// Whether to remove every rule that `put` and `edit` do not contain.
    pub whole: bool,
}

/// The steps of a [`RuleChange`].
#[derive(Debug, Default)]
pub(super) struct Difference<'a> {
    /// Rules to remove, including those that are replaced.
    pub(super) remove: Vec<RuleId>,
    /// Rules to add, including those that replace others.
    pub(super) add: Vec<Cow<'a, RuleSpec>>,
    /// Rules to enable (true) or disable (false).
    pub(super) enable: Vec<(RuleId, bool)>,
}

impl<'a> Difference<'a> {
    /// Compares a change with the current rules.
    ///
    /// # Errors
    /// A rule that is put twice, an unknown id to remove or edit, an invalid edit.
    pub(super) fn of(
        change: &RuleChange<'a>,
        rules: &BTreeMap<RuleId, LiveRule>,
    ) -> Result<Self, ChangeError> {
        let mut difference = Self::default();
        let mut put = BTreeSet::new();
        let mut note = |id: &'a str| match put.insert(id) {
            true => Ok(()),
            false => Err(ChangeError::of_rule(id, "the change contains it twice")),
        };
        for spec in change.put {
            note(&spec.id)?;
            difference.put(Cow::Borrowed(spec), rules);
        }
        for edit in change.edit {
            note(&edit.id)?;
            let live = rules.get(edit.id.as_str());
            let live = live.ok_or_else(|| {
                ChangeError::of_rule(&edit.id, "it cannot be edited: there is no rule with this id")
            })?;
            difference.put(Cow::Owned(edit.apply(live)?), rules);
        }
        let mut removed = BTreeSet::new();
        for id in change.remove {
            let known = rules.get_key_value(id.as_str());
            let (id, _) = known.ok_or_else(|| {
                ChangeError::of_rule(id, "it cannot be removed: there is no rule with this id")
            })?;
            removed.insert(id);
        }
        let is_removed = |id: &&RuleId| !put.contains(&***id);
        if change.whole {
            difference.remove.extend(rules.keys().filter(is_removed).cloned());
        } else {
            difference.remove.extend(removed.into_iter().filter(is_removed).cloned());
        }
        Ok(difference)
    }

    fn put(&mut self, spec: Cow<'a, RuleSpec>, rules: &BTreeMap<RuleId, LiveRule>) {
        match rules.get_key_value(spec.id.as_str()) {
            Some((id, live)) if live.matches_spec(&spec) => {
                if live.enabled != spec.enabled {
                    self.enable.push((id.clone(), spec.enabled));
                }
            }
            existing => {
                self.remove.extend(existing.map(|(id, _)| id.clone()));
                self.add.push(spec);
            }
        }
    }
}
