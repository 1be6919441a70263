//! How many descriptors a change takes, counted before anything is opened. It must not know what
//! is open.

use std::collections::HashSet;

use super::{Ingress, RuleSpec, Settings};

/// IPv4 memberships that one socket holds (net.ipv4.igmp_max_memberships), unless set otherwise.
const JOINS_PER_SOCKET: usize = 20;
/// Sources of one group that one socket holds (net.ipv4.igmp_max_msf), unless set otherwise.
const SOURCES_PER_SOCKET: usize = 10;
/// A worker's ring and its wake-up.
const PER_WORKER: usize = 2;

/// At most so many, with what the engines open when they start.
pub(super) fn descriptors(add: &[RuleSpec], settings: Settings) -> usize {
    let workers = usize::from(settings.workers);
    let outputs = add.iter().map(|rule| rule.outputs.len()).sum::<usize>() * workers;
    // Each input has a socket that it is received by, or that stands beside AF_PACKET.
    let inputs = add.len();
    let beside = if settings.ingress == Ingress::Packet {
        let interfaces: HashSet<_> = add.iter().map(|rule| &rule.input.interface).collect();
        interfaces.len() * workers + holders(add)
    } else {
        0
    };
    outputs + inputs + beside + PER_WORKER * workers
}

/// The sockets that hold memberships.
fn holders(add: &[RuleSpec]) -> usize {
    let (any, listed): (Vec<_>, Vec<_>) = add
        .iter()
        .filter(|rule| rule.input.group.is_multicast())
        .partition(|rule| rule.input.sources.is_empty());
    let lists = listed.iter().map(|rule| rule.input.sources.len().div_ceil(SOURCES_PER_SOCKET));
    // One more for each family.
    any.len().div_ceil(JOINS_PER_SOCKET) + 2 + lists.sum::<usize>()
}
