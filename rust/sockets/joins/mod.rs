//! Multicast memberships, held by sockets that have no port and receive nothing. They make the
//! switch and the network card deliver the groups.
//!
//! A socket holds a limited number of memberships (net.ipv4.igmp_max_memberships, igmp_max_msf,
//! mld_max_msf, the memory of net.core.optmem_max). These limits can change at any time, so the
//! code does not read them: when a socket is full, the next one takes the rest.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::mcast_options::{is_full, join_group, join_source, leave_group, refusal};
use super::socket;
use crate::addr::Addr;
use crate::error::{Error, Result};

/// The memberships of a process.
#[derive(Debug, Default)]
pub struct Joins {
    holders: Vec<JoinSocket>,
    held: HashMap<Membership, HeldMembership>,
}

/// The key for counting: two requests for the same key share one membership.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Membership {
    ifindex: u32,
    group: Addr,
    sources: Box<[Addr]>,
}

/// An existing membership, on one socket or, with many sources, on several.
#[derive(Debug)]
struct HeldMembership {
    claims: usize,
    holders: Vec<u64>,
}

/// A socket and its memberships. It holds each (interface, group) only once, so that source lists
/// stay separate.
#[derive(Debug)]
struct JoinSocket {
    id: u64,
    fd: OwnedFd,
    v4: bool,
    full: bool,
    groups: HashSet<(u32, Addr)>,
}

impl Joins {
    /// Creates an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Joins `group` on the interface, for datagrams from `sources` only, or from any source if
    /// `sources` is empty. Every join needs its own leave.
    ///
    /// # Errors
    /// [`Error::Os`], naming the sysctl if a single membership exceeds the kernel's limit. Nothing
    /// is joined then.
    pub fn join(
        &mut self,
        ifindex: u32,
        interface: &str,
        group: Addr,
        sources: &[Addr],
    ) -> Result<()> {
        let membership = Membership::new(ifindex, group, sources);
        if let Some(held) = self.held.get_mut(&membership) {
            held.claims += 1;
            return Ok(());
        }
        let mut holders = Vec::new();
        let mut left = &*membership.sources;
        loop {
            match self.hold(&membership, left, interface) {
                Ok((holder, joined)) => {
                    holders.push(holder);
                    left = left.get(joined..).unwrap_or_default();
                }
                Err(error) => {
                    self.drop_from(&membership, &holders);
                    return Err(error);
                }
            }
            if left.is_empty() {
                self.held.insert(membership, HeldMembership { claims: 1, holders });
                return Ok(());
            }
        }
    }

    /// Reverts one [`Joins::join`] with the same arguments; the last one ends the membership. Works
    /// even if the interface is gone.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no such membership.
    pub fn leave(&mut self, ifindex: u32, group: Addr, sources: &[Addr]) -> Result<()> {
        let membership = Membership::new(ifindex, group, sources);
        let Some(held) = self.held.get_mut(&membership) else {
            return Err(Error::Invalid(format!("{group} is not joined in this way")));
        };
        held.claims -= 1;
        if held.claims == 0
            && let Some(held) = self.held.remove(&membership)
        {
            self.drop_from(&membership, &held.holders);
        }
        Ok(())
    }

    /// The number of sockets that hold the memberships.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.holders.len()
    }

    /// Joins as many of `sources` as one socket takes, at least one. Returns the socket's index and
    /// the number of sources.
    fn hold(
        &mut self,
        membership: &Membership,
        sources: &[Addr],
        interface: &str,
    ) -> Result<(u64, usize)> {
        let target = format!("{interface} for {}", membership.group);
        let refused = |error| refusal(membership.group, &target, error);
        for holder in &mut self.holders {
            if holder.takes(membership) {
                match holder.join(membership, sources) {
                    Ok(joined) => return Ok((holder.id, joined)),
                    Err(error) if is_full(&error) => holder.full = true,
                    Err(error) => return Err(refused(error)),
                }
            }
        }
        let id = self.holders.last().map_or(0, |last| last.id + 1);
        let mut holder = JoinSocket::open(id, membership.group, &target)?;
        let joined = holder.join(membership, sources).map_err(refused)?;
        self.holders.push(holder);
        Ok((id, joined))
    }

    fn drop_from(&mut self, membership: &Membership, holders: &[u64]) {
        for holder in self.holders.iter_mut().filter(|holder| holders.contains(&holder.id)) {
            holder.leave(membership);
        }
        self.holders.retain(|holder| !holder.groups.is_empty());
    }
}

impl Membership {
    fn new(ifindex: u32, group: Addr, sources: &[Addr]) -> Self {
        let mut sources = sources.to_vec();
        sources.sort_unstable();
        sources.dedup();
        Self { ifindex, group, sources: sources.into() }
    }
}

impl JoinSocket {
    fn open(id: u64, group: Addr, target: &str) -> Result<Self> {
        let fd = socket::open(socket::family(group), libc::SOCK_DGRAM, target)?;
        Ok(Self { id, fd, v4: group.is_v4(), full: false, groups: HashSet::new() })
    }

    fn takes(&self, membership: &Membership) -> bool {
        !self.full
            && self.v4 == membership.group.is_v4()
            && !self.groups.contains(&(membership.ifindex, membership.group))
    }

    /// Joins the group with as many of `sources` as fit; returns how many.
    fn join(&mut self, membership: &Membership, sources: &[Addr]) -> io::Result<usize> {
        let fd = self.fd.as_fd();
        let Membership { ifindex, group, .. } = *membership;
        let mut joined = 0;
        if sources.is_empty() {
            join_group(fd, ifindex, group)?;
        }
        for source in sources {
            match join_source(fd, ifindex, group, *source) {
                Ok(()) => joined += 1,
                Err(error) if is_full(&error) && joined > 0 => break,
                Err(error) => {
                    if joined > 0 {
                        leave_group(fd, ifindex, group).ok();
                    }
                    return Err(error);
                }
            }
        }
        self.groups.insert((ifindex, group));
        Ok(joined)
    }

    fn leave(&mut self, membership: &Membership) {
        let Membership { ifindex, group, .. } = *membership;
        // It fails only if the kernel has no such membership, which is the intended result.
        leave_group(self.fd.as_fd(), ifindex, group).ok();
        self.groups.remove(&(ifindex, group));
        self.full = false;
    }
}

#[cfg(test)]
mod tests;
