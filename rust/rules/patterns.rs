//! The rules for several groups or ports, found by the block of a group and the range that contains
//! the port. This module does not look at sources: it returns the runs that may match a datagram,
//! in the order of their precedence.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::TableRule;
use super::lists::{Lists, RuleSelection, Run, count};
use crate::addr::Addr;
use crate::packet::Datagram;

/// An interface and a VLAN.
type VlanKey = (u32, u16);

/// The rules for several groups or ports, by interface and VLAN.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns {
    places: HashMap<VlanKey, Vec<BlockLevel>>,
}

/// The blocks of one size; levels are sorted by size, smallest first.
#[derive(Clone, Debug)]
struct BlockLevel {
    bits: u8,
    blocks: HashMap<Addr, Block>,
}

/// The rules of one block; tables share the content of an unchanged block.
#[derive(Clone, Debug)]
struct Block {
    /// The number of the block in the table.
    group: u32,
    /// In ascending order, without overlaps.
    ranges: Arc<[PortRange]>,
    rest: Arc<WiderRuns>,
}

/// The data that few look-ups need.
#[derive(Debug)]
struct WiderRuns {
    /// The runs that the ranges refer to.
    wider: Box<[Run]>,
    lists: Lists,
}

/// A range of ports for which the same rules match.
#[derive(Debug)]
struct PortRange {
    first: u16,
    last: u16,
    /// The run of the rules with the narrowest port range, which is mostly the only one. It is
    /// stored here, so that a look-up needs no further load.
    narrowest: Run,
    /// A run for each wider range, in ascending width.
    wider: Range<u32>,
}

/// The runs of one block for a port.
pub(super) struct BlockMatch<'a> {
    /// The number of the block in the table.
    pub(super) group: u32,
    narrowest: &'a Run,
    wider: &'a [Run],
    /// The lists that the runs refer to.
    pub(super) lists: &'a Lists,
}

impl<'a> BlockMatch<'a> {
    /// The runs in order of precedence.
    #[inline]
    pub(super) fn runs(&self) -> impl Iterator<Item = &'a Run> {
        std::iter::once(self.narrowest).chain(self.wider)
    }
}

impl Patterns {
    /// The match of each block that contains the datagram's group and has its port, the smallest
    /// first.
    #[inline]
    pub(super) fn matches(
        &self,
        interface: u32,
        datagram: &Datagram,
    ) -> impl Iterator<Item = BlockMatch<'_>> {
        let levels = self.places.get(&(interface, datagram.vlan));
        let (group, port) = (datagram.group, datagram.port);
        levels.into_iter().flatten().filter_map(move |level| {
            let block = level.blocks.get(&group.block(level.bits))?;
            let after = block.ranges.partition_point(|range| range.first <= port);
            let range = &block.ranges[after.checked_sub(1)?];
            let PortRange { last, narrowest, wider, .. } = range;
            let Block { group, rest, .. } = block;
            // Loaded only if there are any.
            let wider = if wider.is_empty() {
                &[]
            } else {
                &rest.wider[wider.start as usize..wider.end as usize]
            };
            let found = BlockMatch { group: *group, narrowest, wider, lists: &rest.lists };
            (*last >= port).then_some(found)
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

    fn remove_block(&mut self, (place, bits, address): BlockKey) {
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
    /// The block of the rules with these ascending numbers.
    fn of(rules: &[TableRule], group: u32, numbers: &[u32]) -> Self {
        let (mut ranges, mut all) = (Vec::new(), Vec::new());
        let mut lists = Lists::default();
        split(rules, numbers.to_vec(), |first, last, selections| {
            let mut runs = selections.iter().map(|selection| lists.add(selection));
            let Some(narrowest) = runs.next() else { return };
            let from = count(all.len());
            all.extend(runs);
            ranges.push(PortRange { first, last, narrowest, wider: from..count(all.len()) });
        });
        let rest = WiderRuns { wider: all.into(), lists };
        Self { group, ranges: ranges.into(), rest: rest.into() }
    }
}

/// The key of a block: interface and VLAN, the number of low bits that vary, and its first address.
type BlockKey = (VlanKey, u8, Addr);

/// The rules of a compiler for several groups or ports, and the blocks that have changed since the
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
    /// Adds a rule, given with its number and that of its block.
    pub(super) fn add(&mut self, number: u32, group: u32, rule: &TableRule) {
        let name = block_key(rule);
        let block = self.blocks.entry(name).or_default();
        block.group = group;
        let at = block.rules.partition_point(|before| *before < number);
        block.rules.insert(at, number);
        self.changed.insert(name);
    }

    /// Reverts one [`PatternsDraft::add`].
    pub(super) fn remove(&mut self, number: u32, rule: &TableRule) {
        let name = block_key(rule);
        let Some(block) = self.blocks.get_mut(&name) else { return };
        block.rules.retain(|other| *other != number);
        if block.rules.is_empty() {
            self.blocks.remove(&name);
        }
        self.changed.insert(name);
    }

    /// Updates a table's patterns with the changes.
    pub(super) fn refresh(&mut self, rules: &[TableRule], patterns: &mut Arc<Patterns>) {
        if self.changed.is_empty() {
            return;
        }
        let patterns = Arc::make_mut(patterns);
        for name in self.changed.drain() {
            match self.blocks.get(&name) {
                Some(block) => patterns.put(name, Block::of(rules, block.group, &block.rules)),
                None => patterns.remove_block(name),
            }
        }
    }
}

fn block_key(rule: &TableRule) -> BlockKey {
    let place = (rule.input.interface, rule.input.vlan);
    (place, rule.group_bits, rule.input.group.block(rule.group_bits))
}

/// Splits the port ranges of one block's rules into ascending ranges with the same rules, and
/// passes each with the rules of every width, the narrowest first, to `emit`.
fn split(
    rules: &[TableRule],
    mut numbers: Vec<u32>,
    mut emit: impl FnMut(u16, u16, &[RuleSelection]),
) {
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
            let selections = widths.map(|numbers| RuleSelection::of(rules, numbers));
            emit(first, last, &selections.collect::<Vec<_>>());
        }
    }
}
