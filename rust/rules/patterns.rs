//! The rules for several groups or several ports: found by the block of a group and the stretch
//! of ports that a port lies in. It must not know sources: it says which runs may take a
//! datagram, in the order in which they are to be asked.

use std::collections::BTreeMap;
use std::ops::Range;

use hashbrown::HashMap;

use super::compile::{Runs, Takers};
use super::{Run, TableRule};
use crate::addr::Addr;
use crate::packet::Datagram;

/// The rules for several groups or ports, by interface and VLAN.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    places: HashMap<(u32, u16), Box<[Level]>>,
    stretches: Box<[Stretch]>,
    runs: Box<[Run]>,
}

/// The blocks of one size, smaller blocks first.
#[derive(Debug)]
struct Level {
    bits: u8,
    blocks: HashMap<Addr, Block>,
}

#[derive(Debug)]
struct Block {
    /// The number of the block in the table.
    group: u32,
    /// Its stretches, in ascending order, none overlapping another.
    stretches: Range<usize>,
}

/// Ports that the same rules name.
#[derive(Debug)]
struct Stretch {
    first: u16,
    last: u16,
    /// A run for each width of the rules' port ranges, the narrowest first.
    runs: Range<usize>,
}

impl Patterns {
    /// For each block that holds the datagram's group and names its port, the smallest first:
    /// the block's number, and its runs in the order in which they are to be asked.
    #[inline]
    pub(super) fn meeting(
        &self,
        interface: u32,
        datagram: &Datagram,
    ) -> impl Iterator<Item = (u32, &[Run])> {
        let levels = self.places.get(&(interface, datagram.vlan));
        let (group, port) = (datagram.group, datagram.port);
        levels.into_iter().flatten().filter_map(move |level| {
            let block = level.blocks.get(&group.block(level.bits))?;
            let stretches = &self.stretches[block.stretches.clone()];
            let after = stretches.partition_point(|stretch| stretch.first <= port);
            let stretch = &stretches[after.checked_sub(1)?];
            (stretch.last >= port).then(|| (block.group, &self.runs[stretch.runs.clone()]))
        })
    }
}

/// The numbers of the rules of one block.
#[derive(Default)]
struct BlockDraft {
    group: u32,
    rules: Vec<u32>,
}

/// What has been read of the rules for several groups or ports.
#[derive(Default)]
pub(super) struct PatternsDraft {
    places: BTreeMap<(u32, u16), BTreeMap<u8, BTreeMap<Addr, BlockDraft>>>,
}

impl PatternsDraft {
    /// Takes in a rule by its number and that of its block.
    pub(super) fn add(&mut self, number: u32, group: u32, rule: &TableRule) {
        let place = (rule.input.interface, rule.input.vlan);
        let level = self.places.entry(place).or_default().entry(rule.group_bits).or_default();
        let block = level.entry(rule.input.group.block(rule.group_bits)).or_default();
        block.group = group;
        block.rules.push(number);
    }

    pub(super) fn finish(self, rules: &[TableRule], lists: &mut Runs) -> Patterns {
        let (mut stretches, mut runs) = (Vec::new(), Vec::new());
        let mut places = HashMap::with_capacity(self.places.len());
        for (place, levels) in self.places {
            let mut of_place = Vec::with_capacity(levels.len());
            for (bits, drafts) in levels {
                let mut blocks = HashMap::with_capacity(drafts.len());
                for (address, draft) in drafts {
                    let begin = stretches.len();
                    cut(rules, draft.rules, |first, last, takers| {
                        let from = runs.len();
                        runs.extend(takers.iter().map(|takers| lists.of_input(takers)));
                        stretches.push(Stretch { first, last, runs: from..runs.len() });
                    });
                    let stretches = begin..stretches.len();
                    blocks.insert(address, Block { group: draft.group, stretches });
                }
                of_place.push(Level { bits, blocks });
            }
            places.insert(place, of_place.into());
        }
        Patterns { places, stretches: stretches.into(), runs: runs.into() }
    }
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
