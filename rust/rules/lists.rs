//! The lists of rules and of sources that runs refer to, and the selection by source.

use std::collections::BTreeMap;
use std::slice;

use super::TableRule;
use crate::addr::Addr;

/// The storage that runs refer to.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    /// For each input that depends on the source: the run for any other source, then the listed
    /// sources in ascending order.
    sources: Vec<(Addr, Run)>,
    /// The rule numbers for runs of several rules.
    numbers: Vec<u32>,
}

/// A range of rule numbers, or of sources, in eight bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// The start in `numbers`; for a run of one rule, the rule's number itself; for a run by
    /// source, the start in `sources`.
    first: u32,
    /// The number of rules; for a run by source, the number of listed sources and
    /// [`Run::BY_SOURCE`].
    count: u32,
}

/// Equally specific rules.
#[derive(Default)]
pub(super) struct RuleSelection {
    any: Vec<u32>,
    by_source: BTreeMap<Addr, Vec<u32>>,
}

impl Run {
    /// The bit that marks a run by source.
    const BY_SOURCE: u32 = 1 << 31;

    #[inline]
    pub(super) const fn is_by_source(self) -> bool {
        self.count & Self::BY_SOURCE != 0
    }

    /// A run of one rule, with other bits in place of the count.
    pub(super) const fn of_one(rule: u32, count_bits: u32) -> Self {
        Self { first: rule, count: count_bits }
    }

    #[inline]
    pub(super) const fn count_bits(self) -> u32 {
        self.count
    }

    /// The only rule of a run, whatever its count.
    #[inline]
    pub(super) const fn alone(&self) -> &[u32] {
        slice::from_ref(&self.first)
    }

    #[inline]
    const fn len(self) -> usize {
        (self.count & !Self::BY_SOURCE) as usize
    }
}

impl Lists {
    /// The rules of a run that match this source, if any.
    #[inline]
    pub(super) fn matching<'a>(&'a self, run: &'a Run, source: Addr) -> Option<&'a [u32]> {
        let mut run = run;
        if run.is_by_source() {
            let place = run.first as usize;
            let named = &self.sources[place + 1..][..run.len()];
            run = match named.binary_search_by_key(&source, |(source, _)| *source) {
                Ok(found) => &named[found].1,
                Err(_) => &self.sources[place].1,
            };
        }
        if run.len() == 0 { None } else { Some(self.rules(run)) }
    }

    /// The rules of a run that is not by source.
    #[inline(always)]
    pub(super) fn rules<'a>(&'a self, run: &'a Run) -> &'a [u32] {
        if run.count == 1 {
            return run.alone();
        }
        &self.numbers[run.first as usize..][..run.len()]
    }

    /// The total length of the lists.
    pub(super) fn len(&self) -> usize {
        self.sources.len() + self.numbers.len()
    }

    /// Creates the run for the rules of one input.
    pub(super) fn add(&mut self, selection: &RuleSelection) -> Run {
        let others = self.add_rules(&selection.any);
        if selection.by_source.is_empty() {
            return others;
        }
        let first = count(self.sources.len());
        self.sources.push((Addr::from_bits(0), others));
        for (source, rules) in &selection.by_source {
            let run = self.add_rules(rules);
            self.sources.push((*source, run));
        }
        Run { first, count: Run::BY_SOURCE | count(selection.by_source.len()) }
    }

    fn add_rules(&mut self, rules: &[u32]) -> Run {
        if let [number] = rules {
            return Run { first: *number, count: 1 };
        }
        let first = count(self.numbers.len());
        self.numbers.extend_from_slice(rules);
        Run { first, count: count(rules.len()) }
    }
}

impl RuleSelection {
    /// The rules with these ascending numbers.
    pub(super) fn of(rules: &[TableRule], numbers: &[u32]) -> Self {
        let mut selection = Self::default();
        for number in numbers {
            selection.add(*number, &rules[*number as usize]);
        }
        selection
    }

    /// The rule and its source if there is only one of each, and the source is IPv4.
    pub(super) fn only(&self) -> Option<(u32, u32)> {
        let (source, rules) = self.by_source.first_key_value()?;
        let is_alone = self.any.is_empty() && self.by_source.len() == 1;
        let [rule] = rules.as_slice() else { return None };
        // The IPv4 address is in the last four bytes.
        let [.., a, b, c, d] = source.bits().to_be_bytes();
        (is_alone && source.is_v4()).then_some((*rule, u32::from_be_bytes([a, b, c, d])))
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

/// A length as tables store it. It never saturates: 2^31 rules do not fit into memory.
pub(super) fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
