//! Selects the groups and ports of an input for which this process opens a socket each.

use super::ports::{HELD_PORTS, MERGED_PORTS};
use super::{Ingress, InputSpec, Share};
use crate::addr::Addr;
use crate::relay::settings::Home;

/// The groups and ports of an input that get a socket each, as inputs for a single group and port.
pub(super) fn list(
    input: &InputSpec,
    home: Option<Home>,
    ingress: Ingress,
    share: &Share,
) -> Vec<InputSpec> {
    let ports = usize::from(input.last_port - input.port) + 1;
    // Sockets for one address of this host must share it in one process, whatever the interface.
    let is_shared = input.group.is_multicast() || input.broadcast;
    let is_home = home.map(|home| home.engine.is_some());
    let max_ports = match ingress {
        Ingress::Udp => usize::MAX,
        Ingress::Packet if input.group_bits > 0 => 0,
        // Each process judges by the datagrams that it receives whether the kernel may merge.
        Ingress::Packet if input.group.is_multicast() => MERGED_PORTS,
        Ingress::Packet if is_shared || is_home.unwrap_or(share.is_first()) => HELD_PORTS,
        Ingress::Packet => 0,
    };
    if ports > max_ports {
        return Vec::new();
    }
    let ports = input.port..=input.last_port;
    let endpoints = input.groups().flat_map(|group| ports.clone().map(move |port| (group, port)));
    let interface = if is_shared { &*input.interface } else { "" };
    let is_owned = |(group, port): &(Addr, u16)| {
        ingress == Ingress::Packet
            || is_home.unwrap_or_else(|| share.has_endpoint(interface, *group, *port))
    };
    endpoints.filter(is_owned).map(|(group, port)| input.at(group, port)).collect()
}
