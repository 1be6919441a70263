//! The ports that a relay has itself: its sockets share them with each other, and with nobody else.
//! RFC 4961 has both directions of a stream use one port. It must not know rules.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{InputSpec, Inputs};
use crate::spec::{Choice, OutputSpec};

/// Ports of one group that the kernel is asked to merge for: a socket each.
pub(super) const MERGED_PORTS: usize = 256;
/// Ports of one local address that are held: a socket each.
pub(in crate::relay) const HELD_PORTS: usize = 1024;

/// How many outputs send from each port by choice.
#[derive(Default)]
pub(super) struct SourcePorts {
    outputs: BTreeMap<u16, usize>,
}

impl SourcePorts {
    pub(super) fn add(&mut self, port: u16) {
        *self.outputs.entry(port).or_default() += 1;
    }

    /// Takes one [`SourcePorts::add`] back.
    pub(super) fn remove(&mut self, port: u16) {
        if let Some(outputs) = self.outputs.get_mut(&port) {
            *outputs -= 1;
            if *outputs == 0 {
                self.outputs.remove(&port);
            }
        }
    }

    pub(super) fn contain(&self, port: u16) -> bool {
        self.outputs.contains_key(&port)
    }
}

impl Inputs {
    /// Whether this relay has the address and port of a unicast input already: for another of its
    /// interfaces, for blocks of groups, or as what copies are sent from.
    pub(super) fn is_beside_own(&self, input: &InputSpec) -> bool {
        let &InputSpec { group, port, .. } = input;
        if group.is_multicast() || input.broadcast {
            return false;
        }
        let mut interfaces = self.interfaces.values();
        self.source_ports.contain(port)
            || self.merging.has(group.is_v4(), port)
            || interfaces.any(|interface| interface.has_endpoint(group, port))
    }

    /// Takes note of the ports that outputs send from, beside which inputs are opened.
    pub(in crate::relay) fn add_source_ports<'a>(
        &mut self,
        outputs: impl Iterator<Item = &'a OutputSpec>,
    ) {
        for output in outputs {
            if let Choice::Chosen(port) = output.source_port {
                self.source_ports.add(port);
            }
            if let Some(port) = output.mtu_port().filter(|_| self.share.is_first()) {
                self.merge_by_port(false, port..=port);
            }
        }
    }

    /// Takes one [`Inputs::add_source_ports`] back.
    pub(in crate::relay) fn remove_source_ports<'a>(
        &mut self,
        outputs: impl Iterator<Item = &'a OutputSpec>,
    ) {
        for output in outputs {
            if let Choice::Chosen(port) = output.source_port {
                self.source_ports.remove(port);
            }
            if let Some(port) = output.mtu_port().filter(|_| self.share.is_first()) {
                self.merging.remove(false, port..=port);
            }
        }
    }

    pub(super) fn merge_by_port(&mut self, v4: bool, ports: RangeInclusive<u16>) {
        let Self { interfaces, source_ports, merging, provider, warnings, .. } = self;
        let is_beside_own = |port| {
            let mut interfaces = interfaces.values();
            source_ports.contain(port)
                || interfaces.any(|interface| interface.has_local_port(v4, port))
        };
        merging.add(v4, ports, is_beside_own, &**provider, warnings);
    }

    /// Whether the kernel merges for an input by ports alone: its groups are too many.
    pub(in crate::relay) fn merges_by_port(&self, input: &InputSpec) -> bool {
        self.holds_shared_state()
            && input.group_bits > 0
            && usize::from(input.last_port - input.port) < MERGED_PORTS
    }
}
