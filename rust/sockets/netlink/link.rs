//! Interfaces and addresses as reported by rtnetlink(7).

use std::net::{IpAddr, Ipv4Addr};

use crate::addr::Addr;

/// The reported state of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The kernel's index of the interface.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alternative names, equivalent to the name (ip-link(8), property add), of up to 127
    /// bytes. Names that a rule cannot contain are left out.
    pub altnames: Vec<String>,
    /// Whether it is administratively up (IFF_UP).
    pub up: bool,
    /// Whether it supports multicast (IFF_MULTICAST).
    pub multicast: bool,
    /// Whether it is a loopback (IFF_LOOPBACK).
    pub loopback: bool,
    /// Whether frames sent there leave (`IFF_LOWER_UP` and `IFF_RUNNING`).
    pub carrier: bool,
    /// How often the carrier has come up. The kernel may report a short loss only after it is over.
    pub carrier_gains: u32,
    /// Its MTU in bytes, the IP header included.
    pub mtu: u32,
    /// Its MAC address, if it is an Ethernet interface (ARPHRD_ETHER), which the loopback is not.
    pub mac: Option<[u8; 6]>,
    /// The number of transmit queues that it has room for; fewer may be in use.
    pub transmit_queues: u32,
    /// Its place in the stack of interfaces.
    pub layers: LinkStack,
}

/// The reported state of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The index of the interface that has it.
    pub index: u32,
    /// The interface's own address, also on a point-to-point link.
    pub address: Addr,
    /// The length of the network prefix in bits.
    pub prefix_bits: u8,
    /// The broadcast address that was configured with it (ip-address(8), broadcast).
    pub broadcast: Option<Ipv4Addr>,
    /// Whether it can be a source address: not while duplicate address detection is running (RFC
    /// 4862, 5.4) or after it has found a duplicate.
    pub usable: bool,
}

/// One notification from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// This link is new or has changed.
    Link(Link),
    /// The link with this index is gone.
    LinkGone(u32),
    /// The interface with this index has this address, and can use it as a source.
    Address(u32, Addr),
    /// The interface has lost this address, or cannot use it as a source any more.
    AddressGone(u32, Addr),
    /// A dump is complete.
    Listed {
        /// Whether things changed while it was made, so that it may be inconsistent.
        interrupted: bool,
    },
}

/// The relations of an interface to those below and above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStack {
    /// The interfaces that receive for it.
    pub foundation: Foundation,
    /// The index of the interface that takes over what arrives here, as a bridge does with its
    /// ports.
    pub master: Option<u32>,
    /// What it keeps and hears of groups, if it is a bridge with multicast snooping.
    pub snooping: Option<BridgeSnooping>,
    /// The number of its VLAN, if it is an interface for one.
    pub vlan: Option<u16>,
    /// The other end, if it is a veth.
    pub peer: Option<LowerLink>,
}

/// A bridge that snoops: how many groups it can keep, and who asks for memberships on its links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeSnooping {
    /// The number of groups it has entries for.
    pub groups: u32,
    /// Whether it asks for memberships itself.
    pub asks: bool,
    /// The other queriers whose last query is recent enough (kernel 5.16 and newer).
    pub queriers: Vec<IpAddr>,
}

/// The origin of the frames that an interface receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Foundation {
    /// The interface itself: a card, or a tunnel, which has GRO of its own.
    #[default]
    Itself,
    /// The interfaces whose master it is: of a bridge or a bond.
    Members,
    /// Another interface: of a VLAN, a macvlan and the like.
    On(LowerLink),
}

/// The location of the lower interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowerLink {
    /// In this network namespace, under this index.
    Here(u32),
    /// In another network namespace.
    Elsewhere,
}

impl LinkStack {
    /// Derives the relations from the kernel's attributes: the kind of a virtual interface, its
    /// related interface (IFLA_LINK), and its master.
    pub(super) fn new(kind: &[u8], related: Option<LowerLink>, master: Option<u32>) -> Self {
        let foundation = match (kind, related) {
            (b"bridge" | b"bond" | b"team", _) => Foundation::Members,
            // The related interface of a veth or a tunnel does not receive for it.
            (b"vlan" | b"macvlan" | b"macvtap" | b"ipvlan" | b"ipvtap", Some(below)) => {
                Foundation::On(below)
            }
            _ => Foundation::Itself,
        };
        let peer = related.filter(|_| kind == b"veth");
        Self { foundation, master, peer, ..Self::default() }
    }

    /// Whether another interface receives for this one.
    #[must_use]
    pub fn is_upper(&self) -> bool {
        self.foundation != Foundation::Itself
    }
}
