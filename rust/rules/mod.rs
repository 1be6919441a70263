//! The compiled rule table, which matches datagrams to rules by interface, VLAN, group, port and
//! source.
//!
//! A table is immutable; a change builds a new one from it. This module must not depend on what a
//! rule does with a datagram, or on counters.
//!
//! The most specific rules match: first those for the exact group and port, then those for smaller
//! blocks of groups before those for larger ones, and within one block those for fewer ports before
//! those for more. Rules that list sources match only these, and leave other sources to the next
//! rules.

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

/// The input of a rule.
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

/// A rule in the table; [`Compiler::add`] returns its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRule {
    /// The input; the first one for several groups or ports.
    pub input: InputKey,
    /// The number of low bits of the group that vary; 0 for a single group.
    pub group_bits: u8,
    /// The last port; the same as the first for a single port.
    pub last_port: u16,
    /// The source addresses that it matches; empty for any.
    pub sources: Box<[Addr]>,
}

/// The result of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// The numbers of the matching rules, ascending; never empty.
    Rules(&'a [u32]),
    /// No rule matches. The number is that of the datagram's group, or of the smallest block that
    /// contains it, among those that rules have on this interface.
    Discard(Discard, Option<u32>),
}

/// The reason and the group number, as in [`Verdict::Discard`].
type NoMatch = (Discard, Option<u32>);

// Converted only where a function was called, so that the verdict of a look-up without a call never
// goes through memory.
impl<'a> From<Result<&'a [u32], NoMatch>> for Verdict<'a> {
    #[inline(always)]
    fn from(found: Result<&'a [u32], NoMatch>) -> Self {
        match found {
            Ok(rules) => Self::Rules(rules),
            Err((reason, group)) => Self::Discard(reason, group),
        }
    }
}

/// The rules, prepared for one look-up per datagram.
#[derive(Clone, Debug)]
pub struct Table {
    hasher: DefaultHashBuilder,
    inputs: HashTable<TableEntry>,
    lists: Lists,
    patterns: Arc<Patterns>,
    groups: GroupIndex,
    /// The table of the disabled rules.
    disabled: Option<Arc<Self>>,
}

impl Table {
    /// A table without rules.
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

    /// Compiles rules; the number of each is its index. Several may have the same input; a
    /// duplicate source counts once.
    #[must_use]
    pub fn compile(rules: &[TableRule]) -> Arc<Self> {
        let mut compiler = Compiler::default();
        for rule in rules {
            compiler.add(rule.clone());
        }
        compiler.table()
    }

    /// The rules that match a datagram which arrived on `interface`. If rules list its source,
    /// those for any source on the same input do not match.
    // Always inlined, since it has two callers: a call costs as much as half a look-up.
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

    /// Selects by source, on an input where some rule lists sources.
    #[inline(always)]
    fn find_source<'a>(
        &'a self,
        entry: &'a TableEntry,
        interface: u32,
        datagram: &Datagram,
    ) -> Verdict<'a> {
        let rules = match entry.only_source() {
            Some(source) => (source == datagram.source).then(|| entry.run.alone()),
            None => self.lists.matching(&entry.run, datagram.source),
        };
        if let Some(rules) = rules {
            return Verdict::Rules(rules);
        }
        let refused = self.groups.group(interface, datagram.group, 0);
        self.find_pattern(interface, *datagram, refused).into()
    }

    /// Looks up the rules for several groups or ports, the most specific first. `refused` is the
    /// number of the group if rules have this group and port, but not the source. The datagram is
    /// passed by value, so that it needs to be in memory only here.
    #[inline(never)]
    fn find_pattern(
        &self,
        interface: u32,
        datagram: Datagram,
        mut refused: Option<u32>,
    ) -> Result<&[u32], NoMatch> {
        let datagram = &datagram;
        for found in self.patterns.matches(interface, datagram) {
            for run in found.runs() {
                if let Some(rules) = found.lists.matching(run, datagram.source) {
                    return Ok(rules);
                }
            }
            refused = refused.or(Some(found.group));
        }
        if self.is_for_disabled(interface, datagram) {
            return Err((Discard::Disabled, None));
        }
        if refused.is_some() {
            return Err((Discard::Source, refused));
        }
        Err(self.groups.explain(interface, datagram))
    }

    /// Whether a disabled rule would match the datagram.
    #[cold]
    fn is_for_disabled(&self, interface: u32, datagram: &Datagram) -> bool {
        let takes = |table: &Self| matches!(table.find(interface, datagram), Verdict::Rules(_));
        self.disabled.as_deref().is_some_and(takes)
    }
}

/// An input and its rules: half a cache line, aligned so that it never crosses one.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct TableEntry {
    /// The input, marked if the source decides.
    key: PackedKey,
    run: Run,
}

impl TableEntry {
    /// The source of the only rule, if that lists a single IPv4 source: it is stored in place of
    /// the run's count, so that one rule for one source is found as fast as one for any.
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
    /// Port, interface and VLAN, in this order. Port and VLAN are neighbours in a datagram; if they
    /// were here too, they would be loaded as one word right after they were stored as two, which
    /// stalls the processor for longer than the rest of a look-up takes.
    place: u64,
}

impl PackedKey {
    /// Marks of an entry, in bits not used by VLAN identifiers (IEEE 802.1Q has twelve): the source
    /// decides, and it is the only one.
    const BY_SOURCE: u64 = 1 << 15;
    const ONE_SOURCE: u64 = 1 << 14;

    /// Whether the key is that of `input`, whatever its marks.
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
