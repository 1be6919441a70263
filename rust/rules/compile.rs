//! From a list of rules to the table.
//!
//! Owns the layout of a table's runs; runs when rules change, never for a datagram.

use std::collections::BTreeMap;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::names::NamesDraft;
use super::patterns::PatternsDraft;
use super::{Entry, InputKey, Key, Run, Table, TableRule};
use crate::addr::Addr;

pub(super) fn compile(rules: &[TableRule]) -> Table {
    let mut draft = Draft {
        inputs: HashMap::with_capacity(rules.len()),
        patterns: PatternsDraft::default(),
        names: NamesDraft::default(),
        group_of: Vec::with_capacity(rules.len()),
    };
    for (rule, number) in rules.iter().zip(0..) {
        draft.add(number, rule);
    }
    draft.finish(rules)
}

/// What has been read of the rules.
struct Draft {
    inputs: HashMap<InputKey, Takers>,
    patterns: PatternsDraft,
    names: NamesDraft,
    group_of: Vec<u32>,
}

/// Rules that are equally specific.
#[derive(Default)]
pub(super) struct Takers {
    any: Vec<u32>,
    by_source: BTreeMap<Addr, Vec<u32>>,
}

impl Draft {
    fn add(&mut self, number: u32, rule: &TableRule) {
        let InputKey { interface, group, port, .. } = rule.input;
        let name = (interface, rule.group_bits, group.block(rule.group_bits));
        let block = self.names.add(name, port, rule.last_port);
        self.group_of.push(block);
        if rule.group_bits == 0 && rule.last_port == port {
            self.inputs.entry(rule.input).or_default().add(number, rule);
        } else {
            self.patterns.add(number, block, rule);
        }
    }

    fn finish(self, rules: &[TableRule]) -> Table {
        let hasher = DefaultHashBuilder::default();
        let mut inputs = HashTable::with_capacity(self.inputs.len());
        let mut runs = Runs::default();
        for (input, takers) in &self.inputs {
            let key = Key::new(input.interface, input.vlan, input.group, input.port);
            let entry = Entry { key, run: runs.of_input(takers) };
            inputs.insert_unique(key.hash(&hasher), entry, |entry| entry.key.hash(&hasher));
        }
        Table {
            patterns: self.patterns.finish(rules, &mut runs),
            hasher,
            inputs,
            sources: runs.sources.into(),
            numbers: runs.numbers.into(),
            names: self.names.finish(),
            group_of: self.group_of.into(),
            paused: None,
        }
    }
}

impl Takers {
    /// The rules of these numbers, which ascend.
    pub(super) fn of(rules: &[TableRule], numbers: &[u32]) -> Self {
        let mut takers = Self::default();
        for number in numbers {
            takers.add(*number, &rules[*number as usize]);
        }
        takers
    }

    fn add(&mut self, number: u32, rule: &TableRule) {
        if rule.sources.is_empty() {
            self.any.push(number);
        }
        for source in &rule.sources {
            let named = self.by_source.entry(*source).or_default();
            if named.last() != Some(&number) {
                named.push(number);
            }
        }
    }
}

/// The lists that runs point into.
#[derive(Default)]
pub(super) struct Runs {
    sources: Vec<(Addr, Run)>,
    numbers: Vec<u32>,
}

impl Runs {
    pub(super) fn of_input(&mut self, takers: &Takers) -> Run {
        let others = self.of_rules(&takers.any);
        if takers.by_source.is_empty() {
            return others;
        }
        let first = count(self.sources.len());
        self.sources.push((Addr::from_bits(0), others));
        for (source, rules) in &takers.by_source {
            let run = self.of_rules(rules);
            self.sources.push((*source, run));
        }
        Run { first, count: Run::BY_SOURCE | count(takers.by_source.len()) }
    }

    fn of_rules(&mut self, rules: &[u32]) -> Run {
        if let [number] = rules {
            return Run { first: *number, count: 1 };
        }
        let first = count(self.numbers.len());
        self.numbers.extend_from_slice(rules);
        Run { first, count: count(rules.len()) }
    }
}

/// A length as tables hold it. The saturated value is never met: 2^31 rules do not fit into
/// memory.
pub(super) fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
