//! Estimates the number of descriptors that a change needs, before anything is opened.

use std::borrow::Cow;
use std::collections::HashSet;

use super::HELD_PORTS;
use crate::relay::{Ingress, Settings};
use crate::spec::OutputSpec;
use crate::spec::{InputSpec, Join, RuleSpec};

/// IPv4 memberships of one socket: the kernel's default of net.ipv4.igmp_max_memberships.
const JOINS_PER_SOCKET: usize = 20;
/// Sources of one group on one socket: the kernel's default of net.ipv4.igmp_max_msf.
const SOURCES_PER_SOCKET: usize = 10;
/// An engine's ring and the eventfd that wakes it.
const PER_WORKER: usize = 2;

/// An upper bound of the descriptors for these rules, including those that the engines open when
/// they start. `merges` says whether the kernel merges datagrams on an interface, which takes a
/// helper for each stream.
pub(in crate::relay) fn descriptors(
    add: &[Cow<'_, RuleSpec>],
    settings: &Settings,
    merges: impl Fn(&str) -> bool,
) -> usize {
    let workers = usize::from(settings.workers);
    let outputs = add.iter().map(|rule| rule.outputs.len()).sum::<usize>() * workers;
    let interfaces: HashSet<&str> = add.iter().map(|rule| &*rule.input.interface).collect();
    let merging: HashSet<&str> = interfaces.iter().copied().filter(|name| merges(name)).collect();
    let sockets = |input: &InputSpec| {
        let is_merged = merging.contains(&*input.interface);
        input.sockets(settings.ingress, is_merged)
    };
    let inputs = add.iter().map(|rule| sockets(&rule.input)).sum::<usize>();
    let packet_sockets = if settings.ingress == Ingress::Packet {
        interfaces.len() * workers + membership_sockets(add)
    } else {
        0
    };
    let ports = add.iter().flat_map(|rule| &rule.outputs).filter_map(OutputSpec::mtu_port);
    outputs + ports.count() + inputs + packet_sockets + PER_WORKER * workers
}

/// The number of sockets that hold memberships.
fn membership_sockets(add: &[Cow<'_, RuleSpec>]) -> usize {
    let joined = |input: &&InputSpec| input.group.is_multicast() && input.join == Join::Each;
    let (any, listed): (Vec<_>, Vec<_>) = add
        .iter()
        .map(|rule| &rule.input)
        .filter(joined)
        .partition(|input| input.sources.is_empty());
    let groups = any.iter().map(|input| 1 << input.group_bits).sum::<usize>();
    let lists = listed.iter().map(|input| {
        let groups = 1_usize << input.group_bits;
        groups.div_ceil(JOINS_PER_SOCKET) * input.sources.len().div_ceil(SOURCES_PER_SOCKET)
    });
    // One extra for each family, whose last socket is only partly used.
    groups.div_ceil(JOINS_PER_SOCKET) + 2 + lists.sum::<usize>()
}

impl InputSpec {
    /// An upper bound of its sockets, without those for AF_PACKET and memberships. `is_merged` says
    /// whether the kernel merges datagrams for it.
    fn sockets(&self, ingress: Ingress, is_merged: bool) -> usize {
        let ports = usize::from(self.last_port - self.port) + 1;
        let is_shared = self.group.is_multicast() || self.broadcast;
        match ingress {
            Ingress::Udp => ports << self.group_bits.min(32),
            Ingress::Packet if is_shared && self.group_bits == 0 && !is_merged => 0,
            Ingress::Packet => ports.min(HELD_PORTS) << u8::from(self.everywhere),
        }
    }
}
