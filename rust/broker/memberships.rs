//! The groups joined for one worker. They outlive it, so that no datagram is missed until its next
//! incarnation joins them again.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::BorrowedFd;

use crate::addr::Addr;
use crate::error::Result;
use crate::sockets::joins::Joins;
use crate::sockets::{InterfaceRef, udp_input};

/// Memberships on sockets of their own, for the packet ingress.
#[derive(Debug, Default)]
pub(super) struct Memberships {
    joins: Joins,
    held: HashMap<MembershipKey, MembershipClaim>,
}

/// Interface index, group and sorted sources.
type MembershipKey = (u32, Addr, Box<[Addr]>);

#[derive(Debug, Default)]
struct MembershipClaim {
    /// How often the running worker has joined it.
    claims: usize,
    is_joined: bool,
}

impl Memberships {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// The number of sockets that hold the memberships.
    pub(super) fn sockets(&self) -> usize {
        self.joins.sockets()
    }

    pub(super) fn join(
        &mut self,
        interface: &InterfaceRef<'_>,
        group: Addr,
        sources: &[Addr],
    ) -> Result<()> {
        let key = key(interface.index, group, sources);
        let known = self.held.get(&key);
        if !known.is_some_and(|claim| claim.is_joined) {
            self.joins.join(interface.index, interface.name, group, sources)?;
        }
        let claim = self.held.entry(key).or_default();
        claim.is_joined = true;
        claim.claims += 1;
        Ok(())
    }

    /// Whether the interface has any membership.
    pub(super) fn is_on(&self, ifindex: u32) -> bool {
        self.held.keys().any(|(index, _, _)| *index == ifindex)
    }

    /// Reverts one join. Ignores groups that the worker has not joined.
    pub(super) fn leave(&mut self, ifindex: u32, group: Addr, sources: &[Addr]) {
        let key = key(ifindex, group, sources);
        let Some(claim) = self.held.get_mut(&key).filter(|claim| claim.claims > 0) else {
            return;
        };
        claim.claims -= 1;
        if claim.claims > 0 {
            return;
        }
        let is_joined = claim.is_joined;
        self.held.remove(&key);
        if is_joined {
            // It was joined with the same arguments, so leaving cannot be refused.
            self.joins.leave(ifindex, group, sources).ok();
        }
    }

    /// Handles the worker's death.
    pub(super) fn orphan(&mut self) {
        self.held.values_mut().for_each(|claim| claim.claims = 0);
        self.remove_if(|claim| !claim.is_joined);
    }

    /// After the worker's death, drops memberships that the kernel has forgotten although the
    /// sockets still count as members. The next incarnation joins them again.
    pub(super) fn drop_lost(&mut self, is_lost: impl Fn(u32, Addr) -> bool) {
        self.held.retain(|(ifindex, group, sources), _| {
            let is_removed = is_lost(*ifindex, *group);
            if is_removed {
                self.joins.leave(*ifindex, *group, sources).ok();
            }
            !is_removed
        });
    }

    /// Once the worker has joined all it needs, leaves the other groups.
    pub(super) fn release_unclaimed(&mut self) {
        self.remove_if(|claim| claim.claims == 0);
    }

    /// Handles the deletion of an interface. As with leases, leaving later would end the membership
    /// of another socket.
    pub(super) fn interface_removed(&mut self, index: u32) {
        for ((ifindex, group, sources), claim) in &mut self.held {
            if *ifindex == index && std::mem::take(&mut claim.is_joined) {
                self.joins.leave(index, *group, sources).ok();
            }
        }
        self.remove_if(|claim| !claim.is_joined && claim.claims == 0);
    }

    fn remove_if(&mut self, is_unwanted: impl Fn(&MembershipClaim) -> bool) {
        let Self { held, joins } = self;
        held.retain(|(ifindex, group, sources), claim| {
            let is_removed = is_unwanted(claim);
            if is_removed && claim.is_joined {
                joins.leave(*ifindex, *group, sources).ok();
            }
            !is_removed
        });
    }
}

fn key(ifindex: u32, group: Addr, sources: &[Addr]) -> MembershipKey {
    let mut sources = sources.to_vec();
    sources.sort_unstable();
    sources.dedup();
    (ifindex, group, sources.into())
}

/// The membership of a `udp` ingress socket: the sources that the running worker wants, and those
/// that an earlier incarnation has joined.
#[derive(Debug, Default)]
pub(super) struct Member {
    current: Senders,
    former: Senders,
}

#[derive(Debug, Default)]
struct Senders {
    /// Any source; `list` is then empty.
    any: bool,
    list: BTreeSet<Addr>,
}

impl Member {
    pub(super) fn record_join(&mut self, sources: &[Addr]) {
        self.current.add(sources);
    }

    /// Without a list the whole membership ends, including what an earlier incarnation joined.
    pub(super) fn record_leave(&mut self, sources: &[Addr]) {
        self.current.remove(sources);
        self.former.remove(sources);
    }

    /// Whether there is a membership at all.
    pub(super) fn is_any(&self) -> bool {
        [&self.current, &self.former]
            .into_iter()
            .any(|senders| senders.any || !senders.list.is_empty())
    }

    /// Also reduces what an earlier incarnation joined to these sources.
    pub(super) fn record_narrow(&mut self, sources: &[Addr]) {
        *self = Self::default();
        self.record_join(sources);
    }

    pub(super) fn orphan(&mut self) {
        let current = std::mem::take(&mut self.current);
        self.former.add(&Vec::from_iter(current.list));
        if current.any {
            self.former.add(&[]);
        }
    }

    /// Drops sources that only an earlier incarnation wanted.
    pub(super) fn release_unclaimed(&mut self, fd: BorrowedFd<'_>, ifindex: u32, group: Addr) {
        let former = std::mem::take(&mut self.former);
        let current = &self.current;
        if current.any {
            return;
        }
        let wanted: Vec<Addr> = current.list.iter().copied().collect();
        if wanted.is_empty() {
            udp_input::leave(fd, ifindex, group, &[]);
            return;
        }
        if former.any {
            // If a limit prevents it, the membership stays one for any source.
            udp_input::narrow(fd, ifindex, group, &wanted).ok();
            return;
        }
        let unwanted: Vec<Addr> = former.list.difference(&current.list).copied().collect();
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
