//! Which of an input's groups and ports have a socket of their own, in this process.

use super::ports::{HELD_PORTS, MERGED_PORTS};
use super::{Ingress, InputSpec, Share};
use crate::addr::Addr;

/// The single groups and ports of an input that have a socket each.
pub(super) fn list(input: &InputSpec, ingress: Ingress, share: &Share) -> Vec<InputSpec> {
    let ports = usize::from(input.last_port - input.port) + 1;
    let most = match ingress {
        Ingress::Udp => usize::MAX,
        Ingress::Packet if !share.is_first() => 0,
        Ingress::Packet if input.group_bits > 0 => 0,
        Ingress::Packet if input.group.is_multicast() => MERGED_PORTS,
        Ingress::Packet => HELD_PORTS,
    };
    if ports > most {
        return Vec::new();
    }
    let ports = input.port..=input.last_port;
    let endpoints = input.groups().flat_map(|group| ports.clone().map(move |port| (group, port)));
    // Sockets of one address of this host have to know of each other.
    let is_shared = input.group.is_multicast() || input.broadcast;
    let interface = if is_shared { &*input.interface } else { "" };
    let is_owned = |(group, port): &(Addr, u16)| {
        ingress == Ingress::Packet || share.has_endpoint(interface, *group, *port)
    };
    endpoints.filter(is_owned).map(|(group, port)| input.at(group, port)).collect()
}
