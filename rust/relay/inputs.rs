//! The sockets behind the rules' inputs: opened when the first rule needs them, closed with the
//! last. It must not know rules or outputs.
//!
//! Changes come in two steps: [`Inputs::add`] and [`Inputs::remove`] say what is needed, and
//! [`Inputs::settle`] makes filters and AF_PACKET sockets follow, once for many rules.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::slots::Slots;
use super::{Ingress, InputSpec, warn_once};
use crate::addr::Addr;
use crate::error::Result;
use crate::ingress::Kind;
use crate::interfaces;
use crate::open::joins::Joins;
use crate::open::packet::{self, Fanout};
use crate::open::{InterfaceRef, filter, gro_helper, udp_input};
use crate::plan::Source;
use crate::pool::SizeClass;
use crate::stats::Slot;
use crate::sys::sockopt;

/// The inputs of a relay.
pub(super) struct Inputs {
    ingress: Ingress,
    workers: u16,
    interfaces: BTreeMap<u32, Interface>,
    joins: Joins,
    new_slots: Vec<Slot>,
    next_id: u64,
    warnings: Vec<String>,
}

/// An interface that some rule listens on, or did: its counters stay.
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) slot: Slot,
    mtu: u32,
    gro: bool,
    /// How many rules name each address; AF_PACKET filters pass these.
    addresses: BTreeMap<Addr, usize>,
    filter_is_stale: bool,
    /// One AF_PACKET socket for each worker.
    frames: Vec<Source>,
    endpoints: BTreeMap<(Addr, u16), Endpoint>,
    /// What sockets that are closed by now had lost in the kernel.
    closed_drops: u64,
}

/// An address and port of an interface.
struct Endpoint {
    /// The source lists of the rules on it.
    wishes: Vec<Box<[Addr]>>,
    socket: EndpointSocket,
}

enum EndpointSocket {
    /// `packet`: what makes the kernel merge, or keeps it from answering; nothing is received.
    Helper { _held: Option<OwnedFd> },
    /// `udp`: what the engine receives from.
    Datagrams { source: Source, worker: u16 },
}

impl Inputs {
    pub(super) fn new(ingress: Ingress, workers: u16) -> Self {
        Self {
            ingress,
            workers,
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
                    &mut self.next_id,
                    &mut self.warnings,
                )?;
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
        let interface = Interface {
            name: input.interface.clone(),
            slot,
            mtu,
            gro,
            addresses: BTreeMap::new(),
            filter_is_stale: false,
            frames: Vec::new(),
            endpoints: BTreeMap::new(),
            closed_drops: 0,
        };
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

impl Interface {
    /// Frames (or for `udp` datagrams) that the kernel lost because we were late.
    pub(super) fn kernel_drops(&self) -> u64 {
        let datagrams = self.endpoints.values().filter_map(|endpoint| match &endpoint.socket {
            EndpointSocket::Datagrams { source, .. } => Some(source),
            EndpointSocket::Helper { .. } => None,
        });
        let open = self.frames.iter().chain(datagrams);
        self.closed_drops + open.map(|source| socket_drops(&source.fd)).sum::<u64>()
    }

    fn open_frames(
        &mut self,
        index: u32,
        workers: u16,
        next_id: &mut u64,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let program = self.program();
        let target = InterfaceRef { index, name: &self.name };
        let mut frames: Vec<Source> = Vec::with_capacity(usize::from(workers));
        for _ in 0..workers {
            let fanout = match frames.first() {
                None => Fanout::New,
                Some(first) => Fanout::Join(packet::fanout_id(first.fd.as_fd())?),
            };
            let socket = packet::open(&target, &program, fanout)?;
            if !socket.vnet_hdr {
                warn_once(
                    warnings,
                    "this kernel has no PACKET_VNET_HDR: super-frames arrive cut \
                    into single datagrams, which is slower"
                        .to_owned(),
                );
            }
            check_buffer(socket.receive_buffer_bytes, packet::RECEIVE_BUFFER_BYTES, warnings);
            *next_id += 1;
            frames.push(Source {
                id: *next_id,
                fd: Arc::new(socket.fd),
                kind: Kind::Frame { vnet_hdr: socket.vnet_hdr },
                class: self.class(),
                interface: index,
                slot: self.slot.index,
            });
        }
        self.frames = frames;
        Ok(())
    }

    fn refresh_filter(&mut self) -> Result<()> {
        let (program, class) = (self.program(), self.class());
        for source in &mut self.frames {
            packet::replace_filter(source.fd.as_fd(), &program)?;
            source.class = class;
        }
        Ok(())
    }

    fn close_frames(&mut self) {
        self.closed_drops += self.frames.iter().map(|source| socket_drops(&source.fd)).sum::<u64>();
        self.frames.clear();
    }

    fn program(&self) -> Vec<libc::sock_filter> {
        let addresses: Vec<Addr> = self.addresses.keys().copied().collect();
        filter::destinations(&addresses)
    }

    /// Reassembly delivers whole IPv4 datagrams of up to 64 KiB, GRO super-frames.
    fn class(&self) -> SizeClass {
        let reassembled = self.addresses.keys().any(|address| address.is_v4());
        SizeClass::for_frames(self.mtu, self.gro || reassembled)
    }

    /// `packet`: without the helper all works, only slower, or with ICMP answers.
    fn helper(&self, input: &InputSpec, warnings: &mut Vec<String>) -> EndpointSocket {
        let target = InterfaceRef { index: input.ifindex, name: &input.interface };
        let held = if !input.group.is_multicast() {
            gro_helper::holder(input.group, input.port, input.ifindex)
        } else if self.gro {
            gro_helper::open(input.group, input.port, &target).map(Some)
        } else {
            Ok(None)
        };
        let held = held.unwrap_or_else(|error| {
            warn_once(warnings, format!("no helper for {}:{}: {error}", input.group, input.port));
            None
        });
        EndpointSocket::Helper { _held: held }
    }

    fn datagrams(
        &self,
        input: &InputSpec,
        id: u64,
        worker: u16,
        warnings: &mut Vec<String>,
    ) -> Result<EndpointSocket> {
        let target = InterfaceRef { index: input.ifindex, name: &input.interface };
        let socket = udp_input::open(&target, input.group, input.port)?;
        check_buffer(socket.receive_buffer_bytes, packet::RECEIVE_BUFFER_BYTES, warnings);
        let source = Source {
            id,
            fd: Arc::new(socket.fd),
            kind: Kind::Datagram { group: input.group, port: input.port },
            class: SizeClass::Super,
            interface: input.ifindex,
            slot: self.slot.index,
        };
        Ok(EndpointSocket::Datagrams { source, worker })
    }

    /// Takes a rule's source list off its endpoint, and closes the endpoint with the last.
    fn remove_wish(&mut self, input: &InputSpec) {
        let key = (input.group, input.port);
        let Some(endpoint) = self.endpoints.get_mut(&key) else { return };
        let wish = endpoint.wishes.iter().position(|sources| *sources == input.sources);
        wish.map(|at| endpoint.wishes.swap_remove(at));
        if let EndpointSocket::Datagrams { source, .. } = &endpoint.socket {
            if endpoint.wishes.is_empty() {
                self.closed_drops += socket_drops(&source.fd);
            } else if input.group.is_multicast() {
                leave_sources(source, input, &endpoint.wishes);
            }
        }
        if endpoint.wishes.is_empty() {
            self.endpoints.remove(&key);
        }
    }
}

/// What decides how large the frames of an interface are; of one that is gone, the worst.
fn mtu_and_gro(index: u32) -> Result<(u32, bool)> {
    let all = interfaces::list()?;
    let device = all.into_iter().find(|interface| interface.index == index);
    Ok(device.map_or((u32::MAX, true), |device| (device.mtu, device.gro)))
}

/// Ends what only this input wanted of a socket's membership.
fn leave_sources(socket: &Source, input: &InputSpec, left: &[Box<[Addr]>]) {
    let fd = socket.fd.as_fd();
    let any_left = left.iter().any(|sources| sources.is_empty());
    if input.sources.is_empty() && !any_left {
        udp_input::leave(fd, input.ifindex, input.group, &[]);
        for sources in left {
            // These were joined before, so no limit can be in the way.
            udp_input::join(fd, input.ifindex, input.group, sources).ok();
        }
    } else if !input.sources.is_empty() {
        let unwanted = |source: &&Addr| !left.iter().any(|sources| sources.contains(source));
        let unwanted: Vec<Addr> = input.sources.iter().filter(unwanted).copied().collect();
        if !unwanted.is_empty() {
            udp_input::leave(fd, input.ifindex, input.group, &unwanted);
        }
    }
}

/// Measured on one core: super-frames nearly double what one stream can reach.
fn merging_is_off(interface: &str) -> String {
    format!(
        "GRO is off on {interface}, so that datagrams arrive one by one: \
         'ethtool -K {interface} gro on' about doubles the rate that one core relays"
    )
}

/// The socket's drop counter, which never falls (SO_MEMINFO, word 8).
fn socket_drops(fd: &OwnedFd) -> u64 {
    let mut words = [0_u32; 9];
    let read = sockopt::get(fd.as_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, &mut words);
    read.map_or(0, |_| u64::from(words[8]))
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
