//! The table of links and addresses, updated from the kernel's messages. This module must not depend
//! on sockets, threads or rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::addr::Addr;
use crate::sockets::netlink::link::{Link, LinkEvent};
use crate::sockets::netlink::stacking::{self, Cards};

/// The links and addresses of a network namespace at one moment.
#[derive(Clone, Default)]
pub(in crate::relay) struct LinkTable {
    links: BTreeMap<u32, Link>,
    /// The index for each name, primary or alternative: no two links share one.
    names: HashMap<String, u32>,
    addresses: BTreeSet<(u32, Addr)>,
}

impl LinkTable {
    /// The interface with this primary or alternative name.
    pub(in crate::relay) fn find(&self, name: &str) -> Option<&Link> {
        self.names.get(name).and_then(|index| self.links.get(index))
    }

    /// Whether the kernel would not notify when this name is added or removed. It notifies of
    /// alternative names only while their link is up (net/core/dev.c, `netdev_state_change`). False
    /// for "", which no link has.
    pub(in crate::relay) fn is_unnotified(&self, name: &str) -> bool {
        !name.is_empty() && self.find(name).is_none_or(|link| !link.up && link.name != name)
    }

    /// The link with this index.
    pub(in crate::relay) fn get(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// Whether the link with this index is up and has a carrier.
    pub(in crate::relay) fn has_carrier(&self, index: u32) -> bool {
        self.links.get(&index).is_some_and(|link| link.up && link.carrier)
    }

    /// Whether the interface has an address of this family.
    pub(in crate::relay) fn has_family(&self, index: u32, is_v4: bool) -> bool {
        let all = (index, Addr::from_bits(0))..=(index, Addr::from_bits(u128::MAX));
        self.addresses.range(all).any(|(_, address)| address.is_v4() == is_v4)
    }

    /// Whether this host has the address.
    pub(in crate::relay) fn is_local(&self, address: Addr) -> bool {
        address.ip().is_loopback() || self.addresses.iter().any(|(_, local)| *local == address)
    }

    /// All links, by index.
    pub(in crate::relay) fn all(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// The name of the interface with this index.
    pub(in crate::relay) fn name(&self, index: u32) -> Option<&str> {
        self.links.get(&index).map(|link| &*link.name)
    }

    /// Whether other interfaces receive for the one with this index, as for a bridge or a VLAN.
    pub(in crate::relay) fn is_upper(&self, index: u32) -> bool {
        self.links.get(&index).is_some_and(|link| link.layers.is_upper())
    }

    /// The lowest interfaces that receive for the one with this index.
    pub(in crate::relay) fn cards(&self, index: u32) -> Cards {
        stacking::cards(index, &self.links)
    }

    /// The interface and all below it.
    pub(in crate::relay) fn path(&self, index: u32) -> BTreeSet<u32> {
        stacking::path(index, &self.links)
    }

    /// Whether datagrams sent by the interface `upper` can leave by the interface `lower`.
    pub(in crate::relay) fn stands_on(&self, upper: u32, lower: u32) -> bool {
        stacking::stands_on(upper, lower, &self.links)
    }

    /// Whether the new state of a link opens a path to another network: it gained a carrier, accepts
    /// multicast again, was added to a bridge, or was moved to another lower interface.
    pub(in crate::relay) fn opens_path(&self, now: &Link) -> bool {
        let leads = |link: &Link| link.up && link.carrier && link.multicast;
        match self.links.get(&now.index) {
            _ if !leads(now) => false,
            // In the first list all links are new, and no group is joined yet.
            None => now.layers.master.is_some() && !self.links.is_empty(),
            Some(was) => {
                !leads(was)
                    || was.carrier_gains != now.carrier_gains
                    || was.layers.master != now.layers.master
                    || was.layers.foundation != now.layers.foundation
            }
        }
    }

    /// The bridge or bond that receives what arrives at the interface with this index.
    pub(in crate::relay) fn receiving_master(&self, index: u32) -> Option<&Link> {
        stacking::receiving_master(index, &self.links)
    }

    /// An interface that gets the frames of this one with this VLAN ([`stacking::receiver_above`]).
    #[cfg(feature = "offload")]
    pub(in crate::relay) fn receiver_above(&self, index: u32, vlan: u16) -> Option<&Link> {
        stacking::receiver_above(index, vlan, &self.links)
    }

    /// The addresses of an interface, as text.
    pub(in crate::relay) fn addresses_of(&self, index: u32) -> Vec<String> {
        let all = (index, Addr::from_bits(0))..=(index, Addr::from_bits(u128::MAX));
        self.addresses.range(all).map(|(_, address)| address.to_string()).collect()
    }

    /// Updates the table.
    pub(in crate::relay) fn apply(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Link(link) => {
                self.forget_names(link.index);
                let names = link.altnames.iter().chain([&link.name]).cloned();
                self.names.extend(names.map(|name| (name, link.index)));
                self.links.insert(link.index, link);
            }
            LinkEvent::LinkGone(index) => {
                self.forget_names(index);
                self.links.remove(&index);
                self.addresses.retain(|(of, _)| *of != index);
            }
            LinkEvent::Address(index, address) => {
                self.addresses.insert((index, address));
            }
            LinkEvent::AddressGone(index, address) => {
                self.addresses.remove(&(index, address));
            }
            LinkEvent::Listed { .. } => {}
        }
    }

    /// Removes the link's names, except those that another link has received since.
    fn forget_names(&mut self, index: u32) {
        let Some(old) = self.links.get(&index) else { return };
        for name in old.altnames.iter().chain([&old.name]) {
            if self.names.get(name) == Some(&index) {
                self.names.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::netlink::link::LinkStack;

    fn link(index: u32, name: &str) -> LinkEvent {
        let name = name.to_owned();
        LinkEvent::Link(Link { index, name, up: true, carrier: true, ..Link::default() })
    }

    #[test]
    fn names_follow_the_links_also_when_two_links_swap_them() {
        let mut links = LinkTable::default();
        for event in [link(1, "a"), link(2, "b"), link(1, "x"), link(2, "a"), link(1, "b")] {
            links.apply(event);
        }
        let index = |name| links.find(name).map(|link| link.index);
        assert_eq!((index("a"), index("b"), index("x")), (Some(2), Some(1), None));
        links.apply(link(3, "a"));
        links.apply(LinkEvent::LinkGone(2));
        assert_eq!(links.find("a").map(|link| link.index), Some(3));
        assert!(links.has_carrier(3) && !links.has_carrier(2));
    }

    #[test]
    fn alternative_names_are_added_removed_and_moved() {
        let named = |index, name: &str, altnames: &[&str]| {
            let altnames = altnames.iter().map(|name| (*name).to_owned()).collect();
            LinkEvent::Link(Link { index, name: name.to_owned(), altnames, ..Link::default() })
        };
        let mut links = LinkTable::default();
        links.apply(named(1, "a", &["feed", "enp1s0"]));
        let name = |links: &LinkTable, name| links.find(name).map(|link| link.name.clone());
        assert_eq!(name(&links, "feed").as_deref(), Some("a"));
        assert_eq!(name(&links, "enp1s0").as_deref(), Some("a"));
        // The kernel notifies of the new owner first, and later of the old one.
        links.apply(named(2, "b", &["feed"]));
        links.apply(named(1, "a", &["enp1s0"]));
        assert_eq!(name(&links, "feed").as_deref(), Some("b"));
        links.apply(named(2, "feed", &["b"]));
        assert_eq!(name(&links, "b").as_deref(), Some("feed"));
        let unnotified_names =
            ["feed", "b", "enp1s0", "a", "none", ""].map(|name| links.is_unnotified(name));
        assert_eq!(unnotified_names, [false, true, true, false, true, false]);
        links.apply(LinkEvent::LinkGone(2));
        assert_eq!(name(&links, "feed").or(name(&links, "b")), None);
    }

    #[test]
    fn a_path_is_opened_by_a_carrier_and_by_another_bridge() {
        let mut links = LinkTable::default();
        let was = Link { index: 1, up: true, carrier: true, multicast: true, ..Link::default() };
        let layers = |master| LinkStack { master, ..LinkStack::default() };
        let is_opened = |links: &LinkTable, now: Link| links.opens_path(&now);
        assert!(!is_opened(&links, Link { layers: layers(Some(7)), ..was.clone() }));
        links.apply(LinkEvent::Link(was.clone()));
        assert!(!is_opened(&links, Link { mtu: 9000, ..was.clone() }));
        assert!(!is_opened(&links, Link { carrier: false, carrier_gains: 1, ..was.clone() }));
        assert!(is_opened(&links, Link { carrier_gains: 1, ..was.clone() }));
        assert!(is_opened(&links, Link { layers: layers(Some(7)), ..was.clone() }));
        assert!(is_opened(&links, Link { index: 2, layers: layers(Some(7)), ..was.clone() }));
        assert!(!is_opened(&links, Link { index: 2, ..was.clone() }));
        links.apply(LinkEvent::Link(Link { carrier: false, ..was.clone() }));
        assert!(is_opened(&links, was));
    }

    #[test]
    fn addresses_are_removed_with_their_link() {
        let mut links = LinkTable::default();
        let (v4, v6) = (Addr::v4([10, 0, 0, 1]), Addr::v6([0xfd; 16]));
        for event in [link(1, "a"), LinkEvent::Address(1, v4), LinkEvent::Address(2, v6)] {
            links.apply(event);
        }
        assert!(links.has_family(1, true) && !links.has_family(1, false));
        assert!(links.has_family(2, false) && !links.has_family(2, true));
        assert!(links.is_local(v4) && links.is_local(Addr::v4([127, 3, 2, 1])));
        links.apply(LinkEvent::AddressGone(2, v6));
        links.apply(LinkEvent::LinkGone(1));
        assert!(!links.is_local(v4) && !links.is_local(v6));
    }
}
