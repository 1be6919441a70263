//! The stacking of interfaces, from rtnetlink(7): a bridge on its ports, a bond on its members, a
//! VLAN or macvlan on the card below it. The kernel merges datagrams (GRO) at the lowest interface,
//! before it knows that they are for one above, and looks for a socket that listens there.

use std::collections::{BTreeMap, BTreeSet};

use super::link::{Foundation, Link, LowerLink};

/// The lowest interfaces that receive for an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cards {
    /// Those in this network namespace, by index.
    pub here: BTreeSet<u32>,
    /// Whether one is in another network namespace.
    pub elsewhere: bool,
}

/// The lowest interfaces that receive for the one with this index; itself if it has none below.
#[must_use]
pub fn cards(index: u32, links: &BTreeMap<u32, Link>) -> Cards {
    let mut cards = Cards::default();
    for index in path(index, links) {
        match links.get(&index).map(|link| link.layers.foundation) {
            Some(Foundation::Itself) => drop(cards.here.insert(index)),
            Some(Foundation::On(LowerLink::Elsewhere)) => cards.elsewhere = true,
            _ => {}
        }
    }
    cards
}

/// The interface with this index, and all in this network namespace below it.
#[must_use]
pub fn path(index: u32, links: &BTreeMap<u32, Link>) -> BTreeSet<u32> {
    let mut path = BTreeSet::new();
    let mut ahead = vec![index];
    while let Some(index) = ahead.pop() {
        let Some(link) = links.get(&index) else { continue };
        if !path.insert(index) {
            continue;
        }
        match link.layers.foundation {
            Foundation::On(LowerLink::Here(below)) => ahead.push(below),
            Foundation::Members => {
                let members = links.values().filter(|link| link.layers.master == Some(index));
                ahead.extend(members.map(|link| link.index));
            }
            Foundation::Itself | Foundation::On(LowerLink::Elsewhere) => {}
        }
    }
    path
}

/// Whether frames sent by the interface `upper` can leave through the interface `lower`: they are
/// the same, or `upper` is stacked on it, directly or through others.
#[must_use]
pub fn stands_on(upper: u32, lower: u32, links: &BTreeMap<u32, Link>) -> bool {
    let mut seen = BTreeSet::new();
    let mut ahead = vec![lower];
    while let Some(index) = ahead.pop() {
        if index == upper {
            return true;
        }
        if seen.insert(index) {
            ahead.extend(links.get(&index).and_then(|link| link.layers.master));
            let on_it = Foundation::On(LowerLink::Here(index));
            let above = links.values().filter(|link| link.layers.foundation == on_it);
            ahead.extend(above.map(|link| link.index));
        }
    }
    false
}

/// The interface that takes over what arrives at the one with this index before sockets get it: a
/// bridge, a bond. A VRF also counts as a master, but leaves frames to sockets on both.
#[must_use]
pub fn receiving_master(index: u32, links: &BTreeMap<u32, Link>) -> Option<&Link> {
    let master = links.get(&links.get(&index)?.layers.master?)?;
    (master.layers.foundation == Foundation::Members).then_some(master)
}

/// An interface above the one with this index that is up and gets frames which arrive there with
/// this VLAN, 0 for none: a bridge or bond, a macvlan or the like, or the interface of the VLAN.
#[must_use]
pub fn receiver_above(index: u32, vlan: u16, links: &BTreeMap<u32, Link>) -> Option<&Link> {
    let gets_frames = |upper: &&Link| {
        upper.layers.foundation == Foundation::On(LowerLink::Here(index))
            && upper.up
            && upper.layers.vlan.is_none_or(|own| own == vlan)
    };
    receiving_master(index, links).or_else(|| links.values().find(gets_frames))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::netlink::link::LinkStack;

    fn link(
        index: u32,
        kind: &str,
        related: Option<LowerLink>,
        master: Option<u32>,
    ) -> (u32, Link) {
        let layers = LinkStack::new(kind.as_bytes(), related, master);
        let name = format!("name{index}");
        (index, Link { index, name, layers, ..Link::default() })
    }

    #[test]
    fn those_above_get_frames_that_are_for_them() {
        let here = |index| Some(LowerLink::Here(index));
        let up = |(index, link)| (index, Link { up: true, ..link });
        let (_, mut seventh) = up(link(5, "vlan", here(3), None));
        seventh.layers.vlan = Some(7);
        let links = BTreeMap::from([
            link(2, "veth", None, Some(9)),
            up(link(3, "veth", None, None)),
            up(link(4, "veth", None, None)),
            (5, seventh),
            up(link(6, "macvlan", here(4), None)),
            link(7, "veth", None, None),
            link(8, "macvlan", here(7), None),
            link(9, "bridge", None, None),
        ]);
        let above = |index, vlan| receiver_above(index, vlan, &links).map(|link| link.index);
        assert_eq!([2, 3, 4, 7].map(|index| above(index, 0)), [Some(9), None, Some(6), None]);
        assert_eq!((above(3, 7), above(3, 8), above(4, 7)), (Some(5), None, Some(6)));
    }

    #[test]
    fn the_cards_are_at_the_bottom() {
        let here = |index| Some(LowerLink::Here(index));
        let links = BTreeMap::from([
            link(2, "", None, Some(4)),
            link(3, "veth", here(9), Some(4)),
            link(4, "bond", None, None),
            link(5, "vlan", here(4), Some(6)),
            link(6, "bridge", None, None),
            link(7, "veth", Some(LowerLink::Elsewhere), Some(6)),
            link(8, "macvlan", here(6), None),
            link(9, "macvlan", Some(LowerLink::Elsewhere), None),
            link(10, "vrf", None, None),
            link(11, "vxlan", here(2), Some(10)),
            link(12, "macvlan", here(13), None),
            link(13, "macvlan", here(12), None),
            link(14, "bridge", None, None),
        ]);
        let found = |index| {
            let Cards { here, elsewhere } = cards(index, &links);
            (here.into_iter().collect::<Vec<_>>(), elsewhere)
        };
        assert_eq!(found(2), (vec![2], false));
        assert_eq!(found(4), (vec![2, 3], false));
        assert_eq!(found(8), (vec![2, 3, 7], false));
        assert_eq!(found(9), (vec![], true));
        assert_eq!(found(11), (vec![11], false));
        for index in [12, 14, 99] {
            assert_eq!(found(index), (vec![], false));
        }
        let name = |index| receiving_master(index, &links).map(|link| &*link.name);
        assert_eq!([2, 5, 7].map(name), [Some("name4"), Some("name6"), Some("name6")]);
        assert_eq!([4, 11, 99].map(name), [None; 3]);
    }

    #[test]
    fn an_interface_is_stacked_on_everything_below_it() {
        let here = |index| Some(LowerLink::Here(index));
        let links = BTreeMap::from([
            link(2, "", None, Some(4)),
            link(4, "bond", None, Some(5)),
            link(5, "bridge", None, None),
            link(6, "macvlan", here(5), None),
            link(7, "veth", here(2), None),
        ]);
        for (upper, lower) in [(2, 2), (4, 2), (5, 2), (6, 2), (6, 4)] {
            assert!(stands_on(upper, lower, &links), "{upper} on {lower}");
        }
        for (upper, lower) in [(2, 4), (4, 6), (7, 2), (5, 9)] {
            assert!(!stands_on(upper, lower, &links), "{upper} on {lower}");
        }
    }
}
