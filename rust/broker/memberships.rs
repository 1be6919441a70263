//! The groups that are joined for one worker: they outlive it, so that nothing is missed until the
//! next one asks for them. It must not know who receives.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::BorrowedFd;

use crate::addr::Addr;
use crate::error::Result;
use crate::sockets::joins::Joins;
use crate::sockets::{InterfaceRef, udp_input};

/// Memberships by sockets of their own, for the packet ingress.
#[derive(Debug, Default)]
pub(super) struct Memberships {
    joins: Joins,
    held: HashMap<MembershipKey, MembershipClaim>,
}

/// The interface, the group and the senders in order.
type MembershipKey = (u32, Addr, Box<[Addr]>);

#[derive(Debug, Default)]
struct MembershipClaim {
    /// How often the present worker asked for it.
    claims: usize,
    is_joined: bool,
}

impl Memberships {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// The sockets that hold them.
    pub(super) fn sockets(&self) -> usize {
        self.joins.sockets()
    }

    pub(super) fn join(
        &mut self,
        interface: &InterfaceRef<'_>,
        group: Addr,
        sources: &[Addr],
    ) -> Result<()> {
        let wanted = wanted(interface.index, group, sources);
        let known = self.held.get(&wanted);
        if !known.is_some_and(|wish| wish.is_joined) {
            self.joins.join(interface.index, interface.name, group, sources)?;
        }
        let wish = self.held.entry(wanted).or_default();
        wish.is_joined = true;
        wish.claims += 1;
        Ok(())
    }

    /// Whether there are any on the interface.
    pub(super) fn is_on(&self, ifindex: u32) -> bool {
        self.held.keys().any(|(index, _, _)| *index == ifindex)
    }

    /// Takes one join back. What the worker never joined is nothing to leave.
    pub(super) fn leave(&mut self, ifindex: u32, group: Addr, sources: &[Addr]) {
        let wanted = wanted(ifindex, group, sources);
        let Some(wish) = self.held.get_mut(&wanted).filter(|wish| wish.claims > 0) else { return };
        wish.claims -= 1;
        if wish.claims > 0 {
            return;
        }
        let is_joined = wish.is_joined;
        self.held.remove(&wanted);
        if is_joined {
            // It was joined in the same way, so there is nothing to refuse.
            self.joins.leave(ifindex, group, sources).ok();
        }
    }

    /// The worker is dead.
    pub(super) fn orphan(&mut self) {
        self.held.values_mut().for_each(|wish| wish.claims = 0);
        self.remove_if(|wish| !wish.is_joined);
    }

    /// The worker is dead, and the kernel has forgotten some groups while their sockets believe to
    /// be members: who comes after it joins them anew.
    pub(super) fn forget_lost(&mut self, is_lost: impl Fn(u32, Addr) -> bool) {
        self.held.retain(|(ifindex, group, sources), _| {
            let goes = is_lost(*ifindex, *group);
            if goes {
                self.joins.leave(*ifindex, *group, sources).ok();
            }
            !goes
        });
    }

    /// The worker has all it needs: the rest is left.
    pub(super) fn settle(&mut self) {
        self.remove_if(|wish| wish.claims == 0);
    }

    /// As for a lease: what is left later, would take the membership of another socket with it.
    pub(super) fn interface_gone(&mut self, index: u32) {
        for ((ifindex, group, sources), wish) in &mut self.held {
            if *ifindex == index && std::mem::take(&mut wish.is_joined) {
                self.joins.leave(index, *group, sources).ok();
            }
        }
        self.remove_if(|wish| !wish.is_joined && wish.claims == 0);
    }

    fn remove_if(&mut self, is_unwanted: impl Fn(&MembershipClaim) -> bool) {
        let Self { held, joins } = self;
        held.retain(|(ifindex, group, sources), wish| {
            let goes = is_unwanted(wish);
            if goes && wish.is_joined {
                joins.leave(*ifindex, *group, sources).ok();
            }
            !goes
        });
    }
}

fn wanted(ifindex: u32, group: Addr, sources: &[Addr]) -> MembershipKey {
    let mut sources = sources.to_vec();
    sources.sort_unstable();
    sources.dedup();
    (ifindex, group, sources.into())
}

/// What a socket of the `udp` ingress is a member for, as the kernel counts it, and what of that
/// the present worker wants.
#[derive(Debug, Default)]
pub(super) struct Member {
    now: Senders,
    before: Senders,
}

#[derive(Debug, Default)]
struct Senders {
    /// Any sender: then there is no list.
    any: bool,
    list: BTreeSet<Addr>,
}

impl Member {
    pub(super) fn joined(&mut self, sources: &[Addr]) {
        self.now.add(sources);
    }

    /// Without a list all ends, also what a worker before has joined.
    pub(super) fn left(&mut self, sources: &[Addr]) {
        self.now.remove(sources);
        self.before.remove(sources);
    }

    /// Whether it is one at all.
    pub(super) fn is_any(&self) -> bool {
        [&self.now, &self.before].into_iter().any(|senders| senders.any || !senders.list.is_empty())
    }

    /// Also what a worker before has joined is no more than this now.
    pub(super) fn narrowed(&mut self, sources: &[Addr]) {
        *self = Self::default();
        self.joined(sources);
    }

    pub(super) fn orphan(&mut self) {
        let now = std::mem::take(&mut self.now);
        self.before.add(&Vec::from_iter(now.list));
        if now.any {
            self.before.add(&[]);
        }
    }

    /// Ends what only a worker before wanted.
    pub(super) fn settle(&mut self, fd: BorrowedFd<'_>, ifindex: u32, group: Addr) {
        let before = std::mem::take(&mut self.before);
        let now = &self.now;
        if now.any {
            return;
        }
        let wanted: Vec<Addr> = now.list.iter().copied().collect();
        if wanted.is_empty() {
            udp_input::leave(fd, ifindex, group, &[]);
            return;
        }
        if before.any {
            // Where a limit is in the way it stays one for any sender.
            udp_input::narrow(fd, ifindex, group, &wanted).ok();
            return;
        }
        let unwanted: Vec<Addr> = before.list.difference(&now.list).copied().collect();
        if !unwanted.is_empty() {
            udp_input::leave(fd, ifindex, group, &unwanted);
        }
    }
}

impl Senders {
    fn add(&mut self, sources: &[Addr]) {
        if sources.is_empty() {
            *self = Self { any: true, list: BTreeSet::new() };
        } else if !self.any {
            self.list.extend(sources);
        }
    }

    fn remove(&mut self, sources: &[Addr]) {
        if sources.is_empty() {
            *self = Self::default();
        } else {
            self.list.retain(|source| !sources.contains(source));
        }
    }
}
