//! What stays while a rule replaces another one with the same input: the sockets and counters of
//! outputs that both have, the counters of an output that only gets other options, and those of the
//! rule if it has the same id.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::live::{LiveOutput, LiveRule, RuleId};
use super::rule_change::Difference;
use crate::spec::RuleSpec;
use crate::stats::Slot;

/// The outputs of the rules that a change removes, until an added rule takes them.
#[derive(Default)]
pub(super) struct KeptOutputs {
    /// The rule and the position of each, by its key.
    places: HashMap<u64, (RuleId, usize)>,
    keeps_rules: bool,
}

impl KeptOutputs {
    /// Those that `difference` removes from these rules.
    pub(super) fn of(difference: &Difference<'_>, rules: &BTreeMap<RuleId, LiveRule>) -> Self {
        if difference.add.is_empty() {
            return Self::default();
        }
        let removed = difference.remove.iter().filter_map(|id| rules.get_key_value(id));
        let places = removed.flat_map(|(id, rule)| {
            let outputs = rule.outputs.iter().enumerate();
            outputs.map(|(place, output)| (output.key, (id.clone(), place)))
        });
        Self { places: places.collect(), keeps_rules: true }
    }

    /// Whether there is an output with this key.
    pub(super) fn has(&self, key: u64) -> bool {
        self.places.contains_key(&key)
    }

    /// The output with this key, which no other rule takes from here on.
    pub(super) fn take<'a>(
        &mut self,
        key: u64,
        rules: &'a BTreeMap<RuleId, LiveRule>,
    ) -> Option<&'a LiveOutput> {
        let (id, place) = self.places.remove(&key)?;
        rules.get(&id)?.outputs.get(place).filter(|output| output.key == key)
    }

    /// The slot of the rule that a rule with the same id and input replaces.
    pub(super) fn rule_slot(
        &self,
        spec: &RuleSpec,
        rules: &BTreeMap<RuleId, LiveRule>,
    ) -> Option<Slot> {
        let rule = rules.get(spec.id.as_str()).filter(|_| self.keeps_rules)?;
        rule.has_input(&spec.input).then_some(rule.slot)
    }

    /// Takes the slots that added rules use out of those that removed rules have released.
    pub(super) fn keep_slots(added: &[LiveRule], released: &mut Vec<Slot>) {
        if !released.is_empty() {
            let outputs = added.iter().flat_map(|rule| &rule.outputs);
            let outputs = outputs.map(|output| output.slot.index);
            let rules = added.iter().map(|rule| rule.slot.index);
            let used: HashSet<u32> = outputs.chain(rules).collect();
            released.retain(|slot| !used.contains(&slot.index));
        }
    }
}
