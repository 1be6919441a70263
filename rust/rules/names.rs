//! What rules name on an interface: groups, blocks of groups and their ports, whatever the VLAN.
//! It says why a datagram that no rule takes is not taken, and numbers the groups.

use hashbrown::HashMap;

use crate::addr::Addr;
use crate::packet::{Datagram, Discard};

/// A group, or a block of groups, on an interface.
type Name = (u32, u8, Addr);

/// The groups and blocks that rules name.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<Name, u32>,
    /// For each interface how many low bits vary in its blocks, in ascending order.
    sizes: HashMap<u32, Box<[u8]>>,
    /// Where the ports of each number begin, and where those of the last one end.
    starts: Box<[usize]>,
    /// First and last port: for each number in ascending order, none twice.
    ports: Box<[(u16, u16)]>,
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of the block of this size that holds the group.
    #[inline]
    pub(super) fn group(&self, interface: u32, group: Addr, bits: u8) -> Option<u32> {
        self.numbers.get(&(interface, bits, group.block(bits))).copied()
    }

    /// Why no rule fits a datagram, and the number of the smallest block that this is about.
    pub(super) fn explain(&self, interface: u32, datagram: &Datagram) -> (Discard, Option<u32>) {
        let mut smallest = None;
        for bits in self.sizes.get(&interface).into_iter().flatten() {
            let Some(number) = self.group(interface, datagram.group, *bits) else { continue };
            if self.has_port(number, datagram.port) {
                return (Discard::Vlan, Some(number));
            }
            smallest = smallest.or(Some(number));
        }
        (Discard::NoRule, smallest)
    }

    fn has_port(&self, number: u32, port: u16) -> bool {
        let number = number as usize;
        let ports = &self.ports[self.starts[number]..self.starts[number + 1]];
        let after = ports.partition_point(|(first, _)| *first <= port);
        after > 0 && ports[after - 1].1 >= port
    }
}

/// What has been read of the rules' names.
#[derive(Default)]
pub(super) struct NamesDraft {
    numbers: HashMap<Name, u32>,
    ports: Vec<(u32, u16, u16)>,
}

impl NamesDraft {
    /// Takes in one rule's block and ports, and says the number of the block.
    pub(super) fn add(&mut self, name: Name, first_port: u16, last_port: u16) -> u32 {
        let next = super::compile::count(self.numbers.len());
        let number = *self.numbers.entry(name).or_insert(next);
        self.ports.push((number, first_port, last_port));
        number
    }

    pub(super) fn finish(mut self) -> Names {
        let mut sizes: HashMap<u32, Vec<u8>> = HashMap::new();
        for (interface, bits, _) in self.numbers.keys() {
            let known = sizes.entry(*interface).or_default();
            if !known.contains(bits) {
                known.push(*bits);
                known.sort_unstable();
            }
        }
        self.ports.sort_unstable();
        let mut ports: Vec<(u16, u16)> = Vec::with_capacity(self.ports.len());
        let mut starts = vec![0];
        for of_number in self.ports.chunk_by(|one, next| one.0 == next.0) {
            let begin = ports.len();
            for (_, first, last) in of_number {
                match ports[begin..].last_mut() {
                    Some(before) if before.1 >= *first => before.1 = before.1.max(*last),
                    _ => ports.push((*first, *last)),
                }
            }
            starts.push(ports.len());
        }
        let sizes = sizes.into_iter().map(|(interface, sizes)| (interface, sizes.into()));
        Names {
            numbers: self.numbers,
            sizes: sizes.collect(),
            starts: starts.into(),
            ports: ports.into(),
        }
    }
}
