//! A change of the rules by their ids, and its difference from the current rules.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::error::ChangeError;
use super::live::{LiveRule, RuleId};
use super::rule_edit::RuleEdit;
use crate::error::Error;
use crate::merge::MAX_LEGS;
use crate::spec::{RuleSpec, ShapingSpec, leg_id, rule_of_leg};

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
    /// Other classes and rates of interfaces; `None` for the same as before.
    pub shaping: Option<&'a ShapingSpec>,
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
    /// Other classes and rates of interfaces.
    pub(super) shaping: Option<&'a ShapingSpec>,
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
        let mut difference = Self { shaping: change.shaping, ..Self::default() };
        if let Some(fault) = change.shaping.and_then(|shaping| shaping.check().err()) {
            return Err(Error::Invalid(format!("the shaping has {fault}")).into());
        }
        let mut put = BTreeSet::new();
        let mut note = |id: &'a str| match put.insert(id) {
            true => Ok(()),
            false => Err(ChangeError::of_rule(id, "the change contains it twice")),
        };
        for spec in change.put {
            note(&spec.id)?;
            difference.put_inputs(spec, rules);
        }
        for edit in change.edit {
            note(&edit.id)?;
            let live = rules.get(edit.id.as_str());
            let live = live.ok_or_else(|| {
                ChangeError::of_rule(&edit.id, "it cannot be edited: there is no rule with this id")
            })?;
            difference.put(Cow::Owned(edit.apply(live)?), rules);
            let is_changed = |leg: &RuleId| rules[leg].enabled != edit.enabled;
            let legs = other_legs(&edit.id, rules).filter(is_changed);
            difference.enable.extend(legs.map(|leg| (leg, edit.enabled)));
        }
        let mut removed = BTreeSet::new();
        for id in change.remove {
            let known = rules.get_key_value(id.as_str());
            let (id, _) = known.ok_or_else(|| {
                ChangeError::of_rule(id, "it cannot be removed: there is no rule with this id")
            })?;
            removed.insert(id);
        }
        let legs: Vec<RuleId> = removed.iter().flat_map(|id| other_legs(id, rules)).collect();
        removed.extend(&legs);
        let is_removed = |id: &&RuleId| !put.contains(rule_of_leg(id));
        if change.whole {
            difference.remove.extend(rules.keys().filter(is_removed).cloned());
        } else {
            difference.remove.extend(removed.into_iter().filter(is_removed).cloned());
        }
        Ok(difference)
    }

    /// Puts a rule, or one for each of its inputs.
    fn put_inputs(&mut self, spec: &'a RuleSpec, rules: &BTreeMap<RuleId, LiveRule>) {
        if spec.merge.is_none() {
            return self.put(Cow::Borrowed(spec), rules);
        }
        for leg in spec.legs() {
            self.put(Cow::Owned(leg), rules);
        }
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

/// The ids under which the relay has the inputs of a rule but for the first.
fn other_legs(id: &str, rules: &BTreeMap<RuleId, LiveRule>) -> impl Iterator<Item = RuleId> {
    let legs = (1_u8..).take(MAX_LEGS - 1).map(|leg| leg_id(id, leg));
    legs.filter_map(|leg| rules.get_key_value(leg.as_str()).map(|(id, _)| id.clone()))
}
