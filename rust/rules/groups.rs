//! What rules name on an interface: groups, blocks of groups and their ports, whatever the VLAN.
//! It says why a datagram that no rule takes is not taken, and numbers the groups.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet};

use crate::addr::Addr;
use crate::packet::{Datagram, Discard};

/// A group, or a block of groups, on an interface.
pub(super) type GroupKey = (u32, u8, Addr);

/// So many shares the names are kept in: a change copies those that it touches.
const SHARES: usize = 64;

/// The groups and blocks that rules name.
#[derive(Clone, Debug)]
pub(super) struct GroupIndex {
    hasher: DefaultHashBuilder,
    shares: Box<[Arc<HashMap<GroupKey, GroupEntry>>]>,
    /// For each interface how many low bits vary in its blocks, in ascending order.
    sizes: Arc<HashMap<u32, Box<[u8]>>>,
}

/// What is said of one group or block.
#[derive(Clone, Debug)]
struct GroupEntry {
    number: u32,
    /// First and last port, in ascending order, none twice.
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

    /// The number of the block of this size that holds the group.
    #[inline]
    pub(super) fn group(&self, interface: u32, group: Addr, bits: u8) -> Option<u32> {
        self.find(&(interface, bits, group.block(bits))).map(|named| named.number)
    }

    /// Why no rule fits a datagram, and the number of the smallest block that this is about.
    pub(super) fn explain(&self, interface: u32, datagram: &Datagram) -> (Discard, Option<u32>) {
        let mut smallest = None;
        for bits in self.sizes.get(&interface).into_iter().flatten() {
            let name = (interface, *bits, datagram.group.block(*bits));
            let Some(named) = self.find(&name) else { continue };
            if named.has_port(datagram.port) {
                return (Discard::Vlan, Some(named.number));
            }
            smallest = smallest.or(Some(named.number));
        }
        (Discard::NoRule, smallest)
    }

    fn find(&self, name: &GroupKey) -> Option<&GroupEntry> {
        self.shares[self.share(name)].get(name)
    }

    fn share(&self, name: &GroupKey) -> usize {
        let [.., last] = self.hasher.hash_one(name).to_be_bytes();
        usize::from(last) % SHARES
    }
}

impl GroupEntry {
    fn has_port(&self, port: u16) -> bool {
        let after = self.ports.partition_point(|(first, _)| *first <= port);
        after > 0 && self.ports[after - 1].1 >= port
    }
}

/// The names that the rules of a compiler use, and which have changed since the last table.
#[derive(Default)]
pub(super) struct GroupIndexDraft {
    groups: HashMap<GroupKey, GroupUse>,
    /// Numbers from here on were never given away.
    fresh: u32,
    free: Vec<u32>,
    /// How many names there are of each size on each interface.
    sizes: BTreeMap<(u32, u8), usize>,
    changed: HashSet<GroupKey>,
}

/// The first and last port of each rule that uses a name, in ascending order.
struct GroupUse {
    number: u32,
    ports: Vec<(u16, u16)>,
}

impl GroupIndexDraft {
    /// All numbers are below.
    pub(super) fn span(&self) -> usize {
        self.fresh as usize
    }

    /// Takes in one rule's block and ports, and says the number of the block.
    pub(super) fn add(&mut self, name: GroupKey, ports: (u16, u16)) -> u32 {
        let Self { groups, fresh, free, sizes, changed } = self;
        let uses = groups.entry(name).or_insert_with(|| {
            let number = free.pop().unwrap_or_else(|| {
                *fresh += 1;
                *fresh - 1
            });
            *sizes.entry((name.0, name.1)).or_default() += 1;
            GroupUse { number, ports: Vec::new() }
        });
        let at = uses.ports.partition_point(|before| *before < ports);
        uses.ports.insert(at, ports);
        changed.insert(name);
        uses.number
    }

    /// Takes one [`GroupIndexDraft::add`] back.
    pub(super) fn remove(&mut self, name: GroupKey, ports: (u16, u16)) {
        let Some(uses) = self.groups.get_mut(&name) else { return };
        if let Ok(at) = uses.ports.binary_search(&ports) {
            uses.ports.remove(at);
        }
        self.changed.insert(name);
        if !uses.ports.is_empty() {
            return;
        }
        self.free.push(uses.number);
        self.groups.remove(&name);
        let size = (name.0, name.1);
        if let Some(left) = self.sizes.get_mut(&size) {
            *left -= 1;
            if *left == 0 {
                self.sizes.remove(&size);
            }
        }
    }

    /// Makes a table's names follow what has changed.
    pub(super) fn refresh(&mut self, groups: &mut GroupIndex) {
        for name in self.changed.drain() {
            let share = groups.share(&name);
            let share = Arc::make_mut(&mut groups.shares[share]);
            match self.groups.get(&name) {
                Some(uses) => share
                    .insert(name, GroupEntry { number: uses.number, ports: merged(&uses.ports) }),
                None => share.remove(&name),
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

/// The same ports in as few ranges as overlap nowhere.
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
