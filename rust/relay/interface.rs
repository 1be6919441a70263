//! One input interface of a relay: its AF_PACKET sockets and their filter, and the endpoints on it.
//! It must not know rules, nor when an interface is needed.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::merging::{hold, merger};
use super::rings;
use super::{InputSpec, warn_once};
use crate::addr::Addr;
use crate::error::Result;
use crate::ingress::Kind;
use crate::open::opener::{FramesWish, Helper, Opener};
use crate::open::packet;
use crate::open::{InterfaceRef, filter, socket, udp_input};
use crate::plan::Source;
use crate::pool::SizeClass;
use crate::stats::Slot;
use crate::sys::packet_ring::RingShape;

/// An interface that some rule listens on, or did: its counters stay.
pub(super) struct Interface {
    pub(super) name: String,
    /// The index under which its sockets are open; one that is made anew gets another.
    pub(super) index: u32,
    pub(super) slot: Slot,
    pub(super) mtu: u32,
    pub(super) gro: bool,
    /// Whether other interfaces receive for it, as for a bridge or a VLAN.
    pub(super) is_upper: bool,
    /// How many rules name each address, or block of groups; AF_PACKET filters pass these.
    pub(super) addresses: BTreeMap<(Addr, u8), usize>,
    pub(super) filter_is_stale: bool,
    /// The filter of the AF_PACKET sockets that are open.
    filter: Filter,
    /// One AF_PACKET socket for each worker.
    pub(super) frames: Vec<Source>,
    /// By address and port, and whether datagrams count wherever they arrive.
    pub(super) endpoints: BTreeMap<(Addr, u16, bool), Endpoint>,
    /// How many rules take groups that nobody joins.
    unjoined: usize,
    /// The AF_PACKET socket that makes the device take all multicast, while it is needed.
    all_multicast: Option<u64>,
    /// Whether frames come that end a packet ring: it is given none any more.
    ends_rings: bool,
    /// Whether the user has been told that datagrams on it are kept apart.
    pub(super) keeps_apart: bool,
    /// What sockets that are closed by now had lost in the kernel.
    closed_drops: u64,
}

/// What is known of a filter that is attached; before one is, it passes nothing.
#[derive(Default)]
struct Filter {
    /// Whether it passes any multicast of IPv4, and of IPv6: then groups come and go without
    /// another one.
    passes_any: [bool; 2],
    /// How many addresses there were when it was made.
    addresses: usize,
}

/// An address and port of an interface.
pub(super) struct Endpoint {
    /// The source lists of the rules on it.
    pub(super) wishes: Vec<Box<[Addr]>>,
    pub(super) socket: EndpointSocket,
    /// Whether the kernel is asked to merge what comes to it.
    pub(super) is_merged: bool,
    /// Whether some of it cannot be merged, so that nothing of it is.
    pub(super) is_apart: bool,
}

pub(super) enum EndpointSocket {
    /// `packet`: what makes the kernel merge, or else keeps it from answering; nothing is received.
    Helper { held: Option<Helper>, merges: bool },
    /// `udp`: what the engine receives from.
    Datagrams { source: Source, worker: u16, beside: Option<Helper> },
}

impl Endpoint {
    /// For no rule yet; what comes to it arrives one by one.
    pub(super) fn new(socket: EndpointSocket) -> Self {
        Self { wishes: Vec::new(), socket, is_merged: false, is_apart: false }
    }
}

impl EndpointSocket {
    /// What the kernel asks whether it is to merge.
    pub(super) fn helper(&self) -> Option<&Helper> {
        match self {
            Self::Helper { held, .. } | Self::Datagrams { beside: held, .. } => held.as_ref(),
        }
    }
}

impl Interface {
    /// Nothing is open on it yet.
    pub(super) fn new(name: String, index: u32, slot: Slot, (mtu, gro): (u32, bool)) -> Self {
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
            unjoined: 0,
            all_multicast: None,
            ends_rings: false,
            keeps_apart: false,
            closed_drops: 0,
        }
    }

    /// Takes in the addresses that a rule names; `takes_all` where nobody joins them.
    pub(super) fn add_block(&mut self, input: &InputSpec, takes_all: bool) {
        let is_passed = self.passes(input.group);
        let rules = self.addresses.entry((input.group, input.group_bits)).or_insert(0);
        *rules += 1;
        self.unjoined += usize::from(takes_all);
        self.filter_is_stale |= *rules == 1 && !is_passed || takes_all && self.unjoined == 1;
    }

    /// Takes one [`Interface::add_block`] back.
    pub(super) fn remove_block(&mut self, input: &InputSpec, takes_all: bool) {
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

    /// Makes the device take all multicast while a rule needs it; closing the socket ends it too.
    pub(super) fn settle_all_multicast(&mut self, opener: &dyn Opener) -> Result<()> {
        let Some(first) = self.frames.first() else { return Ok(()) };
        let is_on = self.all_multicast == Some(first.id);
        if is_on != (self.unjoined > 0) {
            let target = InterfaceRef { index: self.index, name: &self.name };
            opener.take_all_multicast(&first.fd, &target, !is_on)?;
            self.all_multicast = (!is_on).then_some(first.id);
        }
        Ok(())
    }

    /// Frames (or for `udp` datagrams) that the kernel lost because we were late.
    pub(super) fn kernel_drops(&self) -> u64 {
        let datagrams = self.endpoints.values().filter_map(|endpoint| match &endpoint.socket {
            EndpointSocket::Datagrams { source, .. } => Some(source),
            EndpointSocket::Helper { .. } => None,
        });
        let open = self.frames.iter().chain(datagrams);
        self.closed_drops + open.map(socket_drops).sum::<u64>()
    }

    /// Follows the device to another index; no rule listens on it now.
    pub(super) fn move_to(&mut self, index: u32, (mtu, gro): (u32, bool)) {
        self.close_frames();
        (self.index, self.mtu, self.gro) = (index, mtu, gro);
    }

    /// Follows another MTU, or GRO that was turned on or off.
    pub(super) fn resize(
        &mut self,
        (mtu, gro): (u32, bool),
        opener: &dyn Opener,
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
            matches!(socket, EndpointSocket::Helper { held: None, merges: true })
        };
        let missing = self.endpoints.iter_mut().filter(|(_, each)| is_missing(&each.socket));
        for (&(group, port, _), endpoint) in missing {
            // Where others receive for the interface, it was opened whatever its own GRO is.
            let opened = (!self.is_upper).then(|| opener.merger(group, port, &target));
            let held = opened.and_then(|opened| hold(group, port, opened, warnings));
            endpoint.socket = EndpointSocket::Helper { held, merges: true };
        }
    }

    /// Whether the AF_PACKET sockets and their filter are those that the addresses need.
    pub(super) fn is_settled(&self) -> bool {
        !self.filter_is_stale && self.frames.is_empty() == self.addresses.is_empty()
    }

    pub(super) fn open_frames(
        &mut self,
        workers: u16,
        shape: Option<RingShape>,
        next_id: &mut u64,
        opener: &dyn Opener,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let blocks = self.blocks();
        let interface = InterfaceRef { index: self.index, name: &self.name };
        // Super-frames are taken whole into buffers of their size.
        let shape = shape.filter(|_| !self.gro && !self.ends_rings);
        let wish = FramesWish { interface, blocks: &blocks, sockets: workers, ring: shape };
        let mut frames: Vec<Source> = Vec::with_capacity(usize::from(workers));
        for opened in opener.frames(&wish)? {
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
                    Some(_) => Kind::Slot { link },
                    None => Kind::Frame { vnet_hdr: opened.vnet_hdr, link },
                },
                ring: opened.ring.map(Arc::new),
                class: self.class(),
                interface: self.index,
                slot: self.slot.index,
            });
        }
        self.frames = frames;
        self.filter = Filter::of(&blocks);
        Ok(())
    }

    /// Whether its frames come in packet rings.
    pub(super) fn has_rings(&self) -> bool {
        self.frames.first().is_some_and(|source| source.ring.is_some())
    }

    /// Closes packet rings that the kernel has given up, so that plain sockets are opened instead;
    /// whether there were any.
    pub(super) fn leave_stuck_rings(&mut self, warnings: &mut Vec<String>) -> bool {
        let is_stuck = |source: &Source| {
            source.ring.as_ref().is_some_and(|ring| ring.is_stuck(source.fd.as_fd()))
        };
        // Each keeps its own account of what it has seen.
        if self.frames.iter().filter(|source| is_stuck(source)).count() == 0 {
            return false;
        }
        warn_once(warnings, rings::are_left(&self.name));
        self.close_frames();
        (self.ends_rings, self.filter_is_stale) = (true, true);
        true
    }

    pub(super) fn refresh_filter(&mut self, opener: &dyn Opener) -> Result<()> {
        let (blocks, class) = (self.blocks(), self.class());
        for source in &mut self.frames {
            opener.replace_filter(&source.fd, &blocks)?;
            if source.ring.is_none() {
                source.class = class;
            }
        }
        self.filter = Filter::of(&blocks);
        Ok(())
    }

    pub(super) fn close_frames(&mut self) {
        self.closed_drops += self.frames.iter().map(socket_drops).sum::<u64>();
        self.frames.clear();
        self.filter = Filter::default();
    }

    /// What a new filter passes.
    fn blocks(&self) -> Vec<(Addr, u8)> {
        self.addresses.keys().copied().collect()
    }

    /// Whether the filter passes a group, and would if it were the only one that came or went.
    fn passes(&self, group: Addr) -> bool {
        self.filter.passes_any[usize::from(!group.is_v4())] && group.is_multicast()
    }

    /// Reassembly delivers whole IPv4 datagrams of up to 64 KiB, GRO super-frames.
    fn class(&self) -> SizeClass {
        let reassembled = self.addresses.keys().any(|(address, _)| address.is_v4());
        SizeClass::for_frames(self.mtu, self.gro || reassembled)
    }

    /// `packet`: without the helper all works, only slower, or with ICMP answers.
    pub(super) fn helper(
        &self,
        input: &InputSpec,
        is_beside_own: bool,
        opener: &dyn Opener,
        warnings: &mut Vec<String>,
    ) -> EndpointSocket {
        let target = InterfaceRef { index: input.ifindex, name: &input.interface };
        let (group, port) = (input.group, input.port);
        let merges = group.is_multicast() || input.broadcast;
        let held = if !merges {
            let opened = opener.holder(group, port, &target, is_beside_own);
            hold(group, port, opened, warnings).flatten()
        } else if self.gro || self.is_upper {
            merger(input, self.is_upper, opener, warnings)
        } else {
            None
        };
        EndpointSocket::Helper { held, merges }
    }

    /// `packet`: hears what arrives for an address of this host on other interfaces than its own,
    /// whose frames come by AF_PACKET. Of two sockets the kernel takes the one that is bound to the
    /// interface: that is the helper, which receives nothing.
    pub(super) fn elsewhere(
        &self,
        input: &InputSpec,
        receiver: (u64, u16),
        is_beside_own: bool,
        opener: &dyn Opener,
        warnings: &mut Vec<String>,
    ) -> EndpointSocket {
        let opened = self.datagrams(input, receiver, is_beside_own, opener, warnings);
        let helper = self.helper(input, is_beside_own || opened.is_ok(), opener, warnings);
        match (opened, helper) {
            (
                Ok(EndpointSocket::Datagrams { source, worker, .. }),
                EndpointSocket::Helper { held: Some(held), .. },
            ) => EndpointSocket::Datagrams { source, worker, beside: Some(held) },
            (opened, helper) => {
                let why = opened.err().map(|error| format!(": {error}")).unwrap_or_default();
                let InputSpec { group, interface, .. } = input;
                let text = format!(
                    "what arrives for {group} elsewhere than on {interface} is not heard{why}"
                );
                warn_once(warnings, text);
                helper
            }
        }
    }

    pub(super) fn datagrams(
        &self,
        input: &InputSpec,
        (id, worker): (u64, u16),
        is_beside_own: bool,
        opener: &dyn Opener,
        warnings: &mut Vec<String>,
    ) -> Result<EndpointSocket> {
        let opened = opener.datagrams(&udp_input::Wish {
            interface: InterfaceRef { index: input.ifindex, name: &input.interface },
            group: input.group,
            is_broadcast: input.broadcast,
            is_everywhere: input.everywhere,
            is_beside_own,
            port: input.port,
        })?;
        check_buffer(opened.receive_buffer_bytes, udp_input::RECEIVE_BUFFER_BYTES, warnings);
        let source = Source {
            id,
            fd: Arc::new(opened.socket),
            kind: Kind::Datagram { group: input.group, port: input.port },
            ring: None,
            class: SizeClass::Super,
            interface: input.ifindex,
            slot: self.slot.index,
        };
        // The socket itself is bound to the interface, where the kernel does not look for it.
        let merger = self.is_upper.then(|| merger(input, true, opener, warnings)).flatten();
        Ok(EndpointSocket::Datagrams { source, worker, beside: merger })
    }

    /// `udp`: leaves the IPv4 groups and joins them again at once.
    pub(super) fn rejoin(&self, opener: &dyn Opener) -> Result<()> {
        for (&(group, ..), endpoint) in &self.endpoints {
            if let EndpointSocket::Datagrams { source, .. } = &endpoint.socket
                && group.is_multicast()
                && group.is_v4()
            {
                opener.leave_by(&source.fd, self.index, group, &[]);
                for sources in &endpoint.wishes {
                    opener.join_by(&source.fd, self.index, group, sources)?;
                }
            }
        }
        Ok(())
    }

    /// Takes a rule's source list off its endpoint, and closes the endpoint with the last.
    pub(super) fn remove_wish(&mut self, input: &InputSpec, opener: &dyn Opener) {
        let key = (input.group, input.port, input.everywhere);
        let Some(endpoint) = self.endpoints.get_mut(&key) else { return };
        let wish = endpoint.wishes.iter().position(|sources| *sources == input.sources);
        wish.map(|at| endpoint.wishes.swap_remove(at));
        if let EndpointSocket::Datagrams { source, .. } = &endpoint.socket {
            if endpoint.wishes.is_empty() {
                self.closed_drops += socket_drops(source);
                if input.group.is_multicast() {
                    // An engine closes it later. Where the interface was made anew under the same
                    // index, that would end the membership of the socket that is opened next.
                    opener.leave_by(&source.fd, input.ifindex, input.group, &[]);
                }
            } else if input.group.is_multicast() {
                leave_sources(source, input, &endpoint.wishes, opener);
            }
        }
        if endpoint.wishes.is_empty() {
            self.endpoints.remove(&key);
        }
    }
}

impl Filter {
    fn of(blocks: &[(Addr, u8)]) -> Self {
        Self { passes_any: filter::passes_any_multicast(blocks), addresses: blocks.len() }
    }
}

/// Ends what only this input wanted of a socket's membership.
fn leave_sources(source: &Source, input: &InputSpec, left: &[Box<[Addr]>], opener: &dyn Opener) {
    let any_left = left.iter().any(|sources| sources.is_empty());
    if input.sources.is_empty() && !any_left {
        let mut sources: Vec<Addr> = left.iter().flatten().copied().collect();
        sources.sort_unstable();
        sources.dedup();
        // Where a limit is in the way it stays one for any source, and the engine drops the rest.
        opener.narrow_by(&source.fd, input.ifindex, input.group, &sources).ok();
    } else if !input.sources.is_empty() {
        let unwanted = |source: &&Addr| !left.iter().any(|sources| sources.contains(source));
        let unwanted: Vec<Addr> = input.sources.iter().filter(unwanted).copied().collect();
        if !unwanted.is_empty() {
            opener.leave_by(&source.fd, input.ifindex, input.group, &unwanted);
        }
    }
}

/// A counter that cannot be read must not keep the others from the user.
fn socket_drops(source: &Source) -> u64 {
    let fd = source.fd.as_fd();
    match &source.ring {
        // What the socket's queue loses beside the ring, the ring's slot tells.
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
