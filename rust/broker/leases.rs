//! The sockets held for one worker, by purpose.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::key::SocketKey;
use super::memberships::Member;
use super::messages::Answer;
use crate::addr::Addr;
use crate::error::Result;
use crate::sockets::closer::Closer;
use crate::sockets::{InterfaceRef, packet, udp_input};
use crate::sys::packet_ring::RingShape;

/// A socket that a worker has, or that its next incarnation can claim.
#[derive(Debug)]
pub(super) struct LeasedSocket {
    pub(super) key: Arc<SocketKey>,
    pub(super) fd: OwnedFd,
    pub(super) what: SocketDetails,
    pub(super) state: LeaseState,
    /// Whether its interface was deleted, even if a new one has the same index: it cannot be
    /// claimed again.
    is_gone: bool,
}

/// The state of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaseState {
    /// Not claimed yet: the socket was opened together with those of the other workers.
    Unclaimed,
    /// Claimed by the running worker.
    Claimed,
    /// Its worker has died; the next incarnation can claim it.
    Orphaned,
    /// Released. It only keeps its place in the fan-out group.
    Retired,
}

/// The state of a socket besides its key.
#[derive(Debug)]
pub(super) enum SocketDetails {
    Frames(PacketLease),
    Datagrams {
        receive_buffer_bytes: usize,
        member: Member,
    },
    /// Whether the worker wants datagrams merged for this helper, which one refusal ends for good;
    /// `None` until the worker has voted.
    Helper {
        vote: Option<bool>,
    },
    Output {
        send_buffer_bytes: usize,
    },
    XdpLink {
        umem: OwnedFd,
    },
}

#[derive(Debug)]
pub(super) struct PacketLease {
    pub(super) receive_buffer_bytes: usize,
    pub(super) vnet_hdr: bool,
    pub(super) ring: Option<RingShape>,
    /// The requested ring. A socket without a ring also satisfies the request.
    pub(super) asked: Option<RingShape>,
    /// Whether all multicast is enabled in the kernel.
    pub(super) takes_all: bool,
    pub(super) wants_all: bool,
    /// The fan-out group that it shares with the other workers, as numbered by the server. The
    /// group's size decides which flow goes to which socket, so all stay open until no worker uses
    /// the group.
    pub(super) group: Option<u64>,
}

/// The sockets of one worker.
#[derive(Debug, Default)]
pub(super) struct Leases {
    last_id: u64,
    held: HashMap<u64, LeasedSocket>,
    by_key: HashMap<Arc<SocketKey>, Vec<u64>>,
    links: usize,
    closer: Closer,
}

impl Leases {
    /// Creates an empty set; `closer` closes sockets whose close blocks.
    pub(super) fn new(closer: Closer) -> Self {
        Self { closer, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Adds a socket that the running worker has claimed.
    pub(super) fn add(&mut self, key: SocketKey, fd: OwnedFd, what: SocketDetails) -> u64 {
        let id = self.add_unclaimed(key, fd, what);
        self.claim(id);
        id
    }

    /// Adds an unclaimed socket.
    pub(super) fn add_unclaimed(
        &mut self,
        key: SocketKey,
        fd: OwnedFd,
        what: SocketDetails,
    ) -> u64 {
        let id = self.new_id();
        self.links += usize::from(what.is_link());
        let key = Arc::new(key);
        self.by_key.entry(key.clone()).or_default().push(id);
        let held = LeasedSocket { key, fd, what, state: LeaseState::Unclaimed, is_gone: false };
        self.held.insert(id, held);
        id
    }

    /// Adds a socket of another supervisor in this state.
    pub(super) fn adopt(
        &mut self,
        key: SocketKey,
        fd: OwnedFd,
        what: SocketDetails,
        state: LeaseState,
    ) {
        let id = self.add_unclaimed(key, fd, what);
        if let Some(held) = self.held.get_mut(&id) {
            held.state = state;
        }
    }

    /// The sockets on existing interfaces, the oldest first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &LeasedSocket> {
        let ids: BTreeSet<u64> = self.held.keys().copied().collect();
        let held = ids.into_iter().filter_map(|id| self.held.get(&id));
        held.filter(|held| !held.is_gone)
    }

    /// A number for a lease, also for one that is held elsewhere.
    pub(super) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The newest socket with this key that can be claimed; one with a queue is preferred to one
    /// that was never claimed.
    pub(super) fn waiting(&mut self, key: &SocketKey) -> Option<(u64, &mut LeasedSocket)> {
        let ids = self.by_key.get(key)?;
        let newest = |state| {
            let is_its = |id: &&u64| self.held.get(id).is_some_and(|held| held.state == state);
            ids.iter().rev().find(is_its)
        };
        let id = *newest(LeaseState::Orphaned).or_else(|| newest(LeaseState::Unclaimed))?;
        Some((id, self.held.get_mut(&id)?))
    }

    /// Assigns the socket to the running worker.
    pub(super) fn claim(&mut self, id: u64) {
        if let Some(held) = self.held.get_mut(&id) {
            held.state = LeaseState::Claimed;
        }
    }

    /// How many sockets with this key the worker has claimed.
    pub(super) fn claimed(&self, key: &SocketKey) -> usize {
        let ids = self.by_key.get(key).into_iter().flatten();
        ids.filter(|id| self.held.get(id).is_some_and(LeasedSocket::is_claimed)).count()
    }

    /// How many packet rings the worker has claimed.
    pub(super) fn rings(&self) -> usize {
        let has_ring = |what: &SocketDetails| {
            matches!(what, SocketDetails::Frames(PacketLease { ring: Some(_), .. }))
        };
        self.held.values().filter(|held| held.is_claimed() && has_ring(&held.what)).count()
    }

    /// How many XDP links the worker has, of two descriptors each.
    pub(super) fn links(&self) -> usize {
        self.links
    }

    /// Closes all XDP links: nothing waits in them for another incarnation.
    pub(super) fn close_links(&mut self) {
        if self.links > 0 {
            self.remove_all(|held| held.what.is_link());
        }
    }

    /// The claimed socket with this lease number.
    pub(super) fn get(&mut self, id: u64) -> Option<&mut LeasedSocket> {
        self.held.get_mut(&id).filter(|held| held.is_claimed())
    }

    /// The descriptor that belongs to an answer.
    pub(super) fn attached(&self, answer: &Answer) -> Option<BorrowedFd<'_>> {
        match answer {
            Answer::XdpMemory { lease } => self.held.get(lease)?.umem(),
            _ => self.held.get(&answer.lease()?).map(|held| held.fd.as_fd()),
        }
    }

    /// The helpers with this key, claimed or not, and their votes on merging.
    pub(super) fn helpers(
        &self,
        key: &SocketKey,
    ) -> impl Iterator<Item = (BorrowedFd<'_>, Option<bool>)> {
        let ids = self.by_key.get(key).into_iter().flatten();
        ids.filter_map(|id| self.held.get(id)).filter_map(|held| match held.what {
            SocketDetails::Helper { vote } => Some((held.fd.as_fd(), vote)),
            _ => None,
        })
    }

    /// An AF_PACKET socket on an interface, claimed or not.
    pub(super) fn frames_on(&self, ifindex: u32) -> Option<BorrowedFd<'_>> {
        let ids = self.by_key.get(&SocketKey::Frames { ifindex })?;
        let held = ids.iter().filter_map(|id| self.held.get(id)).find(|held| !held.is_gone);
        held.map(|held| held.fd.as_fd())
    }

    /// Whether a socket of the `udp` ingress is a member of its group on the interface.
    pub(super) fn is_member_on(&self, ifindex: u32) -> bool {
        self.held.values().any(|held| match &held.what {
            SocketDetails::Datagrams { member, .. } => {
                member.is_any() && held.key.ifindex() == Some(ifindex)
            }
            _ => false,
        })
    }

    /// Releases a socket of the running worker. It is closed, unless its fan-out group is still in
    /// use.
    pub(super) fn release(&mut self, id: u64) {
        let is_placed = |held: &&mut LeasedSocket| held.group().is_some() && !held.is_gone;
        match self.held.get_mut(&id).filter(is_placed) {
            Some(held) => held.retire(),
            None => drop(self.remove(id)),
        }
    }

    /// The fan-out groups in which a worker, running or dead, has a socket.
    pub(super) fn groups(&self) -> impl Iterator<Item = u64> {
        let is_used =
            |held: &&LeasedSocket| matches!(held.state, LeaseState::Claimed | LeaseState::Orphaned);
        self.held.values().filter(is_used).filter_map(LeasedSocket::group)
    }

    /// Closes the sockets of unused groups.
    pub(super) fn close_groups(&mut self, is_used: impl Fn(u64) -> bool) {
        self.remove_all(|held| held.group().is_some_and(|group| !is_used(group)));
    }

    /// Closes a socket; false if there is none with this number.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let Some(held) = self.held.remove(&id) else { return false };
        if let Some(ids) = self.by_key.get_mut(&held.key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_key.remove(&held.key);
            }
        }
        self.links -= usize::from(held.what.is_link());
        if held.is_frames() {
            self.closer.close(held.fd);
        }
        true
    }

    /// Handles the worker's death: its sockets wait for the next incarnation.
    pub(super) fn orphan(&mut self) {
        for held in self.held.values_mut() {
            if held.is_claimed() {
                held.state = LeaseState::Orphaned;
            }
            match &mut held.what {
                SocketDetails::Frames(frames) => frames.wants_all = false,
                SocketDetails::Datagrams { member, .. } => member.orphan(),
                _ => {}
            }
        }
        self.close_links();
        self.remove_all(|held| held.is_gone);
    }

    /// After the worker's death, closes sockets whose groups the kernel has dropped although the
    /// sockets still count as members: they cannot receive any more.
    pub(super) fn drop_lost(&mut self, is_lost: impl Fn(u32, Addr) -> bool) {
        self.remove_all(|held| match (&held.what, &*held.key) {
            (
                SocketDetails::Datagrams { member, .. },
                &SocketKey::Datagrams { ifindex, group, .. },
            ) => member.is_any() && is_lost(ifindex, group),
            _ => false,
        });
    }

    /// Once the worker has claimed all it needs, closes unclaimed sockets and drops what the others
    /// still do only for an earlier incarnation.
    pub(super) fn release_unclaimed(&mut self) {
        let former = self.held.iter().filter(|(_, held)| held.state == LeaseState::Orphaned);
        for id in former.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.release(id);
        }
        self.held.values_mut().for_each(LeasedSocket::release_unclaimed);
    }

    /// Handles the deletion of an interface, whose index may be reused. Sockets leave their groups
    /// there now; a later leave would end the membership of another socket.
    pub(super) fn interface_removed(&mut self, ifindex: u32) {
        let stands_there = |held: &LeasedSocket| held.key.ifindex() == Some(ifindex);
        for held in self.held.values_mut().filter(|held| stands_there(held)) {
            held.is_gone = true;
            if let SocketKey::Datagrams { group, .. } = *held.key {
                udp_input::leave(held.fd.as_fd(), ifindex, group, &[]);
            }
        }
        self.remove_all(|held| held.is_gone && !held.is_claimed());
    }

    /// Whether an AF_PACKET socket shows that the interface with this index is a new one.
    pub(super) fn is_interface_replaced(&self, ifindex: u32) -> bool {
        self.frames_on(ifindex).is_some_and(|fd| !packet::has_interface(fd))
    }

    /// Closes all sockets.
    pub(super) fn clear(&mut self) {
        self.remove_all(|_| true);
    }

    fn remove_all(&mut self, is_unwanted: impl Fn(&LeasedSocket) -> bool) {
        let unwanted = self.held.iter().filter(|(_, held)| is_unwanted(held));
        for id in unwanted.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.remove(id);
        }
    }
}

impl SocketDetails {
    fn is_link(&self) -> bool {
        matches!(self, Self::XdpLink { .. })
    }
}

impl LeasedSocket {
    /// The actual size of its queue in bytes.
    pub(super) fn buffer_bytes(&self) -> usize {
        match self.what {
            SocketDetails::Frames(PacketLease { receive_buffer_bytes: bytes, .. })
            | SocketDetails::Datagrams { receive_buffer_bytes: bytes, .. }
            | SocketDetails::Output { send_buffer_bytes: bytes } => bytes,
            SocketDetails::Helper { .. } | SocketDetails::XdpLink { .. } => 0,
        }
    }

    /// The memory of its frames, if it is an XDP link.
    pub(super) fn umem(&self) -> Option<BorrowedFd<'_>> {
        match &self.what {
            SocketDetails::XdpLink { umem } => Some(umem.as_fd()),
            _ => None,
        }
    }

    /// Records the worker's vote on merging; `None` if the socket is not a helper.
    pub(super) fn vote(&mut self, on: bool) -> Option<()> {
        let SocketDetails::Helper { vote } = &mut self.what else { return None };
        *vote = Some(on && *vote != Some(false));
        Some(())
    }

    fn is_claimed(&self) -> bool {
        self.state == LeaseState::Claimed
    }

    /// Its fan-out group, if shared with other workers.
    fn group(&self) -> Option<u64> {
        match &self.what {
            SocketDetails::Frames(frames) => frames.group,
            _ => None,
        }
    }

    /// Stops all reception, but keeps the socket's place in the group.
    fn retire(&mut self) {
        self.state = LeaseState::Retired;
        // It is never claimed again, so its queued frames are not needed.
        packet::replace_filter(self.fd.as_fd(), &[]).ok();
        drop(self.take_all(false));
    }

    pub(super) fn is_frames(&self) -> bool {
        matches!(self.what, SocketDetails::Frames(_))
    }

    /// Whether the socket was opened with this request for a packet ring.
    pub(super) fn has_ring(&self, wanted: Option<RingShape>) -> bool {
        matches!(&self.what, SocketDetails::Frames(frames) if frames.asked == wanted)
    }

    /// Its membership, if the socket has one of its own.
    pub(super) fn member(&mut self) -> Option<&mut Member> {
        match &mut self.what {
            SocketDetails::Datagrams { member, .. } => Some(member),
            _ => None,
        }
    }

    /// Makes its interface receive all multicast for the running worker, or stops that; `None` if
    /// this is not a packet socket.
    pub(super) fn take_all(&mut self, on: bool) -> Option<Result<()>> {
        let (SocketDetails::Frames(frames), &SocketKey::Frames { ifindex }) =
            (&mut self.what, &*self.key)
        else {
            return None;
        };
        if on != frames.takes_all {
            let name = format!("interface {ifindex}");
            let interface = InterfaceRef { index: ifindex, name: &name };
            let result = packet::take_all_multicast(self.fd.as_fd(), &interface, on);
            if result.is_err() {
                return Some(result);
            }
        }
        (frames.takes_all, frames.wants_all) = (on, on);
        Some(Ok(()))
    }

    fn release_unclaimed(&mut self) {
        match (&mut self.what, &*self.key) {
            (SocketDetails::Frames(frames), _) if !frames.wants_all => drop(self.take_all(false)),
            (
                SocketDetails::Datagrams { member, .. },
                &SocketKey::Datagrams { ifindex, group, .. },
            ) => {
                member.release_unclaimed(self.fd.as_fd(), ifindex, group);
            }
            _ => {}
        }
    }
}
