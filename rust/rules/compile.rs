//! From a list of rules to the table.
//!
//! Owns the layout of a table's runs; runs when rules change, never for a datagram.

use std::collections::BTreeMap;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::{Entry, InputKey, Key, Run, Table, TableRule};
use crate::addr::Addr;

pub(super) fn compile(rules: &[TableRule]) -> Table {
    let mut draft = Draft {
        inputs: HashMap::with_capacity(rules.len()),
        groups: HashMap::with_capacity(rules.len()),
        group_of: Vec::with_capacity(rules.len()),
    };
    for (rule, number) in rules.iter().zip(0..) {
        draft.add(number, rule);
    }
    draft.finish()
}

/// What has been read of the rules.
struct Draft {
    inputs: HashMap<InputKey, Takers>,
    groups: HashMap<(u32, Addr), u32>,
    group_of: Vec<u32>,
}

/// The rules of one input.
#[derive(Default)]
struct Takers {
    any: Vec<u32>,
    by_source: BTreeMap<Addr, Vec<u32>>,
}

impl Draft {
    fn add(&mut self, number: u32, rule: &TableRule) {
        let next = count(self.groups.len());
        let InputKey { interface, group, .. } = rule.input;
        self.group_of.push(*self.groups.entry((interface, group)).or_insert(next));
        let takers = self.inputs.entry(rule.input).or_default();
        if rule.sources.is_empty() {
            takers.any.push(number);
        }
        for source in &rule.sources {
            let named = takers.by_source.entry(*source).or_default();
            if named.last() != Some(&number) {
                named.push(number);
            }
        }
    }

    fn finish(self) -> Table {
        let hasher = DefaultHashBuilder::default();
        let mut inputs = HashTable::with_capacity(self.inputs.len());
        let mut runs = Runs::default();
        for (input, takers) in &self.inputs {
            let key = Key::new(input.interface, input.vlan, input.group, input.port);
            let entry = Entry { key, run: runs.of_input(takers) };
            inputs.insert_unique(key.hash(&hasher), entry, |entry| entry.key.hash(&hasher));
        }
        let ports = self.inputs.keys().map(|input| (input.interface, input.group, input.port));
        Table {
            ports: ports.collect(),
            hasher,
            inputs,
            sources: runs.sources.into(),
            numbers: runs.numbers.into(),
            groups: self.groups,
            group_of: self.group_of.into(),
        }
    }
}

/// The lists that runs point into.
#[derive(Default)]
struct Runs {
    sources: Vec<(Addr, Run)>,
    numbers: Vec<u32>,
}

impl Runs {
    fn of_input(&mut self, takers: &Takers) -> Run {
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
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
