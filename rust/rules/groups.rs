//! The groups, blocks of groups and ports that rules have on an interface, regardless of the VLAN.
//! The index explains why no rule matches a datagram, and numbers the groups.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet};

use crate::addr::Addr;
use crate::packet::{Datagram, Discard};

/// A group, or a block of groups, on an interface.
pub(super) type GroupKey = (u32, u8, Addr);

/// The number of shares of the index; a change copies only those that it affects.
const SHARES: usize = 64;

/// The groups and blocks of all rules.
#[derive(Clone, Debug)]
pub(super) struct GroupIndex {
    hasher: DefaultHashBuilder,
    shares: Box<[Arc<HashMap<GroupKey, GroupEntry>>]>,
    /// For each interface, the numbers of low bits that vary in its blocks, in ascending order.
    sizes: Arc<HashMap<u32, Box<[u8]>>>,
}

/// The entry of one group or block.
#[derive(Clone, Debug)]
struct GroupEntry {
    number: u32,
    /// Pairs of first and last port, in ascending order without duplicates.
    ports: Box<[(u16, u16)]>,
}

impl GroupIndex {
    pub(super) fn new() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            shares: vec![Arc::default(); SHARES].into(),
            sizes: Arc::default(),
        }
    }

    /// The number of the block of this size that contains the group.
    #[inline]
    pub(super) fn group(&self, interface: u32, group: Addr, bits: u8) -> Option<u32> {
        self.find(&(interface, bits, group.block(bits))).map(|named| named.number)
    }

    /// Why no rule matches a datagram, and the number of the smallest block concerned.
    pub(super) fn explain(&self, interface: u32, datagram: &Datagram) -> (Discard, Option<u32>) {
        let mut smallest = None;
        for bits in self.sizes.get(&interface).into_iter().flatten() {
            let key = (interface, *bits, datagram.group.block(*bits));
            let Some(named) = self.find(&key) else { continue };
            if named.has_port(datagram.port) {
                return (Discard::Vlan, Some(named.number));
            }
            smallest = smallest.or(Some(named.number));
        }
        (Discard::NoRule, smallest)
    }

    fn find(&self, key: &GroupKey) -> Option<&GroupEntry> {
        self.shares[self.share(key)].get(key)
    }

    fn share(&self, key: &GroupKey) -> usize {
        let [.., last] = self.hasher.hash_one(key).to_be_bytes();
        usize::from(last) % SHARES
    }
}

impl GroupEntry {
    fn has_port(&self, port: u16) -> bool {
        let after = self.ports.partition_point(|(first, _)| *first <= port);
        after > 0 && self.ports[after - 1].1 >= port
    }
}

/// The keys that the rules of a compiler use, and which of them have changed since the last table.
#[derive(Default)]
pub(super) struct GroupIndexDraft {
    groups: HashMap<GroupKey, GroupUse>,
    /// The lowest number that was never used.
    next_number: u32,
    free: Vec<u32>,
    /// The number of keys of each size on each interface.
    sizes: BTreeMap<(u32, u8), usize>,
    changed: HashSet<GroupKey>,
}

/// The first and last port of each rule that uses a key, in ascending order.
struct GroupUse {
    number: u32,
    ports: Vec<(u16, u16)>,
}

impl GroupIndexDraft {
    /// An upper bound for the numbers: all are below it.
    pub(super) fn span(&self) -> usize {
        self.next_number as usize
    }

    /// Adds the block and the ports of one rule, and returns the number of the block.
    pub(super) fn add(&mut self, key: GroupKey, ports: (u16, u16)) -> u32 {
        let Self { groups, next_number, free, sizes, changed } = self;
        let uses = groups.entry(key).or_insert_with(|| {
            let number = free.pop().unwrap_or_else(|| {
                *next_number += 1;
                *next_number - 1
            });
            *sizes.entry((key.0, key.1)).or_default() += 1;
            GroupUse { number, ports: Vec::new() }
        });
        let at = uses.ports.partition_point(|before| *before < ports);
        uses.ports.insert(at, ports);
        changed.insert(key);
        uses.number
    }

    /// Reverts one [`GroupIndexDraft::add`].
    pub(super) fn remove(&mut self, key: GroupKey, ports: (u16, u16)) {
        let Some(uses) = self.groups.get_mut(&key) else { return };
        if let Ok(at) = uses.ports.binary_search(&ports) {
            uses.ports.remove(at);
        }
        self.changed.insert(key);
        if !uses.ports.is_empty() {
            return;
        }
        self.free.push(uses.number);
        self.groups.remove(&key);
        let size = (key.0, key.1);
        if let Some(left) = self.sizes.get_mut(&size) {
            *left -= 1;
            if *left == 0 {
                self.sizes.remove(&size);
            }
        }
    }

    /// Updates a table's index with the changes.
    pub(super) fn refresh(&mut self, groups: &mut GroupIndex) {
        for key in self.changed.drain() {
            let share = groups.share(&key);
            let share = Arc::make_mut(&mut groups.shares[share]);
            match self.groups.get(&key) {
                Some(uses) => share
                    .insert(key, GroupEntry { number: uses.number, ports: merged(&uses.ports) }),
                None => share.remove(&key),
            };
        }
        let known = groups.sizes.values().map(|sizes| sizes.len()).sum::<usize>();
        let is_known = |&(interface, bits): &(u32, u8)| {
            groups.sizes.get(&interface).is_some_and(|sizes| sizes.contains(&bits))
        };
        if known == self.sizes.len() && self.sizes.keys().all(is_known) {
            return;
        }
        let mut sizes: HashMap<u32, Vec<u8>> = HashMap::new();
        for &(interface, bits) in self.sizes.keys() {
            sizes.entry(interface).or_default().push(bits);
        }
        let sizes = sizes.into_iter().map(|(interface, sizes)| (interface, sizes.into()));
        groups.sizes = Arc::new(sizes.collect());
    }
}

/// Merges port ranges that overlap.
fn merged(ports: &[(u16, u16)]) -> Box<[(u16, u16)]> {
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for &(first, last) in ports {
        match merged.last_mut() {
            Some(before) if before.1 >= first => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged.into()
}
