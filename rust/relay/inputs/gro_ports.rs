//! Helper sockets, by which the kernel decides whether to merge datagrams (GRO): one for a group and
//! port on an interface, or one for a port of blocks of groups, for all groups and interfaces.

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

/// Opens the helper for a group and port on an interface, or returns `None`, with a warning if the
/// reason is an error. `is_upper` says that other interfaces receive for this one.
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
    // A broadcast address may be a host's address elsewhere, and a group that needs an interface
    // cannot be joined on all of them.
    let can_be_anywhere = group.is_multicast() && !socket::needs_interface(group);
    can_be_anywhere
        .then(|| warn_on_error(group, port, provider.gro_helper_anywhere(group, port), warnings))
        .flatten()
}

/// The opened helper, or `None` with a warning.
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

/// A recommendation how to make the kernel merge the datagrams of an interface, if it does not.
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
    let names = cards.here.iter().filter_map(|card| links.name(*card));
    if let Some(off) = names.into_iter().find(|card| !devices.mtu_and_gro(card).1) {
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

/// The helpers for ports of rules for blocks of groups, and for source ports of outputs to IPv6
/// hosts.
pub(in crate::relay) struct GroPorts {
    ports: BTreeMap<(bool, u16), PortHelper>,
}

struct PortHelper {
    users: usize,
    /// `None` if another program has the port: then its socket decides about merging.
    socket: Option<HelperSocket>,
    merge: GroRequest,
}

/// Whether the kernel merges the datagrams for a helper.
#[derive(Default)]
pub(in crate::relay) struct GroRequest {
    is_on: bool,
    /// Whether merging was stopped for good, since some of the datagrams cannot be merged.
    is_ended: bool,
}

impl GroRequest {
    /// Whether merging is or can be switched on.
    pub(in crate::relay) fn is_possible(&self, helper: Option<&HelperSocket>) -> bool {
        !self.is_ended && helper.is_some()
    }

    /// Switches merging on, unless it was stopped for good.
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

    /// Stops merging for good. Sets the option also if this process never switched it on: an
    /// earlier one may have.
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

    /// Adds ports and opens their helpers. Without a helper the relay is slower, and IPv6 outputs do
    /// not learn the MTU of a path, so an error is only a warning. `is_beside_own` says whether the
    /// relay itself uses a port for another purpose.
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

    /// Whether merging is or can be switched on for any of an input's ports.
    pub(in crate::relay) fn may_merge(&self, input: &InputSpec) -> bool {
        let v4 = input.group.is_v4();
        let mut helpers = self.ports.range((v4, input.port)..=(v4, input.last_port));
        helpers.any(|(_, helper)| helper.merge.is_possible(helper.socket.as_ref()))
    }

    /// Switches merging on for an input's ports, except those for which it was stopped.
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

    /// Stops merging for good for an input's ports.
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

    /// Undoes one [`GroPorts::add`].
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

    /// Whether the port was added.
    pub(in crate::relay) fn has(&self, v4: bool, port: u16) -> bool {
        self.ports.contains_key(&(v4, port))
    }
}
