//! One input interface of a relay: its AF_PACKET sockets with their filter, and its endpoints. This
//! module must not depend on rules.

mod endpoints;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;

pub(in crate::relay) use endpoints::{Endpoint, EndpointSocket};

use super::gro_ports::warn_on_error;
use super::pins::Pins;
use crate::addr::Addr;
use crate::engine::buffers::SizeClass;
use crate::engine::ingress::Delivery;
use crate::engine::plan::Source;
use crate::error::Result;
use crate::relay::engines::rings;
use crate::relay::warn_once;
use crate::sockets::packet;
use crate::sockets::provider::{PacketSocketRequest, SocketProvider};
use crate::sockets::{InterfaceRef, filter, socket};
use crate::spec::InputSpec;
use crate::stats::Slot;
use crate::sys::packet_ring::RingShape;

/// An interface to which rules listen, or did: it is kept for its counters.
pub(in crate::relay) struct InputInterface {
    pub(in crate::relay) name: String,
    /// The index for which its sockets are open; a recreated interface has another one.
    pub(in crate::relay) index: u32,
    pub(in crate::relay) slot: Slot,
    pub(in crate::relay) mtu: u32,
    pub(in crate::relay) gro: bool,
    /// Whether other interfaces receive for it, as for a bridge or a VLAN.
    pub(in crate::relay) is_upper: bool,
    /// The number of rules for each address, or block of groups; AF_PACKET filters pass these.
    pub(in crate::relay) addresses: BTreeMap<(Addr, u8), usize>,
    pub(in crate::relay) filter_is_stale: bool,
    /// The filter of the open AF_PACKET sockets.
    filter: Filter,
    /// One AF_PACKET socket for each engine.
    pub(in crate::relay) frames: Vec<Source>,
    /// By address, port, and whether datagrams on all interfaces count.
    pub(in crate::relay) endpoints: BTreeMap<(Addr, u16, bool), Endpoint>,
    /// Which engines receive the inputs of merging rules.
    pub(in crate::relay) pins: Pins,
    /// The number of rules for groups that are not joined.
    unjoined: usize,
    /// The id of the AF_PACKET socket that makes the device receive all multicast, if one does.
    all_multicast: Option<u64>,
    /// Whether frames arrived that make a packet ring unusable: no more rings are opened.
    rings_abandoned: bool,
    /// Whether the user was warned that merging was stopped.
    pub(in crate::relay) has_gro_warning: bool,
    /// What sockets that are closed now had lost in the kernel.
    closed_drops: u64,
}

/// Properties of the attached filter; by default, of one that passes nothing.
#[derive(Default)]
struct Filter {
    /// Whether it passes all multicast of IPv4, and of IPv6: then groups can be added and removed
    /// without a new filter.
    passes_any: [bool; 2],
    /// The number of addresses for which it was compiled.
    addresses: usize,
}

impl InputInterface {
    /// An interface without open sockets.
    pub(in crate::relay) fn new(
        name: String,
        index: u32,
        slot: Slot,
        (mtu, gro): (u32, bool),
    ) -> Self {
        Self {
            name,
            index,
            slot,
            mtu,
            gro,
            is_upper: false,
            addresses: BTreeMap::new(),
            filter_is_stale: false,
            filter: Filter::default(),
            frames: Vec::new(),
            endpoints: BTreeMap::new(),
            pins: Pins::default(),
            unjoined: 0,
            all_multicast: None,
            rings_abandoned: false,
            has_gro_warning: false,
            closed_drops: 0,
        }
    }

    /// Adds the addresses of a rule; `takes_all` says that they are not joined.
    pub(in crate::relay) fn add_block(&mut self, input: &InputSpec, takes_all: bool) {
        let is_passed = self.passes(input.group);
        let rules = self.addresses.entry((input.group, input.group_bits)).or_insert(0);
        *rules += 1;
        self.unjoined += usize::from(takes_all);
        self.filter_is_stale |= *rules == 1 && !is_passed || takes_all && self.unjoined == 1;
    }

    /// Undoes one [`InputInterface::add_block`].
    pub(in crate::relay) fn remove_block(&mut self, input: &InputSpec, takes_all: bool) {
        let key = (input.group, input.group_bits);
        self.unjoined -= usize::from(takes_all);
        self.filter_is_stale |= takes_all && self.unjoined == 0;
        let Some(rules) = self.addresses.get_mut(&key) else { return };
        *rules -= 1;
        if *rules == 0 {
            self.addresses.remove(&key);
            let are_few = self.addresses.len() <= self.filter.addresses / 2;
            self.filter_is_stale |= are_few || !self.passes(input.group);
        }
    }

    /// Makes the device receive all multicast while a rule needs it, which also ends when the socket
    /// is closed.
    pub(in crate::relay) fn update_all_multicast(
        &mut self,
        provider: &dyn SocketProvider,
    ) -> Result<()> {
        let Some(first) = self.frames.first() else { return Ok(()) };
        let is_on = self.all_multicast == Some(first.id);
        if is_on != (self.unjoined > 0) {
            let target = InterfaceRef { index: self.index, name: &self.name };
            provider.take_all_multicast(&first.fd, &target, !is_on)?;
            self.all_multicast = (!is_on).then_some(first.id);
        }
        Ok(())
    }

    /// Frames (with `udp`, datagrams) that the kernel lost because they were received too slowly.
    pub(in crate::relay) fn kernel_drops(&self) -> u64 {
        let datagrams = self.endpoints.values().filter_map(|endpoint| match &endpoint.socket {
            EndpointSocket::Datagrams { source, .. } => Some(source),
            EndpointSocket::Helper { .. } => None,
        });
        let open = self.frames.iter().chain(datagrams);
        self.closed_drops + open.map(socket_drops).sum::<u64>()
    }

    /// Sets another index, MTU and GRO, after the interface was recreated; no rule listens now.
    pub(in crate::relay) fn move_to(&mut self, index: u32, (mtu, gro): (u32, bool)) {
        self.close_frames();
        (self.index, self.mtu, self.gro) = (index, mtu, gro);
    }

    /// Sets a changed MTU or GRO, and opens the helpers that GRO needs.
    pub(in crate::relay) fn set_mtu_and_gro(
        &mut self,
        (mtu, gro): (u32, bool),
        provider: &dyn SocketProvider,
        warnings: &mut Vec<String>,
    ) {
        let is_turned_on = gro && !self.gro;
        (self.mtu, self.gro) = (mtu, gro);
        self.filter_is_stale |= !self.addresses.is_empty();
        if !is_turned_on {
            return;
        }
        let target = InterfaceRef { index: self.index, name: &self.name };
        let is_missing = |socket: &EndpointSocket| {
            matches!(socket, EndpointSocket::Helper { socket: None, merges: true })
        };
        let missing = self.endpoints.iter_mut().filter(|(_, each)| is_missing(&each.socket));
        for (&(group, port, _), endpoint) in missing {
            // If other interfaces receive for this one, the helper does not depend on its own GRO.
            let opened = (!self.is_upper).then(|| provider.gro_helper(group, port, &target));
            let socket = opened.and_then(|opened| warn_on_error(group, port, opened, warnings));
            endpoint.socket = EndpointSocket::Helper { socket, merges: true };
        }
    }

    /// Whether the AF_PACKET sockets and their filter match the addresses.
    pub(in crate::relay) fn is_up_to_date(&self) -> bool {
        !self.filter_is_stale
            && !self.pins.are_stale()
            && self.frames.is_empty() == self.addresses.is_empty()
    }

    /// Opens the AF_PACKET sockets with a filter for the addresses.
    pub(in crate::relay) fn open_frames(
        &mut self,
        workers: u16,
        shape: Option<RingShape>,
        next_id: &mut u64,
        provider: &dyn SocketProvider,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let blocks = self.blocks();
        let interface = InterfaceRef { index: self.index, name: &self.name };
        // With GRO, super-frames are received whole, in buffers of their size, without a ring.
        let shape = shape.filter(|_| !self.gro && !self.rings_abandoned);
        let request =
            PacketSocketRequest { interface, blocks: &blocks, sockets: workers, ring: shape };
        let mut frames: Vec<Source> = Vec::with_capacity(usize::from(workers));
        for opened in provider.frames(&request)? {
            if !opened.vnet_hdr {
                warn_once(
                    warnings,
                    "this kernel has no PACKET_VNET_HDR: super-frames arrive cut \
                    into single datagrams, which is slower"
                        .to_owned(),
                );
            }
            check_buffer(opened.receive_buffer_bytes, packet::RECEIVE_BUFFER_BYTES, warnings);
            self.closed_drops += opened.lost_frames;
            let link = packet::link_type(opened.socket.as_fd())?;
            *next_id += 1;
            frames.push(Source {
                id: *next_id,
                fd: Arc::new(opened.socket),
                kind: match opened.ring {
                    Some(_) => Delivery::Slot { link },
                    None => Delivery::Frame { vnet_hdr: opened.vnet_hdr, link },
                },
                ring: opened.ring.map(Arc::new),
                class: self.class(),
                interface: self.index,
                slot: self.slot.index,
            });
        }
        if let Some(first) = frames.first() {
            self.pins.renew(&first.fd, provider)?;
        }
        self.frames = frames;
        self.filter = Filter::of(&blocks);
        Ok(())
    }

    /// Whether its frames are received through packet rings.
    pub(in crate::relay) fn has_rings(&self) -> bool {
        self.frames.first().is_some_and(|source| source.ring.is_some())
    }

    /// Closes packet rings to which the kernel does not write any more, so that plain sockets are
    /// opened instead; returns whether there were any.
    pub(in crate::relay) fn abandon_stuck_rings(&mut self, warnings: &mut Vec<String>) -> bool {
        let is_stuck = |source: &Source| {
            source.ring.as_ref().is_some_and(|ring| ring.is_stuck(source.fd.as_fd()))
        };
        // Checks every ring, since each check updates the state of its ring.
        if self.frames.iter().filter(|source| is_stuck(source)).count() == 0 {
            return false;
        }
        warn_once(warnings, rings::abandoned_rings_warning(&self.name));
        self.close_frames();
        (self.rings_abandoned, self.filter_is_stale) = (true, true);
        true
    }

    /// Replaces the filter of the open AF_PACKET sockets.
    pub(in crate::relay) fn refresh_filter(&mut self, provider: &dyn SocketProvider) -> Result<()> {
        let (blocks, class) = (self.blocks(), self.class());
        if let Some(first) = self.frames.first() {
            self.pins.follow(&first.fd, provider)?;
        }
        for source in &mut self.frames {
            provider.replace_filter(&source.fd, &blocks)?;
            if source.ring.is_none() {
                source.class = class;
            }
        }
        self.filter = Filter::of(&blocks);
        Ok(())
    }

    pub(in crate::relay) fn close_frames(&mut self) {
        self.closed_drops += self.frames.iter().map(socket_drops).sum::<u64>();
        self.frames.clear();
        self.filter = Filter::default();
    }

    /// The destinations that a new filter passes.
    fn blocks(&self) -> Vec<(Addr, u8)> {
        self.addresses.keys().copied().collect()
    }

    /// Whether the filter passes all multicast of the group's family, this group included.
    fn passes(&self, group: Addr) -> bool {
        self.filter.passes_any[usize::from(!group.is_v4())] && group.is_multicast()
    }

    /// The size class of receive buffers: reassembly delivers IPv4 datagrams of up to 64 KiB, and GRO
    /// super-frames.
    fn class(&self) -> SizeClass {
        let reassembled = self.addresses.keys().any(|(address, _)| address.is_v4());
        SizeClass::for_frames(self.mtu, self.gro || reassembled)
    }
}

impl Filter {
    fn of(blocks: &[(Addr, u8)]) -> Self {
        Self { passes_any: filter::passes_any_multicast(blocks), addresses: blocks.len() }
    }
}

/// The frames that a socket has lost in the kernel; 0 if that cannot be read, so that the other
/// counters are still reported.
fn socket_drops(source: &Source) -> u64 {
    let fd = source.fd.as_fd();
    match &source.ring {
        // The ring's slots also show what the socket's queue has lost.
        Some(ring) => ring.lost(fd).unwrap_or(0),
        None => socket::drops(fd).unwrap_or(0),
    }
}

fn check_buffer(got: usize, wanted: usize, warnings: &mut Vec<String>) {
    if got < wanted {
        warn_once(
            warnings,
            format!(
                "the receive buffer is {} KiB instead of {}, so that bursts may be lost: raise \
                 net.core.rmem_max or start as root",
                got / 1024,
                wanted / 1024
            ),
        );
    }
}
