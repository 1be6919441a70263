//! The compiled rule table: which rules take a datagram.
//!
//! Owns the matching of interface, VLAN, group, port and source. A table never changes: a new
//! one replaces it. Must not know what a rule does with a datagram, nor who counts.
//!
//! The most specific rules win: first those for the very group and port, then those for smaller
//! blocks of groups before those for larger, and of one block those for fewer ports before those
//! for more. Rules that list sources take these only, and leave the rest to the next.

mod compile;
mod names;
mod patterns;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher;
use std::slice;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::addr::Addr;
use crate::packet::{Datagram, Discard};
use names::Names;
use patterns::Patterns;

/// Where a rule listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InputKey {
    /// The kernel's interface index.
    pub interface: u32,
    /// The VLAN identifier; 0 = untagged.
    pub vlan: u16,
    /// The destination address: a group, or an address of this host.
    pub group: Addr,
    /// The destination port.
    pub port: u16,
}

/// A rule as the table sees it; its number is its index in the slice that is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRule {
    /// Where it listens; of several groups or ports the first.
    pub input: InputKey,
    /// How many low bits of the group vary; 0 for one group.
    pub group_bits: u8,
    /// The last port; the same as the first for one.
    pub last_port: u16,
    /// The senders that it takes datagrams from; empty = any.
    pub sources: Box<[Addr]>,
}

/// What the table says about a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// The numbers of the rules that take it, ascending; never empty.
    Rules(&'a [u32]),
    /// No rule takes it. The number is that of its group, or of the smallest block that holds
    /// it, among those that rules name on this interface.
    Discard(Discard, Option<u32>),
}

/// The rules, ready for one look-up a datagram.
#[derive(Debug)]
pub struct Table {
    hasher: DefaultHashBuilder,
    inputs: HashTable<Entry>,
    /// What inputs that depend on the source point into: for each of them first what any other
    /// source gets, then the named sources in ascending order.
    sources: Box<[(Addr, Run)]>,
    /// What runs of several rules point into.
    numbers: Box<[u32]>,
    patterns: Patterns,
    names: Names,
    group_of: Box<[u32]>,
    /// Rules that are there and take nothing now.
    paused: Option<Box<Self>>,
}

impl Table {
    /// Compiles rules. Several may have the same input; a source named twice counts once.
    #[must_use]
    pub fn compile(rules: &[TableRule]) -> Self {
        compile::compile(rules)
    }

    /// The same table, which knows of other rules that they are paused: what they alone would have
    /// taken is discarded as [`Discard::Paused`].
    #[must_use]
    pub fn with_paused(mut self, rules: &[TableRule]) -> Self {
        self.paused = (!rules.is_empty()).then(|| Box::new(Self::compile(rules)));
        self
    }

    /// The rules that take a datagram which arrived on `interface`. Where rules name its source,
    /// those for any source on the same input do not take it.
    // Always, since there are two places that ask: a call costs as much as half a look-up.
    #[inline(always)]
    #[must_use]
    pub fn find(&self, interface: u32, datagram: &Datagram) -> Verdict<'_> {
        let key = Key::new(interface, datagram.vlan, datagram.group, datagram.port);
        match self.inputs.find(key.hash(&self.hasher), |entry| entry.key == key) {
            Some(entry) if !entry.run.is_by_source() => Verdict::Rules(self.rules(&entry.run)),
            Some(entry) => self.find_source(&entry.run, interface, datagram),
            None => self.find_pattern(interface, datagram, None),
        }
    }

    /// How many groups and blocks of groups the rules name, each counted once an interface.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.names.len()
    }

    /// The number of a rule's group or block on its interface, below [`Table::groups`].
    ///
    /// # Panics
    ///
    /// When the table has no rule of this number.
    #[inline]
    #[must_use]
    pub fn group_of(&self, rule: u32) -> u32 {
        self.group_of[rule as usize]
    }

    /// Lets the source decide, on an input where some rule names one.
    #[inline]
    fn find_source<'a>(&'a self, run: &'a Run, interface: u32, datagram: &Datagram) -> Verdict<'a> {
        if let Some(rules) = self.takers(run, datagram.source) {
            return Verdict::Rules(rules);
        }
        self.find_pattern(interface, datagram, self.names.group(interface, datagram.group, 0))
    }

    /// Asks the rules for several groups or ports, the most specific first. `refused` is the
    /// number of the group where rules name group and port, but not the source.
    #[inline(never)]
    fn find_pattern(
        &self,
        interface: u32,
        datagram: &Datagram,
        mut refused: Option<u32>,
    ) -> Verdict<'_> {
        for (group, runs) in self.patterns.meeting(interface, datagram) {
            for run in runs {
                if let Some(rules) = self.takers(run, datagram.source) {
                    return Verdict::Rules(rules);
                }
            }
            refused = refused.or(Some(group));
        }
        if self.is_paused_for(interface, datagram) {
            return Verdict::Discard(Discard::Paused, None);
        }
        if refused.is_some() {
            return Verdict::Discard(Discard::Source, refused);
        }
        let (reason, group) = self.names.explain(interface, datagram);
        Verdict::Discard(reason, group)
    }

    /// Whether a rule that is paused would take the datagram.
    #[cold]
    fn is_paused_for(&self, interface: u32, datagram: &Datagram) -> bool {
        let takes = |table: &Self| matches!(table.find(interface, datagram), Verdict::Rules(_));
        self.paused.as_deref().is_some_and(takes)
    }

    /// The rules of a run that take datagrams of this source, if there are any.
    #[inline]
    fn takers<'a>(&'a self, run: &'a Run, source: Addr) -> Option<&'a [u32]> {
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

    #[inline]
    fn rules<'a>(&'a self, run: &'a Run) -> &'a [u32] {
        if run.count == 1 {
            return slice::from_ref(&run.first);
        }
        &self.numbers[run.first as usize..][..run.len()]
    }
}

/// An input and its rules: half a cache line, which it never shares with another line.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Entry {
    key: Key,
    run: Run,
}

/// An input in three words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    group_high: u64,
    group_low: u64,
    /// Port, interface and VLAN, in this order: port and VLAN are neighbours in a datagram, and
    /// if they were here too, they would be loaded as one word right after they were stored as
    /// two, which stalls the processor for longer than all the rest of a look-up takes.
    place: u64,
}

impl Key {
    #[inline]
    fn new(interface: u32, vlan: u16, group: Addr, port: u16) -> Self {
        let [a, b, c, d, e, f, g, h, low @ ..] = group.bits().to_be_bytes();
        Self {
            group_high: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            group_low: u64::from_be_bytes(low),
            place: u64::from(port) << 48 | u64::from(interface) << 16 | u64::from(vlan),
        }
    }

    #[inline]
    fn hash(self, hasher: &DefaultHashBuilder) -> u64 {
        hasher.hash_one((self.group_high, self.group_low, self.place))
    }
}

/// A stretch of rule numbers, or of sources, in eight bytes.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Where it starts in `numbers`; for a run of one rule, that rule's number itself; for a run
    /// by source, where it starts in `sources`.
    first: u32,
    /// How many rules; by source, how many named sources, and [`Run::BY_SOURCE`].
    count: u32,
}

impl Run {
    /// The bit that makes a run one of sources.
    const BY_SOURCE: u32 = 1 << 31;

    #[inline]
    const fn is_by_source(self) -> bool {
        self.count & Self::BY_SOURCE != 0
    }

    #[inline]
    const fn len(self) -> usize {
        (self.count & !Self::BY_SOURCE) as usize
    }
}
