//! The ports that a relay uses: its sockets share them with each other, and with no other program.
//! With RFC 4961 both directions of a stream use one port.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{Ingress, InputSpec, Inputs};
use crate::spec::{Choice, OutputSpec};

/// The largest number of ports of one group with a helper for merging, a socket each.
pub(super) const MERGED_PORTS: usize = 256;
/// The largest number of ports of one local address that are kept bound, a socket each.
pub(in crate::relay) const HELD_PORTS: usize = 1024;

/// The number of outputs with each configured source port.
#[derive(Default)]
pub(super) struct SourcePorts {
    outputs: BTreeMap<u16, usize>,
}

impl SourcePorts {
    pub(super) fn add(&mut self, port: u16) {
        *self.outputs.entry(port).or_default() += 1;
    }

    /// Undoes one [`SourcePorts::add`].
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
    /// Whether this relay already uses the address and port of a unicast input: on another
    /// interface, for blocks of groups, or as the source of copies.
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

    /// Adds the source ports of outputs, which inputs may share.
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

    /// Undoes one [`Inputs::add_source_ports`].
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

    /// Whether an input's helpers are for ports alone, since it has too many groups.
    pub(in crate::relay) fn merges_by_port(&self, input: &InputSpec) -> bool {
        self.ingress == Ingress::Packet
            && input.group_bits > 0
            && usize::from(input.last_port - input.port) < MERGED_PORTS
    }
}
