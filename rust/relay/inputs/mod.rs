//! The sockets behind the rules' inputs: opened when the first rule needs them, closed with the
//! last. It must not know rules or outputs.
//!
//! Changes come in two steps: [`Inputs::add`] and [`Inputs::remove`] say what is needed, and
//! [`Inputs::update_packet_sockets`] makes filters and AF_PACKET sockets follow, once for many rules.

mod endpoints;
pub(super) mod fd_budget;
mod gro_policy;
pub(super) mod gro_ports;
pub(super) mod interface;
mod ports;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use ports::HELD_PORTS;
use ports::SourcePorts;

use self::gro_ports::GroPorts;
use self::interface::{Endpoint, EndpointSocket, InputInterface};
use super::counters::slots::SlotAllocator;
use super::network::link_table::LinkTable;
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

/// How often an interface may come, for each worker, once AF_PACKET sockets are not permitted.
const SPARES: usize = 8;

/// The inputs of a relay.
pub(super) struct Inputs {
    pub(super) ingress: Ingress,
    pub(super) share: Share,
    workers: u16,
    buffer_bytes: usize,
    /// By name: a device that is made anew goes on under its old entry.
    pub(super) interfaces: BTreeMap<String, InputInterface>,
    devices: Devices,
    pub(super) provider: Arc<dyn SocketProvider>,
    pub(super) merging: GroPorts,
    new_slots: Vec<Grant>,
    source_ports: SourcePorts,
    next_id: u64,
    pub(super) warnings: Vec<String>,
}

impl Inputs {
    /// In the calling thread's network namespace.
    ///
    /// # Errors
    /// No descriptor.
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
            next_id: 0,
            warnings: Vec::new(),
        })
    }

    /// Whether the kernel merges datagrams on an interface.
    pub(super) fn merges(&self, name: &str) -> bool {
        self.devices.mtu_and_gro(name).1
    }

    /// How many sockets [`Inputs::open_spares`] opens.
    pub(super) fn spares(&self) -> usize {
        match self.ingress {
            Ingress::Packet => SPARES * usize::from(self.workers),
            Ingress::Udp => 0,
        }
    }

    /// Opens sockets beforehand for interfaces that come when it is not permitted any more.
    ///
    /// # Errors
    /// A missing right.
    pub(super) fn open_spares(&mut self) -> Result<()> {
        self.provider.keep_spares(self.spares())
    }

    /// Opens what an input needs, except for what [`Inputs::update_packet_sockets`] does for all of them.
    ///
    /// # Errors
    /// What the kernel refuses; nothing has changed then.
    pub(super) fn add(
        &mut self,
        input: &InputSpec,
        links: &LinkTable,
        slots: &mut SlotAllocator,
    ) -> Result<()> {
        self.interface(input, slots, links)?;
        self.join(input)?;
        let added = self.add_endpoints(input);
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
        }
        Ok(())
    }

    /// Takes one [`Inputs::add`] back.
    pub(super) fn remove(&mut self, input: &InputSpec) {
        self.leave(input, input.groups());
        if self.merges_by_port(input) {
            self.merging.remove(input.group.is_v4(), input.port..=input.last_port);
        }
        let (takes_all, endpoints) =
            (self.takes_all(input), endpoints::list(input, self.ingress, &self.share));
        let Some(interface) = self.interfaces.get_mut(&input.interface) else { return };
        interface.remove_block(input, takes_all);
        for endpoint in &endpoints {
            interface.remove_source_list(endpoint, &*self.provider);
        }
    }

    /// Makes the AF_PACKET sockets and their filters follow what was added and removed.
    ///
    /// # Errors
    /// What the kernel refuses, a missing right among it; the sockets that were there stay.
    pub(super) fn update_packet_sockets(&mut self) -> Result<()> {
        self.update_each_interface().into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// The same, and says on which interfaces it was refused.
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

    /// Whether frames of the interface are received; with `udp` they never are.
    pub(super) fn has_frames(&self, name: &str) -> bool {
        self.interfaces.get(name).is_some_and(|interface| !interface.frames.is_empty())
    }

    /// Follows the MTU and the offloads of interfaces; whether there is something to settle.
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

    /// Leaves packet rings that the kernel has given up; whether there is something to settle.
    pub(super) fn abandon_stuck_rings(&mut self) -> bool {
        let Self { interfaces, warnings, .. } = self;
        let stuck = interfaces.values_mut().map(|known| known.abandon_stuck_rings(warnings));
        stuck.fold(false, |any, is_stuck| any | is_stuck)
    }

    /// Whether there are packet rings, of which the kernel does not tell when it gives one up.
    pub(super) fn has_rings(&self) -> bool {
        self.interfaces.values().any(InputInterface::has_rings)
    }

    /// The sockets that a worker receives from.
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

    /// Forgets the interfaces that are new since the last time and no rule listens on, after a
    /// change that was refused; says their slots.
    pub(super) fn forget_new(&mut self) -> Vec<Grant> {
        let new = std::mem::take(&mut self.new_slots);
        let is_new = |slot| new.iter().any(|grant| grant.slot == slot);
        self.interfaces.retain(|_, interface| !is_new(interface.slot));
        new
    }

    /// The slots of interfaces that are new since the last time.
    pub(super) fn take_new_slots(&mut self) -> Vec<Grant> {
        std::mem::take(&mut self.new_slots)
    }

    pub(super) fn interfaces(&self) -> impl Iterator<Item = &InputInterface> {
        self.interfaces.values()
    }

    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Makes the interface's entry when it is the first time, and brings it to where it is now.
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

    /// Opens the socket of a single address and port for its first rule, and joins.
    fn add_endpoint(&mut self, input: &InputSpec) -> Result<()> {
        let is_beside_own = self.is_beside_own(input);
        let Some(interface) = self.interfaces.get_mut(&input.interface) else { return Ok(()) };
        let (key, provider) = ((input.group, input.port, input.everywhere), &*self.provider);
        if !interface.endpoints.contains_key(&key) {
            self.next_id += 1;
            let worker = u16::try_from(self.next_id % u64::from(self.workers)).unwrap_or(0);
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

    /// Opens the sockets of all of an input's endpoints, or none.
    fn add_endpoints(&mut self, input: &InputSpec) -> Result<()> {
        let endpoints = endpoints::list(input, self.ingress, &self.share);
        let warnings = self.warnings.len();
        for (added, endpoint) in endpoints.iter().enumerate() {
            if let Err(error) = self.add_endpoint(endpoint) {
                if let Some(interface) = self.interfaces.get_mut(&input.interface) {
                    let done = endpoints[..added].iter();
                    done.for_each(|done| interface.remove_source_list(done, &*self.provider));
                }
                return Err(error);
            }
        }
        // What is said of one port holds for the others too.
        self.warnings.truncate(warnings + 1);
        Ok(())
    }

    /// Whether an input needs all multicast of its interface.
    fn takes_all(&self, input: &InputSpec) -> bool {
        self.holds_shared_state() && input.group.is_multicast() && input.join == Join::None
    }

    /// Becomes a member of all of an input's groups, or of none.
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
        }
        Ok(())
    }

    /// Leaves the IPv4 groups of inputs of one interface and joins them again at once: IGMPv3 waits
    /// a moment before it reports a change, and then reports the last one only (RFC 3376, 5.1).
    ///
    /// # Errors
    /// The kernel's; some of the groups are left then.
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
            }
        }
    }

    /// Whether memberships apart from the sockets that receive are needed.
    fn joins_groups(&self, input: &InputSpec) -> bool {
        self.holds_shared_state() && input.is_joined()
    }

    /// Whether what makes frames come is this process's business: once is enough for all.
    fn holds_shared_state(&self) -> bool {
        self.ingress == Ingress::Packet && self.share.is_first()
    }
}
