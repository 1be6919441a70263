//! The granting of requests: opens a socket, or finds the one that an earlier incarnation of the
//! worker had. It relies on the policy's checks and does not repeat them.

use std::collections::HashSet;
use std::os::fd::AsFd;

use nix::sys::resource::{Resource, getrlimit};

use super::key::SocketKey;
use super::leases::{LeaseState, LeasedSocket, PacketLease, SocketDetails};
use super::memberships::Member;
use super::messages::{Answer, Request};
use super::server::{BrokerServer, Fault, NO_WORKER, WorkerSockets};
use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::sockets::netlink::routes;
use crate::sockets::output;
use crate::sockets::packet::{self, SpareSockets};
use crate::sockets::ring_shape;
use crate::sockets::udp_input::UdpInputRequest;
use crate::sockets::{InterfaceRef, gro_helper, igmp_query, udp_input};
use crate::spec::OutputSpec;
use crate::sys::packet_ring::RingShape;

/// The most sockets and memberships of one worker: more than there are counters for.
const MAX_LEASES: usize = 1 << 17;
/// The most AF_PACKET sockets of one worker on one interface: the one in use, and those that its
/// engine is releasing.
const MAX_FRAMES: usize = 4;
/// The most packet rings of one worker: twice the usual number while they are replaced.
const MAX_RINGS: usize = 2 * ring_shape::MAX_RINGS;

/// Descriptors that the supervisor needs itself, also while it restarts its children.
const OWN_FDS: usize = 64;
/// Descriptors that it needs in addition for each worker.
const OWN_FDS_PER_WORKER: usize = 16;

pub(super) type Granted = std::result::Result<Answer, Fault>;

pub(super) const UNKNOWN: Fault = Fault::Breach("an unknown lease");

impl BrokerServer {
    /// Grants the AF_PACKET socket of a worker on an interface. The sockets of several workers
    /// share the frames, each flow going to one, also after one of them was replaced.
    pub(super) fn frames(
        &mut self,
        worker: u16,
        interface: &InterfaceRef<'_>,
        blocks: &[(Addr, u8)],
        ring: Option<RingShape>,
    ) -> Granted {
        let is_alone = self.workers.len() == 1;
        let key = SocketKey::Frames { ifindex: interface.index };
        let known = self.worker(worker)?;
        known.check_frames(&key, interface.name, ring)?;
        // In a group it keeps its place, even if another ring would be better by now.
        let waiting = known.leases.waiting(&key).map(|(id, held)| (id, held.has_ring(ring)));
        if !waiting.is_some_and(|(_, fits)| fits || !is_alone) {
            self.open_group(interface, ring)?;
        }
        let known = self.worker(worker)?;
        if let Some((old, false)) = waiting.filter(|_| is_alone) {
            // Its ring has another shape: replace it by one that fits, and give up the frames in
            // its queue.
            known.leases.remove(old);
        }
        let (id, held) = known.leases.waiting(&key).ok_or(UNKNOWN)?;
        packet::replace_filter(held.fd.as_fd(), blocks)?;
        let has_history = held.state == LeaseState::Orphaned;
        known.leases.claim(id);
        known.frames_answer(id, has_history)
    }

    /// Opens a socket on an interface for each worker before any of them receives, because a larger
    /// group would redistribute the flows.
    fn open_group(&mut self, interface: &InterfaceRef<'_>, ring: Option<RingShape>) -> Result<()> {
        self.workers.iter().try_for_each(WorkerSockets::check_room)?;
        let count = u16::try_from(self.workers.len()).unwrap_or(u16::MAX);
        let sockets = packet::open_group(interface, count, ring, &mut SpareSockets::default())?;
        self.last_group += 1;
        let group = (count > 1).then_some(self.last_group);
        for (socket, worker) in sockets.into_iter().zip(&mut self.workers) {
            let frames = PacketLease {
                receive_buffer_bytes: socket.receive_buffer_bytes,
                vnet_hdr: socket.vnet_hdr,
                ring: socket.ring,
                asked: ring,
                takes_all: false,
                wants_all: false,
                group,
            };
            let key = SocketKey::Frames { ifindex: interface.index };
            worker.leases.add_unclaimed(key, socket.fd, SocketDetails::Frames(frames));
        }
        Ok(())
    }

    /// Records whether a worker wants the datagrams of a flow merged. All workers with a helper for
    /// the flow share the decision: the kernel merges if one of them wants it and none has seen a
    /// datagram that would overtake others because of merging.
    pub(super) fn merge(
        &mut self,
        worker: u16,
        lease: u64,
        on: bool,
    ) -> std::result::Result<(), Fault> {
        let held = self.worker(worker)?.leases.get(lease).ok_or(UNKNOWN)?;
        held.vote(on).ok_or(UNKNOWN)?;
        let key = held.key.clone();
        Ok(self.count_votes(&key)?)
    }

    fn count_votes(&self, key: &SocketKey) -> Result<()> {
        let helpers = || self.workers.iter().flat_map(|worker| worker.leases.helpers(key));
        let votes = || helpers().filter_map(|(_, vote)| vote);
        if votes().next().is_none() {
            return Ok(());
        }
        let is_wanted = votes().any(|vote| vote) && votes().all(|vote| vote);
        helpers().try_for_each(|(fd, _)| gro_helper::merge(fd, is_wanted))
    }

    /// Applies the current decision for a flow to a new helper, because the kernel consults any one
    /// of them.
    pub(super) fn follow_votes(
        &mut self,
        worker: u16,
        answer: Answer,
    ) -> std::result::Result<Answer, Fault> {
        if let Answer::Helper { lease } = answer {
            let key = self.worker(worker)?.leases.get(lease).ok_or(UNKNOWN)?.key.clone();
            self.count_votes(&key)?;
        }
        Ok(answer)
    }

    /// The request of a worker, which does not know that another one has a helper for the port.
    pub(super) fn beside_other_workers(&self, mut request: Request) -> Request {
        if let Some(key) = SocketKey::of_helper(&request)
            && let Request::GroHelperForPort { is_beside_own, .. } = &mut request
        {
            let mut workers = self.workers.iter();
            *is_beside_own |= workers.any(|worker| worker.leases.helpers(&key).next().is_some());
        }
        request
    }

    /// Closes the fan-out groups in which no worker has a socket any more.
    pub(super) fn close_unused_groups(&mut self) {
        let used: HashSet<u64> =
            self.workers.iter().flat_map(|worker| worker.leases.groups()).collect();
        for worker in &mut self.workers {
            worker.leases.close_groups(|group| used.contains(&group));
        }
    }

    pub(super) fn worker(&mut self, number: u16) -> std::result::Result<&mut WorkerSockets, Fault> {
        self.workers.get_mut(usize::from(number)).ok_or(NO_WORKER)
    }
}

impl WorkerSockets {
    /// Grants a request that concerns only this worker.
    pub(super) fn grant(&mut self, request: Request) -> Granted {
        match request {
            Request::Filter { lease, blocks } => {
                let held = self.leases.get(lease).filter(|held| held.is_frames());
                let fd = held.ok_or(UNKNOWN)?.fd.as_fd();
                packet::replace_filter(fd, &blocks)?;
            }
            Request::Pin { lease, pins } => {
                if pins.iter().any(|pin| pin.socket >= self.of) {
                    return Err(Fault::Breach("a pin on an unknown worker"));
                }
                let held = self.leases.get(lease).filter(|held| held.is_frames());
                packet::pin(held.ok_or(UNKNOWN)?.fd.as_fd(), &pins)?;
            }
            Request::AllMulticast { lease, on } => {
                self.leases.get(lease).ok_or(UNKNOWN)?.take_all(on).ok_or(UNKNOWN)??;
            }
            Request::Reconnect { lease, ifindex } => return self.reconnect(lease, ifindex),
            Request::ResolveHost { lease, ifindex } => return self.resolve_host(lease, ifindex),
            Request::Datagrams {
                interface,
                group,
                is_broadcast,
                is_everywhere,
                is_beside_own,
                port,
            } => {
                let interface = interface.as_ref();
                let request = UdpInputRequest {
                    group,
                    is_broadcast,
                    is_everywhere,
                    is_beside_own,
                    port,
                    interface,
                };
                return self.datagrams(&request);
            }
            Request::Output { key, is_connected, spec } => {
                return self.output(key, is_connected, &spec);
            }
            other => return self.grant_membership(other),
        }
        Ok(Answer::Done {})
    }

    fn grant_membership(&mut self, request: Request) -> Granted {
        match request {
            Request::Join { interface, group, sources } => {
                self.check_room()?;
                self.memberships.join(&interface.as_ref(), group, &sources)?;
            }
            Request::Leave { ifindex, group, sources } => {
                self.memberships.leave(ifindex, group, &sources);
            }
            Request::Announce { ifindex } => {
                if self.memberships.is_on(ifindex) || self.leases.is_member_on(ifindex) {
                    let name = format!("interface {ifindex}");
                    igmp_query::ask(&InterfaceRef { index: ifindex, name: &name })?;
                }
            }
            Request::JoinBy { lease, sources } => {
                let (held, ifindex, group) = self.datagrams_of(lease)?;
                udp_input::join(held.fd.as_fd(), ifindex, group, &sources)?;
                held.member().ok_or(UNKNOWN)?.record_join(&sources);
            }
            Request::LeaveBy { lease, sources } => {
                let (held, ifindex, group) = self.datagrams_of(lease)?;
                udp_input::leave(held.fd.as_fd(), ifindex, group, &sources);
                held.member().ok_or(UNKNOWN)?.record_leave(&sources);
            }
            Request::NarrowBy { lease, sources } => {
                let (held, ifindex, group) = self.datagrams_of(lease)?;
                udp_input::narrow(held.fd.as_fd(), ifindex, group, &sources)?;
                held.member().ok_or(UNKNOWN)?.record_narrow(&sources);
            }
            other => return self.helper(&other),
        }
        Ok(Answer::Done {})
    }

    /// Takes back leases that the worker no longer needs.
    pub(super) fn release(&mut self, leases: &[u64]) -> std::result::Result<(), Fault> {
        for id in leases {
            self.leases.get(*id).ok_or(UNKNOWN)?;
            self.leases.release(*id);
        }
        Ok(())
    }

    fn datagrams(&mut self, request: &UdpInputRequest<'_>) -> Granted {
        let UdpInputRequest { interface, group, is_broadcast, is_everywhere, port, .. } = *request;
        let key = SocketKey::Datagrams {
            ifindex: interface.index,
            group,
            port,
            is_broadcast,
            is_everywhere,
        };
        let waiting = self.leases.waiting(&key).map(|(id, held)| (id, held.buffer_bytes()));
        let (lease, bytes) = if let Some(found) = waiting {
            self.leases.claim(found.0);
            found
        } else {
            self.check_room()?;
            let input = udp_input::open(request)?;
            udp_input::enable_marks(input.fd.as_fd(), &interface, group)?;
            let receive_buffer_bytes = input.receive_buffer_bytes;
            let what = SocketDetails::Datagrams { receive_buffer_bytes, member: Member::default() };
            (self.leases.add(key, input.fd, what), receive_buffer_bytes)
        };
        Ok(Answer::Datagrams { lease, receive_buffer_bytes: bytes as u64 })
    }

    fn output(&mut self, key: u64, is_connected: bool, spec: &OutputSpec) -> Granted {
        let key = SocketKey::Output { key, spec: OutputSpec { ifindex: 0, ..spec.clone() } };
        if let Some((lease, held)) = self.leases.waiting(&key) {
            let bytes = held.buffer_bytes() as u64;
            // The socket may have been connected long ago, through an earlier interface of this
            // name.
            let segment = if is_connected { output::reconnect(held.fd.as_fd(), spec)? } else { 0 };
            self.leases.claim(lease);
            return Ok(Answer::Output { lease, send_buffer_bytes: bytes, max_segment: segment });
        }
        self.check_room()?;
        let socket = if is_connected { output::open(spec)? } else { output::prepare(spec)? };
        let send_buffer_bytes = socket.send_buffer_bytes;
        let lease = self.leases.add(key, socket.fd, SocketDetails::Output { send_buffer_bytes });
        let max_segment = socket.max_segment;
        Ok(Answer::Output { lease, send_buffer_bytes: send_buffer_bytes as u64, max_segment })
    }

    fn reconnect(&mut self, lease: u64, ifindex: u32) -> Granted {
        let (held, spec) = self.output_of(lease, ifindex)?;
        let max_segment = output::reconnect(held.fd.as_fd(), &spec)?;
        Ok(Answer::Segment { max_segment })
    }

    /// A worker names one of its outputs, not a host; the kernel's route decides which host is
    /// resolved.
    fn resolve_host(&mut self, lease: u64, ifindex: u32) -> Granted {
        let (_, spec) = self.output_of(lease, ifindex)?;
        routes::resolve_host(&spec)?;
        Ok(Answer::Done {})
    }

    /// An output socket of the worker, and its specification for this interface.
    fn output_of(
        &mut self,
        lease: u64,
        ifindex: u32,
    ) -> std::result::Result<(&LeasedSocket, OutputSpec), Fault> {
        let held = self.leases.get(lease).ok_or(UNKNOWN)?;
        let SocketKey::Output { spec, .. } = &*held.key else { return Err(UNKNOWN) };
        if ifindex == 0 && spec.address.is_multicast() || ifindex != 0 && spec.interface.is_empty()
        {
            return Err(Fault::Breach("an output without its interface index"));
        }
        let spec = OutputSpec { ifindex, ..spec.clone() };
        Ok((held, spec))
    }

    fn helper(&mut self, request: &Request) -> Granted {
        let key = SocketKey::of_helper(request).ok_or(Fault::Breach("an unexpected request"))?;
        if let Some((lease, _)) = self.leases.waiting(&key) {
            self.leases.claim(lease);
            return Ok(Answer::Helper { lease });
        }
        self.check_room()?;
        let opened = match request {
            Request::GroHelper { interface, group, port } => {
                Some(gro_helper::open(*group, *port, &interface.as_ref())?)
            }
            Request::GroHelperAnywhere { group, port } => {
                Some(gro_helper::open_anywhere(*group, *port)?)
            }
            Request::GroHelperForPort { v4, port, is_beside_own } => {
                gro_helper::open_for_any(*v4, *port, *is_beside_own)?
            }
            Request::PortGuard { interface, address, port, is_beside_own } => {
                gro_helper::port_guard(*address, *port, interface.index, *is_beside_own)?
            }
            _ => None,
        };
        Ok(opened.map_or(Answer::Absent {}, |fd| Answer::Helper {
            lease: self.leases.add(key, fd, SocketDetails::Helper { vote: None }),
        }))
    }

    /// A `udp` ingress socket of the worker, with its interface and group.
    fn datagrams_of(
        &mut self,
        lease: u64,
    ) -> std::result::Result<(&mut LeasedSocket, u32, Addr), Fault> {
        let held = self.leases.get(lease).ok_or(UNKNOWN)?;
        match *held.key {
            SocketKey::Datagrams { ifindex, group, .. } => Ok((held, ifindex, group)),
            _ => Err(UNKNOWN),
        }
    }

    fn frames_answer(&mut self, lease: u64, has_history: bool) -> Granted {
        let held = self.leases.get(lease).ok_or(UNKNOWN)?;
        let SocketDetails::Frames(PacketLease { receive_buffer_bytes, vnet_hdr, ring, .. }) =
            held.what
        else {
            return Err(UNKNOWN);
        };
        let receive_buffer_bytes = receive_buffer_bytes as u64;
        Ok(Answer::Frames { lease, receive_buffer_bytes, vnet_hdr, ring, has_history })
    }

    /// Checks whether the worker may have one more AF_PACKET socket of this kind.
    fn check_frames(
        &self,
        key: &SocketKey,
        interface: &str,
        ring: Option<RingShape>,
    ) -> Result<()> {
        self.check_room()?;
        let has_many = self.leases.claimed(key) >= MAX_FRAMES;
        if has_many || ring.is_some() && self.leases.rings() >= MAX_RINGS {
            let text = format!("too many packet sockets are open for {interface}");
            return Err(Error::Invalid(text));
        }
        Ok(())
    }

    pub(super) fn check_room(&self) -> Result<()> {
        if self.leases.len() + self.memberships.len() >= MAX_LEASES {
            return Err(Error::Invalid(format!(
                "too many rules: a worker may have {MAX_LEASES} sockets and memberships"
            )));
        }
        let most = share(self.of);
        let used = self.sockets() + self.leases.links();
        if used < most {
            if used + self.closer.pending() >= most {
                // The descriptors of sockets that are being closed still count.
                self.closer.finish();
            }
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "too many rules: the supervisor's descriptors suffice for {most} sockets per \
             worker; raise their limit (ulimit -Hn, or LimitNOFILE= of the service)"
        )))
    }
}

/// The number of sockets that each of `workers` workers may have: what the supervisor's descriptor
/// limit allows besides its own needs, whatever one worker requests.
fn share(workers: u16) -> usize {
    let workers = usize::from(workers.max(1));
    // If limits cannot be read, opening will report the error.
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return MAX_LEASES };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    limit.saturating_sub(OWN_FDS + workers * OWN_FDS_PER_WORKER) / workers
}
