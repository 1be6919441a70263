//! The sockets behind the rules' inputs: opened when the first rule needs them, closed with the
//! last. It must not know rules or outputs.
//!
//! Changes come in two steps: [`Inputs::add`] and [`Inputs::remove`] say what is needed, and
//! [`Inputs::settle`] makes filters and AF_PACKET sockets follow, once for many rules.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use super::interface::{Endpoint, EndpointSocket, Interface};
use super::slots::Slots;
use super::{Ingress, InputSpec, Settings, warn_once};
use crate::error::Result;
use crate::interfaces;
use crate::open::joins::Joins;
use crate::open::udp_input;
use crate::plan::Source;
use crate::pool;
use crate::stats::Slot;

/// The inputs of a relay.
pub(super) struct Inputs {
    ingress: Ingress,
    workers: u16,
    buffer_bytes: usize,
    interfaces: BTreeMap<u32, Interface>,
    joins: Joins,
    new_slots: Vec<Slot>,
    next_id: u64,
    warnings: Vec<String>,
}

impl Inputs {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            ingress: settings.ingress,
            workers: settings.workers,
            buffer_bytes: settings.buffer_bytes,
            interfaces: BTreeMap::new(),
            joins: Joins::new(),
            new_slots: Vec::new(),
            next_id: 0,
            warnings: Vec::new(),
        }
    }

    /// Opens what an input needs, except for what [`Inputs::settle`] does for all of them.
    ///
    /// # Errors
    /// What the kernel refuses; nothing has changed then.
    pub(super) fn add(&mut self, input: &InputSpec, slots: &mut Slots) -> Result<()> {
        self.interface(input, slots)?;
        if self.ingress == Ingress::Packet && input.group.is_multicast() {
            self.joins.join(input.ifindex, &input.interface, input.group, &input.sources)?;
        }
        let added = self.add_endpoint(input);
        if added.is_err() {
            self.leave(input);
            return added;
        }
        if let Some(interface) = self.interfaces.get_mut(&input.ifindex) {
            let rules = interface.addresses.entry(input.group).or_insert(0);
            *rules += 1;
            interface.filter_is_stale |= *rules == 1;
        }
        Ok(())
    }

    /// Takes one [`Inputs::add`] back.
    pub(super) fn remove(&mut self, input: &InputSpec) {
        self.leave(input);
        let Some(interface) = self.interfaces.get_mut(&input.ifindex) else { return };
        if let Some(rules) = interface.addresses.get_mut(&input.group) {
            *rules -= 1;
            if *rules == 0 {
                interface.addresses.remove(&input.group);
                interface.filter_is_stale = true;
            }
        }
        interface.remove_wish(input);
    }

    /// Makes the AF_PACKET sockets and their filters follow what was added and removed.
    ///
    /// # Errors
    /// What the kernel refuses, a missing right among it; the sockets that were there stay.
    pub(super) fn settle(&mut self) -> Result<()> {
        if self.ingress == Ingress::Udp {
            return Ok(());
        }
        let mut rings = self.interfaces.values().filter(|known| known.has_rings()).count();
        for (&index, interface) in &mut self.interfaces {
            if !interface.filter_is_stale {
                continue;
            }
            if interface.addresses.is_empty() {
                interface.close_frames();
            } else if interface.frames.is_empty() {
                interface.open_frames(
                    index,
                    self.workers,
                    pool::packet_ring(interface.mtu, self.buffer_bytes, rings),
                    &mut self.next_id,
                    &mut self.warnings,
                )?;
                rings += usize::from(interface.has_rings());
            } else {
                (interface.mtu, interface.gro) = mtu_and_gro(index)?;
                interface.refresh_filter()?;
            }
            interface.filter_is_stale = false;
        }
        Ok(())
    }

    /// The sockets that a worker receives from.
    pub(super) fn sources(&self, worker: u16) -> Box<[Source]> {
        let mut sources = Vec::new();
        for interface in self.interfaces.values() {
            sources.extend(interface.frames.get(usize::from(worker)).cloned());
            for endpoint in interface.endpoints.values() {
                if let EndpointSocket::Datagrams { source, worker: owner } = &endpoint.socket
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
    pub(super) fn forget_new(&mut self) -> Vec<Slot> {
        let new = std::mem::take(&mut self.new_slots);
        self.interfaces.retain(|_, interface| !new.contains(&interface.slot));
        new
    }

    /// The slots of interfaces that are new since the last time.
    pub(super) fn take_new_slots(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.new_slots)
    }

    pub(super) fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.values()
    }

    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Makes the interface's entry when it is the first time.
    fn interface(&mut self, input: &InputSpec, slots: &mut Slots) -> Result<()> {
        if self.interfaces.contains_key(&input.ifindex) {
            return Ok(());
        }
        let (mtu, gro) = mtu_and_gro(input.ifindex)?;
        if self.ingress == Ingress::Packet && !gro && input.interface != "lo" {
            warn_once(&mut self.warnings, merging_is_off(&input.interface));
        }
        let slot = slots.take()?;
        self.new_slots.push(slot);
        let interface = Interface::new(input.interface.clone(), slot, mtu, gro);
        self.interfaces.insert(input.ifindex, interface);
        Ok(())
    }

    /// Opens the socket of the input's address and port for its first rule, and joins.
    fn add_endpoint(&mut self, input: &InputSpec) -> Result<()> {
        let Some(interface) = self.interfaces.get_mut(&input.ifindex) else { return Ok(()) };
        let key = (input.group, input.port);
        if !interface.endpoints.contains_key(&key) {
            let socket = match self.ingress {
                Ingress::Packet => interface.helper(input, &mut self.warnings),
                Ingress::Udp => {
                    self.next_id += 1;
                    let worker = u16::try_from(self.next_id % u64::from(self.workers)).unwrap_or(0);
                    interface.datagrams(input, self.next_id, worker, &mut self.warnings)?
                }
            };
            interface.endpoints.insert(key, Endpoint { wishes: Vec::new(), socket });
        }
        let Some(endpoint) = interface.endpoints.get_mut(&key) else { return Ok(()) };
        if let EndpointSocket::Datagrams { source, .. } = &endpoint.socket
            && input.group.is_multicast()
            && let Err(error) =
                udp_input::join(source.fd.as_fd(), input.ifindex, input.group, &input.sources)
        {
            if endpoint.wishes.is_empty() {
                interface.endpoints.remove(&key);
            }
            return Err(error);
        }
        endpoint.wishes.push(input.sources.clone());
        Ok(())
    }

    fn leave(&mut self, input: &InputSpec) {
        if self.ingress == Ingress::Packet && input.group.is_multicast() {
            // It was joined in the same way, so there is nothing to refuse.
            self.joins.leave(input.ifindex, input.group, &input.sources).ok();
        }
    }
}

/// What decides how large the frames of an interface are; of one that is gone, the worst.
fn mtu_and_gro(index: u32) -> Result<(u32, bool)> {
    let all = interfaces::list()?;
    let device = all.into_iter().find(|interface| interface.index == index);
    Ok(device.map_or((u32::MAX, true), |device| (device.mtu, device.gro)))
}

/// Measured on one core: super-frames nearly double what one stream can reach.
fn merging_is_off(interface: &str) -> String {
    format!(
        "GRO is off on {interface}, so that datagrams arrive one by one: \
         'ethtool -K {interface} gro on' about doubles the rate that one core relays"
    )
}
