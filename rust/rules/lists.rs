//! The lists of rules and of sources that runs point into, and what a source decides. It must not
//! know inputs.

use std::collections::BTreeMap;
use std::slice;

use super::TableRule;
use crate::addr::Addr;

/// What runs point into.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    /// For each input that depends on the source first what any other source gets, then the named
    /// sources in ascending order.
    sources: Vec<(Addr, Run)>,
    /// What runs of several rules point into.
    numbers: Vec<u32>,
}

/// A stretch of rule numbers, or of sources, in eight bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Where it starts in `numbers`; for a run of one rule, that rule's number itself; for a run
    /// by source, where it starts in `sources`.
    first: u32,
    /// How many rules; by source, how many named sources, and [`Run::BY_SOURCE`].
    count: u32,
}

/// Rules that are equally specific.
#[derive(Default)]
pub(super) struct Takers {
    any: Vec<u32>,
    by_source: BTreeMap<Addr, Vec<u32>>,
}

impl Run {
    /// The bit that makes a run one of sources.
    const BY_SOURCE: u32 = 1 << 31;

    #[inline]
    pub(super) const fn is_by_source(self) -> bool {
        self.count & Self::BY_SOURCE != 0
    }

    /// Of one rule, with other bits in the place of the count.
    pub(super) const fn of_one(rule: u32, count_bits: u32) -> Self {
        Self { first: rule, count: count_bits }
    }

    #[inline]
    pub(super) const fn count_bits(self) -> u32 {
        self.count
    }

    /// The one rule of a run, whatever its count.
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
    /// The rules of a run that take datagrams of this source, if there are any.
    #[inline]
    pub(super) fn takers<'a>(&'a self, run: &'a Run, source: Addr) -> Option<&'a [u32]> {
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

    /// How long the lists are together.
    pub(super) fn len(&self) -> usize {
        self.sources.len() + self.numbers.len()
    }

    /// Makes a run of the takers of one input.
    pub(super) fn add(&mut self, takers: &Takers) -> Run {
        let others = self.add_rules(&takers.any);
        if takers.by_source.is_empty() {
            return others;
        }
        let first = count(self.sources.len());
        self.sources.push((Addr::from_bits(0), others));
        for (source, rules) in &takers.by_source {
            let run = self.add_rules(rules);
            self.sources.push((*source, run));
        }
        Run { first, count: Run::BY_SOURCE | count(takers.by_source.len()) }
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

impl Takers {
    /// The rules of these numbers, which ascend.
    pub(super) fn of(rules: &[TableRule], numbers: &[u32]) -> Self {
        let mut takers = Self::default();
        for number in numbers {
            takers.add(*number, &rules[*number as usize]);
        }
        takers
    }

    /// The rule and its source, where no other rule or source is named, and that is IPv4.
    pub(super) fn only(&self) -> Option<(u32, u32)> {
        let (source, rules) = self.by_source.first_key_value()?;
        let is_alone = self.any.is_empty() && self.by_source.len() == 1;
        let [rule] = rules.as_slice() else { return None };
        // The address in the last four bytes.
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

/// A length as tables hold it. The saturated value is never met: 2^31 rules do not fit into
/// memory.
pub(super) fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
