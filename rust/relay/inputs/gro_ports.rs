//! The sockets that the kernel asks whether to merge (GRO): one for a group and port of an
//! interface, or one for a port of blocks of groups, whatever the group and the interface. It must
//! not know who receives.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::addr::Addr;
use crate::error::Result;
use crate::relay::network::link_table::LinkTable;
use crate::relay::warn_once;
use crate::sockets::interfaces::Devices;
use crate::sockets::provider::{HelperSocket, SocketProvider};
use crate::sockets::{InterfaceRef, socket};
use crate::spec::InputSpec;

/// What makes the kernel merge for a group and port of an interface, or `None`, with a warning
/// where that is a refusal. `is_upper` says that other interfaces receive for this one.
pub(in crate::relay) fn gro_helper(
    input: &InputSpec,
    is_upper: bool,
    provider: &dyn SocketProvider,
    warnings: &mut Vec<String>,
) -> Option<HelperSocket> {
    let (group, port) = (input.group, input.port);
    if !is_upper {
        let target = InterfaceRef { index: input.ifindex, name: &input.interface };
        return warn_on_error(group, port, provider.gro_helper(group, port, &target), warnings);
    }
    // A broadcast address is a local one to some, and such a group cannot be had everywhere.
    let can_be_anywhere = group.is_multicast() && !socket::needs_interface(group);
    can_be_anywhere
        .then(|| warn_on_error(group, port, provider.gro_helper_anywhere(group, port), warnings))
        .flatten()
}

/// The helper, or `None` with a warning.
pub(in crate::relay) fn warn_on_error<T>(
    group: Addr,
    port: u16,
    opened: Result<T>,
    warnings: &mut Vec<String>,
) -> Option<T> {
    opened
        .inspect_err(|error| warn_once(warnings, format!("no helper for {group}:{port}: {error}")))
        .ok()
}

/// What would make the kernel merge the datagrams of an interface, where it does not.
///
/// Measured on one core: super-frames nearly double what one stream can reach.
pub(in crate::relay) fn advice(
    input: &InputSpec,
    links: &LinkTable,
    devices: &Devices,
) -> Option<String> {
    let name = &*input.interface;
    if name == "lo" {
        return None;
    }
    let cards = links.cards(input.ifindex);
    let named = cards.here.iter().filter_map(|card| links.name(*card));
    if let Some(off) = named.into_iter().find(|card| !devices.mtu_and_gro(card).1) {
        let place =
            if off == name { String::new() } else { format!(", which receives for {name}") };
        return Some(format!(
            "GRO is off on {off}{place}, so that datagrams arrive one by one: 'ethtool -K {off} gro \
             on' about doubles the rate that one core relays"
        ));
    }
    cards.elsewhere.then(|| {
        format!(
            "the card below {name} is in another network namespace, where mcr cannot ask it to merge \
             datagrams: 'ethtool -K CARD gro on rx-udp-gro-forwarding on' there about doubles the \
             rate that one core relays"
        )
    })
}

/// The ports that rules for blocks of groups name, and those that outputs to IPv6 hosts send from.
pub(in crate::relay) struct GroPorts {
    ports: BTreeMap<(bool, u16), PortHelper>,
}

struct PortHelper {
    users: usize,
    /// `None` where a program has the port: then it decides about merging.
    socket: Option<HelperSocket>,
    merge: GroRequest,
}

/// Whether the kernel is asked to merge what a helper stands for.
#[derive(Default)]
pub(in crate::relay) struct GroRequest {
    is_on: bool,
    /// Whether it is not to be asked any more: some of it cannot be merged.
    is_ended: bool,
}

impl GroRequest {
    /// Whether it may be asked.
    pub(in crate::relay) fn is_possible(&self, helper: Option<&HelperSocket>) -> bool {
        !self.is_ended && helper.is_some()
    }

    /// Asks for it, unless it is over.
    pub(in crate::relay) fn begin(
        &mut self,
        helper: Option<&HelperSocket>,
        provider: &dyn SocketProvider,
        warnings: &mut Vec<String>,
    ) {
        if !self.is_ended && !std::mem::replace(&mut self.is_on, true) {
            self.apply(helper, provider, warnings);
        }
    }

    /// Ends it for good. Tells the kernel also where it was not asked: somebody before may have.
    pub(in crate::relay) fn end(
        &mut self,
        helper: Option<&HelperSocket>,
        provider: &dyn SocketProvider,
        warnings: &mut Vec<String>,
    ) {
        self.is_on = false;
        if !std::mem::replace(&mut self.is_ended, true) {
            self.apply(helper, provider, warnings);
        }
    }

    fn apply(
        &self,
        helper: Option<&HelperSocket>,
        provider: &dyn SocketProvider,
        warnings: &mut Vec<String>,
    ) {
        if let Some(helper) = helper
            && let Err(error) = provider.merge(helper, self.is_on)
        {
            warn_once(warnings, error.to_string());
        }
    }
}

impl GroPorts {
    pub(in crate::relay) fn new() -> Self {
        Self { ports: BTreeMap::new() }
    }

    /// Opens what ports need: without it all works, only slower, and IPv6 outputs do not learn the
    /// MTU of a path. `is_beside_own` says of a port whether the relay has it for something else.
    pub(in crate::relay) fn add(
        &mut self,
        v4: bool,
        ports: RangeInclusive<u16>,
        is_beside_own: impl Fn(u16) -> bool,
        provider: &dyn SocketProvider,
        warnings: &mut Vec<String>,
    ) {
        let mut refusal = None;
        for port in ports {
            let helper = self.ports.entry((v4, port)).or_insert_with(|| {
                let opened = provider.gro_helper_for_port(v4, port, is_beside_own(port));
                let socket = opened.unwrap_or_else(|error| {
                    refusal.get_or_insert((port, error));
                    None
                });
                PortHelper { users: 0, socket, merge: GroRequest::default() }
            });
            helper.users += 1;
        }
        if let Some((port, error)) = refusal {
            warn_once(warnings, format!("no helper for port {port}: {error}"));
        }
    }

    /// Whether the kernel may be asked to merge for some of an input's ports.
    pub(in crate::relay) fn may_merge(&self, input: &InputSpec) -> bool {
        let v4 = input.group.is_v4();
        let mut helpers = self.ports.range((v4, input.port)..=(v4, input.last_port));
        helpers.any(|(_, helper)| helper.merge.is_possible(helper.socket.as_ref()))
    }

    /// Has the kernel merge what comes to an input's ports, but for those that are kept apart.
    pub(in crate::relay) fn merge(
        &mut self,
        input: &InputSpec,
        provider: &dyn SocketProvider,
        warnings: &mut Vec<String>,
    ) {
        for PortHelper { socket, merge, .. } in self.helpers(input) {
            merge.begin(socket.as_ref(), provider, warnings);
        }
    }

    /// Has nothing of what comes to an input's ports merged any more.
    pub(in crate::relay) fn stop_gro(
        &mut self,
        input: &InputSpec,
        provider: &dyn SocketProvider,
        warnings: &mut Vec<String>,
    ) {
        for PortHelper { socket, merge, .. } in self.helpers(input) {
            merge.end(socket.as_ref(), provider, warnings);
        }
    }

    fn helpers(&mut self, input: &InputSpec) -> impl Iterator<Item = &mut PortHelper> {
        let v4 = input.group.is_v4();
        self.ports.range_mut((v4, input.port)..=(v4, input.last_port)).map(|(_, helper)| helper)
    }

    /// Takes one [`GroPorts::add`] back.
    pub(in crate::relay) fn remove(&mut self, v4: bool, ports: RangeInclusive<u16>) {
        for port in ports {
            let key = (v4, port);
            if let Some(helper) = self.ports.get_mut(&key) {
                helper.users -= 1;
                if helper.users == 0 {
                    self.ports.remove(&key);
                }
            }
        }
    }

    /// Whether a port is among them.
    pub(in crate::relay) fn has(&self, v4: bool, port: u16) -> bool {
        self.ports.contains_key(&(v4, port))
    }
}
