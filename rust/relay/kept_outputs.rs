//! Outputs that stay while another rule with the same input replaces theirs: their sockets, leases
//! and counters continue.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::live::{LiveOutput, LiveRule, RuleId};
use super::rule_change::Difference;
use crate::spec::OutputSpec;
use crate::stats::Slot;

/// The outputs of the rules that a change removes, until an added rule takes them.
#[derive(Default)]
pub(super) struct KeptOutputs {
    /// The rule and the position of each, by its key.
    places: HashMap<u64, (RuleId, usize)>,
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
        Self { places: places.collect() }
    }

    /// The output with this key, which no other rule takes from here on. Its rule keeps a copy, in
    /// case that the change is not made.
    pub(super) fn take(
        &mut self,
        key: u64,
        spec: &OutputSpec,
        rules: &BTreeMap<RuleId, LiveRule>,
    ) -> Option<LiveOutput> {
        let (id, place) = self.places.remove(&key)?;
        let output = rules.get(&id)?.outputs.get(place)?;
        output.is_for(key, spec).then(|| output.clone())
    }

    /// Takes the slots that added rules use out of those that removed rules have released.
    pub(super) fn keep_slots(added: &[LiveRule], released: &mut Vec<Slot>) {
        if !released.is_empty() {
            let outputs = added.iter().flat_map(|rule| &rule.outputs);
            let used: HashSet<u32> = outputs.map(|output| output.slot.index).collect();
            released.retain(|slot| !used.contains(&slot.index));
        }
    }
}
