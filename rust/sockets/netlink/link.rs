//! Interfaces and addresses, as the kernel describes them in its messages.

use std::net::Ipv4Addr;

use crate::addr::Addr;

/// A link as the kernel says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The kernel's index of the interface.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alternative names, each as good as the name (ip-link(8), property add); up to 127 bytes.
    /// Without those that nobody could write in a rule.
    pub altnames: Vec<String>,
    /// Whether it is switched on (IFF_UP).
    pub up: bool,
    /// Whether it takes multicast (IFF_MULTICAST).
    pub multicast: bool,
    /// Whether it is the loopback (IFF_LOOPBACK).
    pub loopback: bool,
    /// Whether what is sent there leaves (`IFF_LOWER_UP` and `IFF_RUNNING`).
    pub carrier: bool,
    /// How often the carrier has come. The kernel may tell of a short loss only when it is over.
    pub carrier_gains: u32,
    /// Its MTU in bytes, the IP header included.
    pub mtu: u32,
    /// What it stands on, and what stands on it.
    pub layers: LinkStack,
}

/// An address as the kernel says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The index of the interface that has it.
    pub index: u32,
    /// The interface's own, also on a link between two.
    pub address: Addr,
    /// How many bits of it say the network.
    pub prefix_bits: u8,
    /// The broadcast address that was set with it (ip-address(8), broadcast).
    pub broadcast: Option<Ipv4Addr>,
    /// Whether it can be sent from: not while the kernel still looks for another host that has it
    /// (RFC 4862, 5.4), nor when it has found one.
    pub usable: bool,
}

/// One thing that the kernel has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// There is this link, new or changed.
    Link(Link),
    /// The link with this index is gone.
    LinkGone(u32),
    /// The interface with this index has this address, and it can be sent from.
    Address(u32, Addr),
    /// The interface has this address no more, or cannot send from it.
    AddressGone(u32, Addr),
    /// A list is complete, unless things changed while it was made.
    Listed {
        /// They did.
        interrupted: bool,
    },
}

/// What an interface stands on, and what stands on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStack {
    /// What receives for it.
    pub foundation: Foundation,
    /// The interface that takes what arrives here for itself, as a bridge does with its ports: by
    /// its index.
    pub master: Option<u32>,
    /// How many groups it keeps, if it is a bridge that snoops.
    pub snooped_groups: Option<u32>,
}

/// What receives the frames of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Foundation {
    /// Itself: a card, or a tunnel, which has GRO of its own.
    #[default]
    Itself,
    /// Those whose master it is: a bridge, a bond.
    Members,
    /// Another interface: of a VLAN, a macvlan and their kin.
    On(LowerLink),
}

/// Where the interface is that another stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowerLink {
    /// In this network namespace, under this index.
    Here(u32),
    /// In another network namespace.
    Elsewhere,
}

impl LinkStack {
    /// From what the kernel tells: the kind of a virtual interface, the one that it names as
    /// related, and its master.
    pub(super) fn new(kind: &[u8], related: Option<LowerLink>, master: Option<u32>) -> Self {
        let foundation = match (kind, related) {
            (b"bridge" | b"bond" | b"team", _) => Foundation::Members,
            // What a veth or a tunnel names does not receive for it.
            (b"vlan" | b"macvlan" | b"macvtap" | b"ipvlan" | b"ipvtap", Some(below)) => {
                Foundation::On(below)
            }
            _ => Foundation::Itself,
        };
        Self { foundation, master, snooped_groups: None }
    }

    /// Whether another interface receives for this one.
    #[must_use]
    pub fn is_upper(&self) -> bool {
        self.foundation != Foundation::Itself
    }
}
