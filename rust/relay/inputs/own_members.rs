//! How many members of a group on an interface are sockets of this relay. All others are programs
//! that want its datagrams too.

use std::collections::BTreeMap;

use super::Inputs;
use super::interface::EndpointSocket;
use crate::addr::Addr;

/// The most sources that every kernel's socket takes by default (`igmp_max_msf`, `mld_max_msf`).
const SOURCES_IN_A_SOCKET: [usize; 2] = [10, 64];

/// The memberships apart from those of the sockets that receive, with the inputs that need each.
/// Each has a socket of its own.
#[derive(Default)]
pub(super) struct OwnMembers {
    inputs: BTreeMap<(u32, Addr), SourceLists>,
}

/// The number of inputs with each list of sources.
type SourceLists = BTreeMap<Box<[Addr]>, usize>;

impl OwnMembers {
    pub(super) fn add(&mut self, ifindex: u32, group: Addr, sources: &[Addr]) {
        let lists = self.inputs.entry((ifindex, group)).or_default();
        *lists.entry(sorted(sources)).or_default() += 1;
    }

    /// Undoes one [`OwnMembers::add`].
    pub(super) fn remove(&mut self, ifindex: u32, group: Addr, sources: &[Addr]) {
        let Some(lists) = self.inputs.get_mut(&(ifindex, group)) else { return };
        let sources = sorted(sources);
        if let Some(inputs) = lists.get_mut(&sources) {
            *inputs -= 1;
            if *inputs == 0 {
                lists.remove(&sources);
            }
        }
        if lists.is_empty() {
            self.inputs.remove(&(ifindex, group));
        }
    }

    /// The largest number of sockets: a long list may be spread over several.
    fn sockets(&self, ifindex: u32, group: Addr) -> usize {
        let limit = SOURCES_IN_A_SOCKET[usize::from(!group.is_v4())];
        let lists = self.inputs.get(&(ifindex, group)).into_iter().flat_map(BTreeMap::keys);
        lists.map(|list| if list.len() <= limit { 1 } else { list.len() }).sum()
    }
}

impl Inputs {
    /// The largest number of sockets of this relay that are members of a group.
    #[cfg_attr(not(feature = "offload"), expect(dead_code, reason = "asked before an offload"))]
    pub(in crate::relay) fn own_members(&self, ifindex: u32, group: Addr) -> usize {
        let on_it = self.interfaces.values().filter(|interface| interface.index == ifindex);
        let receiving = on_it.flat_map(|interface| {
            let endpoints = interface.endpoints.range((group, 0, false)..=(group, u16::MAX, true));
            endpoints.filter(|(_, it)| matches!(it.socket, EndpointSocket::Datagrams { .. }))
        });
        receiving.count() + self.own_members.sockets(ifindex, group)
    }
}

fn sorted(sources: &[Addr]) -> Box<[Addr]> {
    let mut sources = sources.to_vec();
    sources.sort_unstable();
    sources.dedup();
    sources.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_list_of_sources_is_a_member() {
        let mut members = OwnMembers::default();
        let group = Addr::v4([239, 1, 1, 1]);
        let source = |number| Addr::v4([10, 0, 0, number]);
        let count = |members: &OwnMembers| members.sockets(7, group);
        assert_eq!(count(&members), 0);
        members.add(7, group, &[]);
        members.add(7, group, &[source(1), source(2)]);
        members.add(7, group, &[source(2), source(1)]);
        members.add(8, group, &[]);
        assert_eq!(count(&members), 2);
        let many: Vec<Addr> = (0..20).map(source).collect();
        members.add(7, group, &many);
        assert_eq!(count(&members), 22);
        for sources in [&many[..], &[source(1), source(2)], &[]] {
            members.remove(7, group, sources);
        }
        assert_eq!(count(&members), 1);
        members.remove(7, group, &[source(1), source(2)]);
        members.remove(7, group, &[source(3)]);
        assert_eq!(count(&members), 0);
    }
}
