//! The compiled rule table: which rules take a datagram.
//!
//! Owns the matching of interface, VLAN, group, port and source. A table never changes: a new
//! one, made of the one before, replaces it. Must not know what a rule does with a datagram, nor who counts.
//!
//! The most specific rules win: first those for the very group and port, then those for smaller
//! blocks of groups before those for larger, and of one block those for fewer ports before those
//! for more. Rules that list sources take these only, and leave the rest to the next.

mod compile;
mod groups;
mod lists;
mod patterns;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::addr::Addr;
use crate::packet::{Datagram, Discard};
pub use compile::Compiler;
use groups::GroupIndex;
use lists::{Lists, Run};
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

/// A rule as the table sees it; its number is what [`Compiler::add`] says.
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

/// Why no rule takes a datagram, as in [`Verdict::Discard`].
type NoMatch = (Discard, Option<u32>);

// Made of what a call answers only where that is called, so that the verdict of a look-up without
// one is never in memory.
impl<'a> From<Result<&'a [u32], NoMatch>> for Verdict<'a> {
    #[inline(always)]
    fn from(found: Result<&'a [u32], NoMatch>) -> Self {
        match found {
            Ok(rules) => Self::Rules(rules),
            Err((reason, group)) => Self::Discard(reason, group),
        }
    }
}

/// The rules, ready for one look-up a datagram.
#[derive(Clone, Debug)]
pub struct Table {
    hasher: DefaultHashBuilder,
    inputs: HashTable<TableEntry>,
    lists: Lists,
    patterns: Arc<Patterns>,
    groups: GroupIndex,
    /// Rules that are there and disabled.
    disabled: Option<Arc<Self>>,
}

impl Table {
    /// Without rules.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            inputs: HashTable::new(),
            lists: Lists::default(),
            patterns: Arc::default(),
            groups: GroupIndex::new(),
            disabled: None,
        }
    }

    /// Compiles rules; the number of each is its index. Several may have the same input; a source
    /// named twice counts once.
    #[must_use]
    pub fn compile(rules: &[TableRule]) -> Arc<Self> {
        let mut compiler = Compiler::default();
        for rule in rules {
            compiler.add(rule.clone());
        }
        compiler.table()
    }

    /// The rules that take a datagram which arrived on `interface`. Where rules name its source,
    /// those for any source on the same input do not take it.
    // Always, since there are two places that ask: a call costs as much as half a look-up.
    #[inline(always)]
    #[must_use]
    pub fn find(&self, interface: u32, datagram: &Datagram) -> Verdict<'_> {
        let key = PackedKey::new(interface, datagram.vlan, datagram.group, datagram.port);
        match self.inputs.find(key.hash(&self.hasher), |entry| entry.key.is_of(&key)) {
            Some(entry) if entry.key == key => Verdict::Rules(self.lists.rules(&entry.run)),
            Some(entry) => self.find_source(entry, interface, datagram),
            None => self.find_pattern(interface, *datagram, None).into(),
        }
    }

    /// Lets the source decide, on an input where some rule names one.
    #[inline(always)]
    fn find_source<'a>(
        &'a self,
        entry: &'a TableEntry,
        interface: u32,
        datagram: &Datagram,
    ) -> Verdict<'a> {
        let takers = match entry.only_source() {
            Some(source) => (source == datagram.source).then(|| entry.run.alone()),
            None => self.lists.takers(&entry.run, datagram.source),
        };
        if let Some(rules) = takers {
            return Verdict::Rules(rules);
        }
        let refused = self.groups.group(interface, datagram.group, 0);
        self.find_pattern(interface, *datagram, refused).into()
    }

    /// Asks the rules for several groups or ports, the most specific first. `refused` is the
    /// number of the group where rules name group and port, but not the source. The datagram is a
    /// copy, so that only here it must lie in memory.
    #[inline(never)]
    fn find_pattern(
        &self,
        interface: u32,
        datagram: Datagram,
        mut refused: Option<u32>,
    ) -> Result<&[u32], NoMatch> {
        let datagram = &datagram;
        for meeting in self.patterns.meeting(interface, datagram) {
            for run in meeting.runs() {
                if let Some(rules) = meeting.lists.takers(run, datagram.source) {
                    return Ok(rules);
                }
            }
            refused = refused.or(Some(meeting.group));
        }
        if self.is_for_disabled(interface, datagram) {
            return Err((Discard::Disabled, None));
        }
        if refused.is_some() {
            return Err((Discard::Source, refused));
        }
        Err(self.groups.explain(interface, datagram))
    }

    /// Whether a disabled rule would take the datagram.
    #[cold]
    fn is_for_disabled(&self, interface: u32, datagram: &Datagram) -> bool {
        let takes = |table: &Self| matches!(table.find(interface, datagram), Verdict::Rules(_));
        self.disabled.as_deref().is_some_and(takes)
    }
}

/// An input and its rules: half a cache line, which it never shares with another line.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct TableEntry {
    /// Marked where the source decides.
    key: PackedKey,
    run: Run,
}

impl TableEntry {
    /// The source of the one rule that takes anything, where that is IPv4: then it stands in the
    /// place of the run's count, so that one rule for one source is found as fast as one for any.
    #[inline]
    fn only_source(&self) -> Option<Addr> {
        let is_alone = self.key.place & PackedKey::ONE_SOURCE != 0;
        is_alone.then(|| Addr::v4(self.run.count_bits().to_be_bytes()))
    }
}

/// An input in three words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PackedKey {
    group_high: u64,
    group_low: u64,
    /// Port, interface and VLAN, in this order: port and VLAN are neighbours in a datagram, and
    /// if they were here too, they would be loaded as one word right after they were stored as
    /// two, which stalls the processor for longer than all the rest of a look-up takes.
    place: u64,
}

impl PackedKey {
    /// Marks of an entry, in bits that VLAN identifiers leave (IEEE 802.1Q has twelve): the source
    /// decides, and it is the only one.
    const BY_SOURCE: u64 = 1 << 15;
    const ONE_SOURCE: u64 = 1 << 14;

    /// Whether it is that of an input, whatever its marks.
    #[inline]
    fn is_of(&self, input: &Self) -> bool {
        self.unmarked() == *input
    }

    #[inline]
    fn unmarked(self) -> Self {
        Self { place: self.place & !(Self::BY_SOURCE | Self::ONE_SOURCE), ..self }
    }

    fn marked(self, marks: u64) -> Self {
        Self { place: self.place | marks, ..self }
    }

    #[inline]
    fn new(interface: u32, vlan: u16, group: Addr, port: u16) -> Self {
        let [a, b, c, d, e, f, g, h, low @ ..] = group.bits().to_be_bytes();
        Self {
            group_high: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            group_low: u64::from_be_bytes(low),
            place: u64::from(port) << 48 | u64::from(interface) << 16 | u64::from(vlan),
        }
    }

    fn of(input: InputKey) -> Self {
        Self::new(input.interface, input.vlan, input.group, input.port)
    }

    #[inline]
    fn hash(self, hasher: &DefaultHashBuilder) -> u64 {
        hasher.hash_one((self.group_high, self.group_low, self.place))
    }
}
