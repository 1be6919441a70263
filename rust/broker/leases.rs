//! The sockets that are held for one worker, by what they are for. It must not know how they are
//! opened, nor who asks.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::key::SocketKey;
use super::memberships::Member;
use crate::addr::Addr;
use crate::error::Result;
use crate::sockets::closer::Closer;
use crate::sockets::{InterfaceRef, packet, udp_input};
use crate::sys::packet_ring::RingShape;

/// A socket that a worker has, or whoever comes after it can have.
#[derive(Debug)]
pub(super) struct LeasedSocket {
    pub(super) key: Arc<SocketKey>,
    pub(super) fd: OwnedFd,
    pub(super) what: SocketDetails,
    pub(super) user: LeaseState,
    /// Whether it stands on an interface that is not there any more, though one with the same
    /// index may be: nobody gets it again.
    is_gone: bool,
}

/// Who has a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaseState {
    /// Nobody had it yet: it was opened with those of the other workers.
    Nobody,
    /// The worker that runs.
    Present,
    /// One that is dead: it waits for the next.
    Former,
    /// None any more. It only keeps its place among those of the other workers.
    Past,
}

/// What is known of a socket beside its key.
#[derive(Debug)]
pub(super) enum SocketDetails {
    Frames(PacketLease),
    Datagrams {
        receive_buffer_bytes: usize,
        member: Member,
    },
    /// Whether the worker wants datagrams merged for it, which a refusal ends for good; `None` as long
    /// as it says neither.
    Helper {
        vote: Option<bool>,
    },
    Output {
        send_buffer_bytes: usize,
    },
}

#[derive(Debug)]
pub(super) struct PacketLease {
    pub(super) receive_buffer_bytes: usize,
    pub(super) vnet_hdr: bool,
    pub(super) ring: Option<RingShape>,
    /// The ring that was asked for: there may be none, and yet it is what is wanted.
    pub(super) asked: Option<RingShape>,
    /// Whether the kernel has been told to take all multicast, and whether that is still wanted.
    pub(super) takes_all: bool,
    pub(super) wants_all: bool,
    /// The fan-out group that it shares with the other workers, as the server numbers them. Which
    /// flow comes to whom depends on how many are in it: all are there until nobody has one.
    pub(super) group: Option<u64>,
}

/// The sockets of one worker.
#[derive(Debug, Default)]
pub(super) struct Leases {
    last_id: u64,
    held: HashMap<u64, LeasedSocket>,
    by_key: HashMap<Arc<SocketKey>, Vec<u64>>,
    closer: Closer,
}

impl Leases {
    /// None yet; `closer` closes what takes long.
    pub(super) fn new(closer: Closer) -> Self {
        Self { closer, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// A socket that the present worker has.
    pub(super) fn add(&mut self, key: SocketKey, fd: OwnedFd, what: SocketDetails) -> u64 {
        let id = self.keep(key, fd, what);
        self.claim(id);
        id
    }

    /// A socket that nobody has had yet.
    pub(super) fn keep(&mut self, key: SocketKey, fd: OwnedFd, what: SocketDetails) -> u64 {
        self.last_id += 1;
        let key = Arc::new(key);
        self.by_key.entry(key.clone()).or_default().push(self.last_id);
        let held = LeasedSocket { key, fd, what, user: LeaseState::Nobody, is_gone: false };
        self.held.insert(self.last_id, held);
        self.last_id
    }

    /// The newest socket for this that can be claimed: one that has a queue before one that nobody
    /// had yet.
    pub(super) fn waiting(&mut self, key: &SocketKey) -> Option<(u64, &mut LeasedSocket)> {
        let ids = self.by_key.get(key)?;
        let newest = |user| {
            let is_its = |id: &&u64| self.held.get(id).is_some_and(|held| held.user == user);
            ids.iter().rev().find(is_its)
        };
        let id = *newest(LeaseState::Former).or_else(|| newest(LeaseState::Nobody))?;
        Some((id, self.held.get_mut(&id)?))
    }

    /// Gives it to the present worker.
    pub(super) fn claim(&mut self, id: u64) {
        if let Some(held) = self.held.get_mut(&id) {
            held.user = LeaseState::Present;
        }
    }

    /// How many sockets for this the worker has.
    pub(super) fn claimed(&self, key: &SocketKey) -> usize {
        let ids = self.by_key.get(key).into_iter().flatten();
        ids.filter(|id| self.held.get(id).is_some_and(LeasedSocket::is_claimed)).count()
    }

    /// How many packet rings the worker has.
    pub(super) fn rings(&self) -> usize {
        let has_ring = |what: &SocketDetails| {
            matches!(what, SocketDetails::Frames(PacketLease { ring: Some(_), .. }))
        };
        self.held.values().filter(|held| held.is_claimed() && has_ring(&held.what)).count()
    }

    /// What the worker has under this number.
    pub(super) fn get(&mut self, id: u64) -> Option<&mut LeasedSocket> {
        self.held.get_mut(&id).filter(|held| held.is_claimed())
    }

    pub(super) fn fd(&self, id: u64) -> Option<BorrowedFd<'_>> {
        self.held.get(&id).map(|held| held.fd.as_fd())
    }

    /// The helpers for this, claimed or not, and what was said of merging.
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

    /// The present worker does not need a socket any more. It is closed, unless others may need
    /// its place.
    pub(super) fn release(&mut self, id: u64) {
        let is_placed = |held: &&mut LeasedSocket| held.group().is_some() && !held.is_gone;
        match self.held.get_mut(&id).filter(is_placed) {
            Some(held) => held.retire(),
            None => drop(self.remove(id)),
        }
    }

    /// The groups of which a worker, dead or alive, has a socket.
    pub(super) fn groups(&self) -> impl Iterator<Item = u64> {
        let is_used =
            |held: &&LeasedSocket| matches!(held.user, LeaseState::Present | LeaseState::Former);
        self.held.values().filter(is_used).filter_map(LeasedSocket::group)
    }

    /// Closes the sockets of groups that nobody uses.
    pub(super) fn close_groups(&mut self, is_used: impl Fn(u64) -> bool) {
        self.remove_all(|held| held.group().is_some_and(|group| !is_used(group)));
    }

    /// Closes a socket; false when there is none of this number.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let Some(held) = self.held.remove(&id) else { return false };
        if let Some(ids) = self.by_key.get_mut(&held.key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_key.remove(&held.key);
            }
        }
        if held.is_frames() {
            self.closer.close(held.fd);
        }
        true
    }

    /// The worker is dead: all it had waits for who comes after it.
    pub(super) fn orphan(&mut self) {
        for held in self.held.values_mut() {
            if held.is_claimed() {
                held.user = LeaseState::Former;
            }
            match &mut held.what {
                SocketDetails::Frames(frames) => frames.wants_all = false,
                SocketDetails::Datagrams { member, .. } => member.orphan(),
                SocketDetails::Helper { .. } | SocketDetails::Output { .. } => {}
            }
        }
        self.remove_all(|held| held.is_gone);
    }

    /// The worker is dead, and the kernel has forgotten some groups while their sockets believe to
    /// be members: these are no use to anybody.
    pub(super) fn forget_lost(&mut self, is_lost: impl Fn(u32, Addr) -> bool) {
        self.remove_all(|held| match (&held.what, &*held.key) {
            (
                SocketDetails::Datagrams { member, .. },
                &SocketKey::Datagrams { ifindex, group, .. },
            ) => member.is_any() && is_lost(ifindex, group),
            _ => false,
        });
    }

    /// The worker has all it needs: closes what waits, and ends what its sockets do for a worker
    /// before it only.
    pub(super) fn settle(&mut self) {
        let former = self.held.iter().filter(|(_, held)| held.user == LeaseState::Former);
        for id in former.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.release(id);
        }
        self.held.values_mut().for_each(LeasedSocket::settle);
    }

    /// The interface with this index is gone, and another may get the index. What is a member of
    /// something there leaves now: later that would end the membership of another socket.
    pub(super) fn interface_gone(&mut self, ifindex: u32) {
        let stands_there = |held: &LeasedSocket| held.key.ifindex() == Some(ifindex);
        for held in self.held.values_mut().filter(|held| stands_there(held)) {
            held.is_gone = true;
            if let SocketKey::Datagrams { group, .. } = *held.key {
                udp_input::leave(held.fd.as_fd(), ifindex, group, &[]);
            }
        }
        self.remove_all(|held| held.is_gone && !held.is_claimed());
    }

    /// Whether an AF_PACKET socket tells that the interface with this index is another one by now.
    pub(super) fn has_lost(&self, ifindex: u32) -> bool {
        self.frames_on(ifindex).is_some_and(|fd| !packet::has_interface(fd))
    }

    /// Closes all of them.
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

impl LeasedSocket {
    /// The queue that it got, in bytes.
    pub(super) fn buffer_bytes(&self) -> usize {
        match self.what {
            SocketDetails::Frames(PacketLease { receive_buffer_bytes: bytes, .. })
            | SocketDetails::Datagrams { receive_buffer_bytes: bytes, .. }
            | SocketDetails::Output { send_buffer_bytes: bytes } => bytes,
            SocketDetails::Helper { .. } => 0,
        }
    }

    /// Notes that its worker wants datagrams merged, or refuses it; `None` for what is no helper.
    pub(super) fn vote(&mut self, on: bool) -> Option<()> {
        let SocketDetails::Helper { vote } = &mut self.what else { return None };
        *vote = Some(on && *vote != Some(false));
        Some(())
    }

    fn is_claimed(&self) -> bool {
        self.user == LeaseState::Present
    }

    /// The fan-out group that it is in with those of other workers.
    fn group(&self) -> Option<u64> {
        match &self.what {
            SocketDetails::Frames(frames) => frames.group,
            _ => None,
        }
    }

    /// Lets it receive nothing any more.
    fn retire(&mut self) {
        self.user = LeaseState::Past;
        // What it queued before is for nobody, as it is never claimed again.
        packet::replace_filter(self.fd.as_fd(), &[]).ok();
        drop(self.take_all(false));
    }

    pub(super) fn is_frames(&self) -> bool {
        matches!(self.what, SocketDetails::Frames(_))
    }

    /// Whether it was made with this wish for a packet ring.
    pub(super) fn has_ring(&self, wanted: Option<RingShape>) -> bool {
        matches!(&self.what, SocketDetails::Frames(frames) if frames.asked == wanted)
    }

    /// What it is a member for, where it is one by itself.
    pub(super) fn member(&mut self) -> Option<&mut Member> {
        match &mut self.what {
            SocketDetails::Datagrams { member, .. } => Some(member),
            _ => None,
        }
    }

    /// Has its interface take all multicast for the present worker, or no longer; `None` where
    /// that is not its business.
    pub(super) fn take_all(&mut self, on: bool) -> Option<Result<()>> {
        let (SocketDetails::Frames(frames), &SocketKey::Frames { ifindex }) =
            (&mut self.what, &*self.key)
        else {
            return None;
        };
        if on != frames.takes_all {
            let name = format!("interface {ifindex}");
            let interface = InterfaceRef { index: ifindex, name: &name };
            let told = packet::take_all_multicast(self.fd.as_fd(), &interface, on);
            if told.is_err() {
                return Some(told);
            }
        }
        (frames.takes_all, frames.wants_all) = (on, on);
        Some(Ok(()))
    }

    fn settle(&mut self) {
        match (&mut self.what, &*self.key) {
            (SocketDetails::Frames(frames), _) if !frames.wants_all => drop(self.take_all(false)),
            (
                SocketDetails::Datagrams { member, .. },
                &SocketKey::Datagrams { ifindex, group, .. },
            ) => {
                member.settle(self.fd.as_fd(), ifindex, group);
            }
            _ => {}
        }
    }
}
