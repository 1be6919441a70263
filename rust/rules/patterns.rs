//! The rules for several groups or several ports: found by the block of a group and the stretch
//! of ports that a port lies in. It must not know sources: it says which runs may take a
//! datagram, in the order in which they are to be asked.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::TableRule;
use super::lists::{Lists, Run, Takers, count};
use crate::addr::Addr;
use crate::packet::Datagram;

/// An interface and a VLAN.
type VlanKey = (u32, u16);

/// The rules for several groups or ports, by interface and VLAN.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns {
    places: HashMap<VlanKey, Vec<BlockLevel>>,
}

/// The blocks of one size, smaller blocks first.
#[derive(Clone, Debug)]
struct BlockLevel {
    bits: u8,
    blocks: HashMap<Addr, Block>,
}

/// What rules name of one block; tables in which it is the same share what it holds.
#[derive(Clone, Debug)]
struct Block {
    /// The number of the block in the table.
    group: u32,
    /// In ascending order, none overlapping another.
    stretches: Arc<[PortRange]>,
    rest: Arc<WiderRuns>,
}

/// What few look-ups come to.
#[derive(Debug)]
struct WiderRuns {
    /// What the stretches' ranges point into.
    wider: Box<[Run]>,
    lists: Lists,
}

/// Ports that the same rules name.
#[derive(Debug)]
struct PortRange {
    first: u16,
    last: u16,
    /// The run of the narrowest of the rules' port ranges, which mostly is the only one: here, so
    /// that a look-up ends with what it has loaded.
    narrowest: Run,
    /// A run for each wider one, in their order.
    wider: Range<u32>,
}

/// What one block has for a port.
pub(super) struct BlockMatch<'a> {
    /// The number of the block in the table.
    pub(super) group: u32,
    narrowest: &'a Run,
    wider: &'a [Run],
    /// What the runs point into.
    pub(super) lists: &'a Lists,
}

impl<'a> BlockMatch<'a> {
    /// In the order in which they are to be asked.
    #[inline]
    pub(super) fn runs(&self) -> impl Iterator<Item = &'a Run> {
        std::iter::once(self.narrowest).chain(self.wider)
    }
}

impl Patterns {
    /// What each block has that holds the datagram's group and names its port, the smallest first.
    #[inline]
    pub(super) fn meeting(
        &self,
        interface: u32,
        datagram: &Datagram,
    ) -> impl Iterator<Item = BlockMatch<'_>> {
        let levels = self.places.get(&(interface, datagram.vlan));
        let (group, port) = (datagram.group, datagram.port);
        levels.into_iter().flatten().filter_map(move |level| {
            let block = level.blocks.get(&group.block(level.bits))?;
            let after = block.stretches.partition_point(|stretch| stretch.first <= port);
            let stretch = &block.stretches[after.checked_sub(1)?];
            let PortRange { last, narrowest, wider, .. } = stretch;
            let Block { group, rest, .. } = block;
            // Not looked at unless there are some, which spares a load.
            let wider = if wider.is_empty() {
                &[]
            } else {
                &rest.wider[wider.start as usize..wider.end as usize]
            };
            let meeting = BlockMatch { group: *group, narrowest, wider, lists: &rest.lists };
            (*last >= port).then_some(meeting)
        })
    }

    fn put(&mut self, (place, bits, address): BlockKey, block: Block) {
        let levels = self.places.entry(place).or_default();
        let at = levels.binary_search_by_key(&bits, |level| level.bits).unwrap_or_else(|at| {
            levels.insert(at, BlockLevel { bits, blocks: HashMap::new() });
            at
        });
        levels[at].blocks.insert(address, block);
    }

    fn take_out(&mut self, (place, bits, address): BlockKey) {
        let Some(levels) = self.places.get_mut(&place) else { return };
        for level in levels.iter_mut().filter(|level| level.bits == bits) {
            level.blocks.remove(&address);
        }
        levels.retain(|level| !level.blocks.is_empty());
        if levels.is_empty() {
            self.places.remove(&place);
        }
    }
}

impl Block {
    /// Of the rules of these numbers, which ascend.
    fn of(rules: &[TableRule], group: u32, numbers: &[u32]) -> Self {
        let (mut stretches, mut all) = (Vec::new(), Vec::new());
        let mut lists = Lists::default();
        cut(rules, numbers.to_vec(), |first, last, takers| {
            let mut runs = takers.iter().map(|takers| lists.add(takers));
            let Some(narrowest) = runs.next() else { return };
            let from = count(all.len());
            all.extend(runs);
            stretches.push(PortRange { first, last, narrowest, wider: from..count(all.len()) });
        });
        let rest = WiderRuns { wider: all.into(), lists };
        Self { group, stretches: stretches.into(), rest: rest.into() }
    }
}

/// Where a block is found: its place, how many low bits vary in it, and its first address.
type BlockKey = (VlanKey, u8, Addr);

/// The rules of a compiler for several groups or ports, and which blocks have changed since the
/// last table.
#[derive(Default)]
pub(super) struct PatternsDraft {
    blocks: HashMap<BlockKey, BlockDraft>,
    changed: HashSet<BlockKey>,
}

/// The numbers of the rules of one block, in ascending order.
#[derive(Default)]
struct BlockDraft {
    group: u32,
    rules: Vec<u32>,
}

impl PatternsDraft {
    /// Takes in a rule by its number and that of its block.
    pub(super) fn add(&mut self, number: u32, group: u32, rule: &TableRule) {
        let name = block_name(rule);
        let block = self.blocks.entry(name).or_default();
        block.group = group;
        let at = block.rules.partition_point(|before| *before < number);
        block.rules.insert(at, number);
        self.changed.insert(name);
    }

    /// Takes one [`PatternsDraft::add`] back.
    pub(super) fn remove(&mut self, number: u32, rule: &TableRule) {
        let name = block_name(rule);
        let Some(block) = self.blocks.get_mut(&name) else { return };
        block.rules.retain(|other| *other != number);
        if block.rules.is_empty() {
            self.blocks.remove(&name);
        }
        self.changed.insert(name);
    }

    /// Makes a table's patterns follow what has changed.
    pub(super) fn refresh(&mut self, rules: &[TableRule], patterns: &mut Arc<Patterns>) {
        if self.changed.is_empty() {
            return;
        }
        let patterns = Arc::make_mut(patterns);
        for name in self.changed.drain() {
            match self.blocks.get(&name) {
                Some(block) => patterns.put(name, Block::of(rules, block.group, &block.rules)),
                None => patterns.take_out(name),
            }
        }
    }
}

fn block_name(rule: &TableRule) -> BlockKey {
    let place = (rule.input.interface, rule.input.vlan);
    (place, rule.group_bits, rule.input.group.block(rule.group_bits))
}

/// Cuts the port ranges of one block's rules into stretches that the same rules name, in
/// ascending order, and gives each with the takers of every width, the narrowest first.
fn cut(rules: &[TableRule], mut numbers: Vec<u32>, mut give: impl FnMut(u16, u16, &[Takers])) {
    let ports = |number: u32| {
        let rule = &rules[number as usize];
        (u32::from(rule.input.port), u32::from(rule.last_port))
    };
    numbers.sort_by_key(|number| ports(*number).0);
    let edges = numbers.iter().map(|number| ports(*number)).flat_map(|(a, b)| [a, b + 1]);
    let mut edges: Vec<u32> = edges.collect();
    edges.sort_unstable();
    edges.dedup();
    let mut coming = numbers.into_iter().peekable();
    let mut here: Vec<u32> = Vec::new();
    for pair in edges.windows(2) {
        let (first, end) = (pair[0], pair[1]);
        here.retain(|number| ports(*number).1 >= first);
        while let Some(number) = coming.next_if(|number| ports(*number).0 <= first) {
            here.push(number);
        }
        if let (Ok(first), Ok(last)) = (u16::try_from(first), u16::try_from(end - 1))
            && !here.is_empty()
        {
            let width = |number: u32| ports(number).1 - ports(number).0;
            here.sort_unstable_by_key(|number| (width(*number), *number));
            let widths = here.chunk_by(|one, next| width(*one) == width(*next));
            let takers = widths.map(|numbers| Takers::of(rules, numbers));
            give(first, last, &takers.collect::<Vec<_>>());
        }
    }
}
