//! The sockets of the rules' inputs: opened with the first rule that needs them, closed with the
//! last one. This module must not depend on rules or outputs.
//!
//! Changes come in two steps: [`Inputs::add`] and [`Inputs::remove`] say what is needed, and
//! [`Inputs::update_packet_sockets`] makes filters and AF_PACKET sockets follow, once for many rules.

mod endpoints;
mod expected;
pub(super) mod fd_budget;
mod gro_policy;
pub(super) mod gro_ports;
pub(super) mod interface;
mod own_members;
mod pins;
mod ports;

use std::collections::BTreeMap;
#[cfg(feature = "offload")]
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) use ports::HELD_PORTS;
use ports::SourcePorts;

use self::gro_ports::GroPorts;
use self::interface::{Endpoint, EndpointSocket, InputInterface};
use self::own_members::OwnMembers;
use super::counters::slots::SlotAllocator;
use super::network::link_table::LinkTable;
use super::settings::Home;
use super::{Ingress, Settings, Share, warn_once};
use crate::addr::Addr;
use crate::engine::plan::Source;
use crate::error::{Error, Result};
use crate::sockets::InterfaceRef;
use crate::sockets::interfaces::Devices;
use crate::sockets::provider::SocketProvider;
use crate::sockets::ring_shape;
use crate::spec::{InputSpec, Join};
use crate::stats::Grant;

/// Spare AF_PACKET sockets for each engine: how often an interface can appear after the privilege to
/// open them was given up.
const SPARES: usize = 8;

/// The inputs of a relay.
pub(super) struct Inputs {
    pub(super) ingress: Ingress,
    pub(super) share: Share,
    workers: u16,
    buffer_bytes: usize,
    /// By name: an interface that is recreated keeps its entry.
    pub(super) interfaces: BTreeMap<String, InputInterface>,
    devices: Devices,
    pub(super) provider: Arc<dyn SocketProvider>,
    pub(super) merging: GroPorts,
    new_slots: Vec<Grant>,
    source_ports: SourcePorts,
    own_members: OwnMembers,
    next_id: u64,
    pub(super) warnings: Vec<String>,
}

impl Inputs {
    /// Inputs in the calling thread's network namespace.
    ///
    /// # Errors
    /// No free descriptor.
    pub(super) fn new(settings: &Settings, provider: Arc<dyn SocketProvider>) -> Result<Self> {
        Ok(Self {
            ingress: settings.ingress,
            share: settings.share,
            workers: settings.workers,
            buffer_bytes: settings.buffer_bytes,
            interfaces: BTreeMap::new(),
            devices: Devices::open()?,
            provider,
            merging: GroPorts::new(),
            new_slots: Vec::new(),
            source_ports: SourcePorts::default(),
            own_members: OwnMembers::default(),
            next_id: 0,
            warnings: Vec::new(),
        })
    }

    /// Whether the kernel merges datagrams on an interface.
    pub(super) fn merges(&self, name: &str) -> bool {
        self.devices.mtu_and_gro(name).1
    }

    /// The number of sockets that [`Inputs::open_spares`] opens.
    pub(super) fn spares(&self) -> usize {
        match self.ingress {
            Ingress::Packet => SPARES * usize::from(self.workers),
            Ingress::Udp => 0,
        }
    }

    /// Opens spare sockets for interfaces that appear after the privilege was given up.
    ///
    /// # Errors
    /// A missing privilege, a limit.
    pub(super) fn open_spares(&mut self) -> Result<()> {
        self.provider.keep_spares(self.spares())
    }

    /// Opens what an input needs, except for what [`Inputs::update_packet_sockets`] does for all of them.
    ///
    /// # Errors
    /// The kernel's; nothing has changed then.
    pub(super) fn add(
        &mut self,
        (input, home): (&InputSpec, Option<Home>),
        links: &LinkTable,
        slots: &mut SlotAllocator,
    ) -> Result<()> {
        self.interface(input, slots, links)?;
        self.join(input)?;
        let added = self.add_endpoints(input, home);
        if added.is_err() {
            self.leave(input, input.groups());
            return added;
        }
        if self.merges_by_port(input) {
            self.merge_by_port(input.group.is_v4(), input.port..=input.last_port);
        }
        let takes_all = self.takes_all(input);
        if let Some(interface) = self.interfaces.get_mut(&input.interface) {
            interface.add_block(input, takes_all);
            if let Some(home) = home {
                interface.pins.add(input, home);
            }
        }
        Ok(())
    }

    /// Undoes one [`Inputs::add`].
    pub(super) fn remove(&mut self, input: &InputSpec, home: Option<Home>) {
        self.leave(input, input.groups());
        if self.merges_by_port(input) {
            self.merging.remove(input.group.is_v4(), input.port..=input.last_port);
        }
        let (takes_all, endpoints) =
            (self.takes_all(input), endpoints::list(input, home, self.ingress, &self.share));
        let Some(interface) = self.interfaces.get_mut(&input.interface) else { return };
        interface.remove_block(input, takes_all);
        if home.is_some() {
            interface.pins.remove(input);
        }
        for endpoint in &endpoints {
            interface.remove_source_list(endpoint, &*self.provider);
        }
    }

    /// Adapts the AF_PACKET sockets and their filters to the added and removed inputs.
    ///
    /// # Errors
    /// The kernel's, such as a missing privilege; sockets that were open before remain open.
    pub(super) fn update_packet_sockets(&mut self) -> Result<()> {
        self.update_each_interface().into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The same; returns the error of each interface on which it failed.
    pub(super) fn update_each_interface(&mut self) -> Vec<(String, Error)> {
        let mut refused = Vec::new();
        if self.ingress == Ingress::Udp {
            return refused;
        }
        let mut rings = self.interfaces.values().filter(|known| known.has_rings()).count();
        let Self { interfaces, workers, buffer_bytes, next_id, provider, warnings, .. } = self;
        for (name, interface) in interfaces {
            if interface.is_up_to_date() {
                continue;
            }
            let updated = if interface.addresses.is_empty() {
                interface.close_frames();
                Ok(())
            } else if interface.frames.is_empty() {
                let shape = ring_shape::packet_ring(interface.mtu, *buffer_bytes, rings);
                let opened = interface.open_frames(*workers, shape, next_id, &**provider, warnings);
                rings += usize::from(interface.has_rings());
                opened
            } else {
                interface.refresh_filter(&**provider)
            };
            match updated.and_then(|()| interface.update_all_multicast(&**provider)) {
                Ok(()) => interface.filter_is_stale = false,
                Err(error) => refused.push((name.clone(), error)),
            }
        }
        refused
    }

    /// Whether AF_PACKET sockets are open on the interface; with `udp` there never are any.
    pub(super) fn has_frames(&self, name: &str) -> bool {
        self.interfaces.get(name).is_some_and(|interface| !interface.frames.is_empty())
    }

    /// Reads the MTU and GRO of touched interfaces again; returns whether any of them has changed.
    pub(super) fn follow_mtu_and_gro(&mut self, is_touched: impl Fn(u32) -> bool) -> bool {
        let mut has_changed = false;
        if self.ingress == Ingress::Udp {
            return has_changed;
        }
        for interface in self.interfaces.values_mut() {
            if !is_touched(interface.index) || interface.addresses.is_empty() {
                continue;
            }
            let now = self.devices.mtu_and_gro(&interface.name);
            if now != (interface.mtu, interface.gro) {
                interface.set_mtu_and_gro(now, &*self.provider, &mut self.warnings);
                has_changed = true;
            }
        }
        has_changed
    }

    /// Closes packet rings to which the kernel does not write any more; returns whether there were
    /// any.
    pub(super) fn abandon_stuck_rings(&mut self) -> bool {
        let Self { interfaces, warnings, .. } = self;
        let stuck = interfaces.values_mut().map(|known| known.abandon_stuck_rings(warnings));
        stuck.fold(false, |any, is_stuck| any | is_stuck)
    }

    /// Whether any interface has packet rings. The kernel does not notify when it stops writing to
    /// one.
    pub(super) fn has_rings(&self) -> bool {
        self.interfaces.values().any(InputInterface::has_rings)
    }

    /// The sockets from which an engine receives.
    pub(super) fn sources(&self, worker: u16) -> Box<[Source]> {
        let mut sources = Vec::new();
        for interface in self.interfaces.values() {
            sources.extend(interface.frames.get(usize::from(worker)).cloned());
            for endpoint in interface.endpoints.values() {
                if let EndpointSocket::Datagrams { source, worker: owner, .. } = &endpoint.socket
                    && *owner == worker
                {
                    sources.push(source.clone());
                }
            }
        }
        sources.into()
    }

    /// The identities of the sockets from which the engines receive an input.
    #[cfg(feature = "offload")]
    pub(super) fn source_ids(&self, input: &InputSpec) -> Vec<u64> {
        let Some(interface) = self.interfaces.get(&input.interface) else { return Vec::new() };
        let endpoint = interface.endpoints.get(&(input.group, input.port, input.everywhere));
        let datagrams = endpoint.and_then(|endpoint| match &endpoint.socket {
            EndpointSocket::Datagrams { source, .. } => Some(source),
            EndpointSocket::Helper { .. } => None,
        });
        interface.frames.iter().chain(datagrams).map(|source| source.id).collect()
    }

    /// The identities of all sockets from which the engines receive.
    #[cfg(feature = "offload")]
    pub(super) fn all_source_ids(&self) -> BTreeSet<u64> {
        let all = (0..self.workers).flat_map(|worker| self.sources(worker));
        all.map(|source| source.id).collect()
    }

    /// Removes the interfaces that a refused change has added; returns their slots.
    pub(super) fn forget_new(&mut self) -> Vec<Grant> {
        let new = std::mem::take(&mut self.new_slots);
        let is_new = |slot| new.iter().any(|grant| grant.slot == slot);
        self.interfaces.retain(|_, interface| !is_new(interface.slot));
        new
    }

    /// Takes the slots of interfaces that were added since the last call.
    pub(super) fn take_new_slots(&mut self) -> Vec<Grant> {
        std::mem::take(&mut self.new_slots)
    }

    pub(super) fn interfaces(&self) -> impl Iterator<Item = &InputInterface> {
        self.interfaces.values()
    }

    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Adds the input's interface if it is new, or updates its index.
    fn interface(
        &mut self,
        input: &InputSpec,
        slots: &mut SlotAllocator,
        links: &LinkTable,
    ) -> Result<()> {
        let is_upper = links.is_upper(input.ifindex);
        if let Some(known) = self.interfaces.get_mut(&input.interface) {
            if known.index != input.ifindex {
                known.move_to(input.ifindex, self.devices.mtu_and_gro(&input.interface));
                known.is_upper = is_upper;
            }
            return Ok(());
        }
        let (mtu, gro) = self.devices.mtu_and_gro(&input.interface);
        if self.ingress == Ingress::Packet
            && let Some(advice) = gro_ports::advice(input, links, &self.devices)
        {
            warn_once(&mut self.warnings, advice);
        }
        let grant = slots.allocate_interface(&input.interface)?;
        self.new_slots.push(grant);
        let name = input.interface.clone();
        let mut interface =
            InputInterface::new(name.clone(), input.ifindex, grant.slot, (mtu, gro));
        interface.is_upper = is_upper;
        self.interfaces.insert(name, interface);
        Ok(())
    }

    /// Opens the socket of a single address and port for its first rule, and joins the group.
    fn add_endpoint(&mut self, input: &InputSpec, home: Option<Home>) -> Result<()> {
        let is_beside_own = self.is_beside_own(input);
        let Some(interface) = self.interfaces.get_mut(&input.interface) else { return Ok(()) };
        let (key, provider) = ((input.group, input.port, input.everywhere), &*self.provider);
        if !interface.endpoints.contains_key(&key) {
            self.next_id += 1;
            let next = u16::try_from(self.next_id % u64::from(self.workers)).unwrap_or(0);
            let worker = home.and_then(|home| home.engine).unwrap_or(next);
            let (receiver, warnings) = ((self.next_id, worker), &mut self.warnings);
            let socket = match self.ingress {
                Ingress::Packet if input.everywhere => {
                    interface.open_everywhere(input, receiver, is_beside_own, provider, warnings)
                }
                Ingress::Packet => interface.open_helper(input, is_beside_own, provider, warnings),
                Ingress::Udp => {
                    interface.open_datagrams(input, receiver, is_beside_own, provider, warnings)?
                }
            };
            let mut endpoint = Endpoint::new(socket);
            if interface.is_upper {
                endpoint.merge(provider, warnings);
            }
            interface.endpoints.insert(key, endpoint);
        }
        let Some(endpoint) = interface.endpoints.get_mut(&key) else { return Ok(()) };
        if let EndpointSocket::Datagrams { source, .. } = &endpoint.socket
            && input.group.is_multicast()
            && let Err(error) =
                provider.join_socket(&source.fd, input.ifindex, input.group, &input.sources)
        {
            if endpoint.source_lists.is_empty() {
                interface.endpoints.remove(&key);
            }
            return Err(error);
        }
        endpoint.source_lists.push(input.sources.clone());
        Ok(())
    }

    /// Opens the sockets of all of an input's endpoints, or none of them.
    fn add_endpoints(&mut self, input: &InputSpec, home: Option<Home>) -> Result<()> {
        let endpoints = endpoints::list(input, home, self.ingress, &self.share);
        let warnings = self.warnings.len();
        for (added, endpoint) in endpoints.iter().enumerate() {
            if let Err(error) = self.add_endpoint(endpoint, home) {
                if let Some(interface) = self.interfaces.get_mut(&input.interface) {
                    let done = endpoints[..added].iter();
                    done.for_each(|done| interface.remove_source_list(done, &*self.provider));
                }
                return Err(error);
            }
        }
        // One warning is enough for all ports.
        self.warnings.truncate(warnings + 1);
        Ok(())
    }

    /// Whether an input needs its interface to receive all multicast.
    fn takes_all(&self, input: &InputSpec) -> bool {
        self.holds_shared_state() && input.group.is_multicast() && input.join == Join::None
    }

    /// Joins all of an input's groups, or none of them.
    fn join(&mut self, input: &InputSpec) -> Result<()> {
        if !self.joins_groups(input) {
            return Ok(());
        }
        for (joined, group) in input.groups().enumerate() {
            let target = InterfaceRef { index: input.ifindex, name: &input.interface };
            if let Err(error) = self.provider.join(&target, group, &input.sources) {
                self.leave(input, input.groups().take(joined));
                return Err(error);
            }
            self.own_members.add(input.ifindex, group, &input.sources);
        }
        Ok(())
    }

    /// Leaves the IPv4 groups of inputs of one interface and joins them again at once: IGMPv3 delays
    /// the report of a change, and then reports only the last one (RFC 3376, 5.1).
    ///
    /// # Errors
    /// The kernel's; some of the groups are not joined then.
    pub(super) fn rejoin(&mut self, inputs: &[InputSpec]) -> Result<()> {
        if self.ingress == Ingress::Packet {
            inputs.iter().for_each(|input| self.leave(input, input.groups()));
            return inputs.iter().try_for_each(|input| self.join(input));
        }
        let interface = inputs.first().and_then(|input| self.interfaces.get(&input.interface));
        interface.map_or(Ok(()), |interface| interface.rejoin(&*self.provider))
    }

    fn leave(&mut self, input: &InputSpec, groups: impl Iterator<Item = Addr>) {
        if self.joins_groups(input) {
            for group in groups {
                self.provider.leave(input.ifindex, group, &input.sources);
                self.own_members.remove(input.ifindex, group, &input.sources);
            }
        }
    }

    /// Whether memberships are needed on other sockets than those that receive.
    fn joins_groups(&self, input: &InputSpec) -> bool {
        self.holds_shared_state() && input.is_joined()
    }

    /// Whether this process holds the memberships that make frames arrive: one of several processes
    /// is enough.
    fn holds_shared_state(&self) -> bool {
        self.ingress == Ingress::Packet && self.share.is_first()
    }
}
