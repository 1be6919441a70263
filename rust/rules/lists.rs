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
    /// The last bits of each of them at the same place, and [`Lists::WIDTH`] words more, so that as
    /// many can be compared at once from any place.
    tails: Vec<u32>,
    /// The rule numbers for runs of several rules.
    numbers: Vec<u32>,
}

/// A range of rule numbers, or of sources, in eight bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// The start in `numbers`; for a run of one rule, the rule's number itself; for a run by
    /// source, the start in `sources`.
    first: u32,
    /// The number of rules; for a run by source, the number of listed sources, [`Run::BY_SOURCE`]
    /// and maybe [`Run::UNIFORM`].
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
    /// The bit that marks a run by source whose listed sources, all of IPv4, have the same rules.
    const UNIFORM: u32 = 1 << 30;

    #[inline]
    pub(super) const fn is_by_source(self) -> bool {
        self.count & Self::BY_SOURCE != 0
    }

    #[inline]
    const fn is_uniform(self) -> bool {
        self.count & Self::UNIFORM != 0
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
        (self.count & !(Self::BY_SOURCE | Self::UNIFORM)) as usize
    }
}

impl Lists {
    /// The number of sources that are compared at once.
    const WIDTH: usize = 8;
    /// Longer lists of sources are searched by halves.
    const FEW: usize = 4 * Self::WIDTH;

    /// The rules of a run that match this source, if any.
    #[inline]
    pub(super) fn matching<'a>(&'a self, run: &'a Run, source: Addr) -> Option<&'a [u32]> {
        let mut run = run;
        if run.is_by_source() {
            let (place, first) = (run.first as usize, run.first as usize + 1);
            if run.is_uniform() {
                if !self.has(source, first, run.len()) {
                    return self.rules_for_others(place);
                }
                run = &self.sources[first].1;
            } else {
                run = &self.sources[self.place_of(source, first, run.len()).unwrap_or(place)].1;
            }
        }
        if run.len() == 0 { None } else { Some(self.rules(run)) }
    }

    /// The rules for sources that a list does not have. A call of its own, lest the processor choose
    /// between the two results instead of predicting which one it is.
    #[cold]
    #[inline(never)]
    fn rules_for_others(&self, place: usize) -> Option<&[u32]> {
        let run = &self.sources[place].1;
        if run.len() == 0 { None } else { Some(self.rules(run)) }
    }

    /// Whether a source is among the `len` ones from `first` on, whose rules are the same. So the
    /// processor need not wait until it is known which one it is.
    #[inline]
    fn has(&self, source: Addr, first: usize, len: usize) -> bool {
        if len > Self::FEW {
            return self.place_of(source, first, len).is_some();
        }
        let tail = tail(source);
        let chunks =
            self.tails[first..][..len.next_multiple_of(Self::WIDTH)].chunks_exact(Self::WIDTH);
        // Without a branch for each; words behind the list equal its last one.
        let mut chunks =
            chunks.map(|tails| tails.iter().fold(false, |any, each| any | (*each == tail)));
        source.is_v4() && chunks.any(|is_listed| is_listed)
    }

    /// The place of a source among the `len` ones from `first` on.
    ///
    /// A search by halves guesses wrongly at each step which half is next, so few sources are
    /// compared without a branch for each.
    #[inline]
    fn place_of(&self, source: Addr, first: usize, len: usize) -> Option<usize> {
        if len > Self::FEW {
            let named = &self.sources[first..][..len];
            let found = named.binary_search_by_key(&source, |(source, _)| *source);
            return found.ok().map(|found| first + found);
        }
        let tail = tail(source);
        let mut start = first;
        while start < first + len {
            let (tails, _) = self.tails[start..].split_first_chunk::<{ Self::WIDTH }>()?;
            // A byte for each of them.
            let mut equal = u64::from_le_bytes(tails.map(|each| u8::from(each == tail)));
            // Words behind the list may equal it too.
            while equal != 0 {
                let place = start + equal.trailing_zeros() as usize / 8;
                if place < first + len && self.sources[place].0 == source {
                    return Some(place);
                }
                equal &= equal - 1;
            }
            start += Self::WIDTH;
        }
        None
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
        let mut lists = selection.by_source.values();
        let is_v4 = selection.by_source.keys().all(|source| source.is_v4());
        let same = lists.next().filter(|first| is_v4 && lists.all(|rules| rules == *first));
        let same = same.map(|rules| self.add_rules(rules));
        for (source, rules) in &selection.by_source {
            let run = same.unwrap_or_else(|| self.add_rules(rules));
            self.sources.push((*source, run));
        }
        if let Some(last) = self.sources.last().copied().filter(|_| same.is_some()) {
            let len = selection.by_source.len().next_multiple_of(Self::WIDTH);
            self.sources.resize(first as usize + 1 + len, last);
        }
        self.tails.truncate(first as usize);
        let added = &self.sources[first as usize..];
        self.tails.extend(added.iter().map(|(source, _)| tail(*source)));
        self.tails.extend([0; Self::WIDTH]);
        let marks = Run::BY_SOURCE | if same.is_some() { Run::UNIFORM } else { 0 };
        Run { first, count: marks | count(selection.by_source.len()) }
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
        (is_alone && source.is_v4()).then_some((*rule, tail(*source)))
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

/// The last bits of an address: all of an IPv4 address.
#[inline]
fn tail(address: Addr) -> u32 {
    let [.., a, b, c, d] = address.bits().to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// A length as tables store it. It never saturates: 2^31 rules do not fit into memory.
pub(super) fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Addresses of few values, many of which have the same last bits, of IPv4 or of both versions.
    fn address(highest: u128) -> impl Strategy<Value = Addr> {
        let of = |(high, low): (u128, u128)| Addr::from_bits(high << 64 | 0xffff << 32 | low);
        (0..=highest, 0..60_u128).prop_map(of)
    }

    fn lists() -> impl Strategy<Value = (Vec<BTreeSet<Addr>>, Vec<Addr>)> {
        prop::sample::select(vec![0, 3]).prop_flat_map(|highest| {
            let list = prop::collection::btree_set(address(highest), 1..50);
            (prop::collection::vec(list, 1..4), prop::collection::vec(address(3), 1..50))
        })
    }

    proptest! {
        #[test]
        fn a_source_is_found_in_a_list_of_any_length(
            (lists, asked) in lists(),
            kinds in 1..4_u32,
        ) {
            let mut compiled = Lists::default();
            let mut runs = Vec::new();
            let rule = |source: &Addr| tail(*source) % kinds;
            for sources in &lists {
                let by_source = sources.iter().map(|it| (*it, vec![rule(it), 7])).collect();
                runs.push(compiled.add(&RuleSelection { any: vec![9], by_source }));
            }
            for (run, sources) in runs.iter().zip(&lists) {
                for source in asked.iter().chain(sources) {
                    let listed = [rule(source), 7];
                    let wanted = if sources.contains(source) { &listed[..] } else { &[9] };
                    prop_assert_eq!(compiled.matching(run, *source), Some(wanted));
                }
            }
        }
    }
}
