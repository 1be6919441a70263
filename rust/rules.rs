//! The compiled rule table: which rules take a datagram.
//!
//! Owns the matching of interface, VLAN, group, port and source. A table never changes: a new
//! one replaces it. Must not know what a rule does with a datagram, nor who counts.

use hashbrown::{HashMap, HashSet};

use crate::addr::Addr;
use crate::packet::{Datagram, Discard};

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
    /// Where it listens.
    pub input: InputKey,
    /// The senders that it takes datagrams from; empty = any.
    pub sources: Box<[Addr]>,
}

/// What the table says about a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// The numbers of the rules that take it, ascending; never empty.
    Rules(&'a [u32]),
    /// No rule takes it. The number is that of its group on this interface, where some rule
    /// names the group.
    Discard(Discard, Option<u32>),
}

/// The rules, ready for one look-up a datagram.
#[derive(Debug)]
pub struct Table {
    inputs: HashMap<Key, Run>,
    /// The rules of one input for one source; the first part is the input's place in `others`.
    sources: HashMap<(u32, Addr), Run>,
    /// The rules without sources of the inputs that have a rule with sources.
    others: Box<[Run]>,
    /// Every (interface, group, port), to tell a wrong VLAN from a wrong port.
    ports: HashSet<(u32, Addr, u16)>,
    groups: HashMap<(u32, Addr), u32>,
    group_of: Box<[u32]>,
    /// What runs point into.
    numbers: Box<[u32]>,
}

impl Table {
    /// Compiles rules. Several may have the same input; a source named twice counts once.
    #[must_use]
    pub fn compile(rules: &[TableRule]) -> Self {
        let mut table = Draft::default();
        for (rule, number) in rules.iter().zip(0..) {
            table.add(number, rule);
        }
        table.finish()
    }

    /// The rules that take a datagram which arrived on `interface`. Rules that name its source
    /// come before rules for any source on the same input.
    #[inline]
    #[must_use]
    pub fn find(&self, interface: u32, datagram: &Datagram) -> Verdict<'_> {
        let key = Key::new(interface, datagram.vlan, datagram.group, datagram.port);
        match self.inputs.get(&key) {
            Some(run) if !run.is_empty() => Verdict::Rules(self.numbers(*run)),
            Some(run) => self.find_source(run.first, interface, datagram),
            None => self.explain(interface, datagram),
        }
    }

    /// How many groups the rules name, each counted once an interface.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The number of a rule's group on its interface, below [`Table::groups`].
    ///
    /// # Panics
    ///
    /// When the table has no rule of this number.
    #[inline]
    #[must_use]
    pub fn group_of(&self, rule: u32) -> u32 {
        self.group_of[rule as usize]
    }

    fn find_source(&self, place: u32, interface: u32, datagram: &Datagram) -> Verdict<'_> {
        let named = self.sources.get(&(place, datagram.source));
        let run = *named.unwrap_or(&self.others[place as usize]);
        if run.is_empty() {
            return Verdict::Discard(Discard::Source, self.group(interface, datagram.group));
        }
        Verdict::Rules(self.numbers(run))
    }

    /// Says why no input fits.
    #[inline(never)]
    fn explain(&self, interface: u32, datagram: &Datagram) -> Verdict<'_> {
        let group = self.group(interface, datagram.group);
        let known =
            group.is_some() && self.ports.contains(&(interface, datagram.group, datagram.port));
        Verdict::Discard(if known { Discard::Vlan } else { Discard::NoRule }, group)
    }

    fn group(&self, interface: u32, group: Addr) -> Option<u32> {
        self.groups.get(&(interface, group)).copied()
    }

    #[inline]
    fn numbers(&self, run: Run) -> &[u32] {
        let first = run.first as usize;
        &self.numbers[first..first + run.count as usize]
    }
}

/// An input in three words: with its run an entry fills half a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    group_high: u64,
    group_low: u64,
    place: u64,
}

impl Key {
    #[inline]
    fn new(interface: u32, vlan: u16, group: Addr, port: u16) -> Self {
        let [a, b, c, d, e, f, g, h, low @ ..] = group.bits().to_ne_bytes();
        Self {
            group_high: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            group_low: u64::from_ne_bytes(low),
            place: u64::from(interface) << 32 | u64::from(vlan) << 16 | u64::from(port),
        }
    }
}

/// A stretch of the table's numbers. An empty one in `inputs` says that sources decide; its
/// `first` is then a place in `others`.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    first: u32,
    count: u32,
}

impl Run {
    #[inline]
    const fn is_empty(self) -> bool {
        self.count == 0
    }
}

/// The rules of one input while the table is compiled.
#[derive(Default)]
struct Takers {
    any: Vec<u32>,
    by_source: HashMap<Addr, Vec<u32>>,
}

/// A table that is being compiled.
#[derive(Default)]
struct Draft {
    inputs: HashMap<InputKey, Takers>,
    groups: HashMap<(u32, Addr), u32>,
    group_of: Vec<u32>,
    numbers: Vec<u32>,
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

    fn finish(mut self) -> Table {
        let mut inputs = HashMap::with_capacity(self.inputs.len());
        let mut sources = HashMap::new();
        let mut others = Vec::new();
        let mut ports = HashSet::new();
        for (input, takers) in std::mem::take(&mut self.inputs) {
            let InputKey { interface, vlan, group, port } = input;
            ports.insert((interface, group, port));
            let mut run = self.run(&takers.any);
            if !takers.by_source.is_empty() {
                let place = count(others.len());
                others.push(run);
                run = Run { first: place, count: 0 };
                for (source, named) in takers.by_source {
                    sources.insert((place, source), self.run(&named));
                }
            }
            inputs.insert(Key::new(interface, vlan, group, port), run);
        }
        Table {
            inputs,
            sources,
            others: others.into(),
            ports,
            groups: self.groups,
            group_of: self.group_of.into(),
            numbers: self.numbers.into(),
        }
    }

    fn run(&mut self, numbers: &[u32]) -> Run {
        let first = count(self.numbers.len());
        self.numbers.extend_from_slice(numbers);
        Run { first, count: count(numbers.len()) }
    }
}

/// A length as tables hold it: 2^32 rules do not fit into memory.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
