//! A parser for rtnetlink(7) messages about links and addresses.
//!
//! It reads only the attributes it needs and skips those it cannot read, so an attribute added by a
//! later kernel cannot make a message unreadable.

use std::io;
use std::net::Ipv4Addr;

use netlink_packet_core::{
    NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, parse_i32, parse_u32,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressHeader, AddressHeaderFlags};
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkLayerType};

use super::link::{Address, BridgeSnooping, Link, LinkEvent, LinkStack, LowerLink};
use crate::addr::Addr;

/// Lengths of `struct ifinfomsg` and `struct ifaddrmsg`; the attributes follow.
pub(super) const LINK_HEADER_BYTES: usize = 16;
pub(super) const ADDRESS_HEADER_BYTES: usize = 8;

/// From <linux/if_link.h>, since Linux 4.16.
const IFLA_CARRIER_UP_COUNT: u16 = 47;

/// NLA_TYPE_MASK of <linux/netlink.h>: an attribute's type without its flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// One message, with its header.
pub(in crate::sockets) type MessageBuffer<'a> = NetlinkBuffer<&'a [u8]>;

/// Reports every event in a chunk of messages. Skips messages that it cannot read.
///
/// # Errors
/// The kernel refused a request.
pub fn read(bytes: &[u8], mut report: impl FnMut(LinkEvent)) -> io::Result<()> {
    each(bytes, |message| {
        event(message)?.into_iter().for_each(&mut report);
        Ok(())
    })
}

/// Passes every message of a chunk to `take`.
///
/// # Errors
/// The first error of `take`; later messages are skipped.
pub(in crate::sockets) fn each<E>(
    mut bytes: &[u8],
    mut take: impl FnMut(&MessageBuffer<'_>) -> Result<(), E>,
) -> Result<(), E> {
    while let Ok(message) = NetlinkBuffer::new_checked(bytes) {
        take(&message)?;
        // `new_checked` ensures that the length covers the header and lies within the bytes.
        let next = (message.length() as usize).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    Ok(())
}

fn event(message: &MessageBuffer<'_>) -> io::Result<Option<LinkEvent>> {
    Ok(match message.message_type() {
        libc::RTM_NEWLINK => link(message).map(LinkEvent::Link),
        libc::RTM_DELLINK => {
            link_header(message.payload()).map(|header| LinkEvent::LinkGone(header.index))
        }
        libc::RTM_NEWADDR | libc::RTM_DELADDR => address(message).map(|of| {
            let is_there = of.usable && message.message_type() == libc::RTM_NEWADDR;
            if is_there {
                LinkEvent::Address(of.index, of.address)
            } else {
                LinkEvent::AddressGone(of.index, of.address)
            }
        }),
        _ => end_of_list(message)?.map(|interrupted| LinkEvent::Listed { interrupted }),
    })
}

/// For the message that completes a dump: whether things changed while it was made.
///
/// # Errors
/// The kernel refused a request.
pub(super) fn end_of_list(message: &MessageBuffer<'_>) -> io::Result<Option<bool>> {
    match message.message_type() {
        NLMSG_DONE => Ok(Some(message.flags() & NLM_F_DUMP_INTR != 0)),
        NLMSG_ERROR => match refusal(message.payload()) {
            // ENODEV: no link has the requested name.
            0 | libc::ENODEV => Ok(None),
            errno => Err(io::Error::from_raw_os_error(errno)),
        },
        _ => Ok(None),
    }
}

/// Bridges report their ports in the same messages, but with another family: a port that leaves its
/// bridge is not deleted.
fn link_header(payload: &[u8]) -> Option<LinkHeader> {
    let header = LinkHeader::parse(payload).ok();
    header.filter(|link| link.interface_family == AddressFamily::Unspec)
}

/// The link in an RTM_NEWLINK message.
pub(super) fn link(message: &MessageBuffer<'_>) -> Option<Link> {
    let payload = message.payload();
    let header = link_header(payload).filter(|_| message.message_type() == libc::RTM_NEWLINK)?;
    let kinds = [libc::IFLA_IFNAME, libc::IFLA_MTU, libc::IFLA_PROP_LIST, IFLA_CARRIER_UP_COUNT];
    let [name, mtu, properties, gains] = attributes(payload, LINK_HEADER_BYTES, kinds);
    let [queues] = attributes(payload, LINK_HEADER_BYTES, [libc::IFLA_NUM_TX_QUEUES]);
    let properties = Attributes(properties.unwrap_or_default());
    let altnames = properties.filter(|(kind, _)| *kind == libc::IFLA_ALT_IFNAME);
    let has = |flag| header.flags.contains(flag);
    Some(Link {
        index: header.index,
        name: text(name?)?,
        altnames: altnames.filter_map(|(_, name)| altname(name)).collect(),
        up: has(LinkFlags::Up),
        multicast: has(LinkFlags::Multicast),
        loopback: has(LinkFlags::Loopback),
        // Between the two flags, datagrams are lost although sends succeed.
        carrier: has(LinkFlags::LowerUp | LinkFlags::Running),
        carrier_gains: gains.and_then(|gains| parse_u32(gains).ok()).unwrap_or(0),
        mtu: parse_u32(mtu?).ok()?,
        mac: mac(&header, payload),
        transmit_queues: queues.and_then(|queues| parse_u32(queues).ok()).unwrap_or(0),
        layers: layers(payload),
    })
}

/// The MAC address of an Ethernet interface.
fn mac(header: &LinkHeader, payload: &[u8]) -> Option<[u8; 6]> {
    let [address] = attributes(payload, LINK_HEADER_BYTES, [libc::IFLA_ADDRESS]);
    address.filter(|_| header.link_layer_type == LinkLayerType::Ether)?.try_into().ok()
}

fn layers(payload: &[u8]) -> LinkStack {
    let kinds = [libc::IFLA_LINKINFO, libc::IFLA_LINK, libc::IFLA_LINK_NETNSID, libc::IFLA_MASTER];
    let [info, below, namespace, master] = attributes(payload, LINK_HEADER_BYTES, kinds);
    let kinds = [libc::IFLA_INFO_KIND, libc::IFLA_INFO_DATA];
    let [kind, data] = attributes(info.unwrap_or_default(), 0, kinds);
    let kind = kind.map(|kind| kind.strip_suffix(b"\0").unwrap_or(kind)).unwrap_or_default();
    let index = |value: Option<&[u8]>| parse_u32(value?).ok();
    let below = index(below).map(|index| match namespace {
        None => LowerLink::Here(index),
        Some(_) => LowerLink::Elsewhere,
    });
    let snooping = data.filter(|_| kind == b"bridge").and_then(snooping);
    let vlan = data.filter(|_| kind == b"vlan").and_then(vlan);
    LinkStack { snooping, vlan, ..LinkStack::new(kind, below, index(master)) }
}

/// The number of a VLAN interface, from its IFLA_INFO_DATA.
fn vlan(data: &[u8]) -> Option<u16> {
    // From <linux/if_link.h>.
    const IFLA_VLAN_ID: u16 = 1;
    let [id] = attributes(data, 0, [IFLA_VLAN_ID]);
    Some(u16::from_ne_bytes(id?.try_into().ok()?))
}

/// What a bridge tells of its groups in its IFLA_INFO_DATA; `None` if snooping is off.
fn snooping(bridge: &[u8]) -> Option<BridgeSnooping> {
    // From <linux/if_link.h> and <linux/if_bridge.h>.
    const IFLA_BR_MCAST_SNOOPING: u16 = 23;
    const IFLA_BR_MCAST_QUERIER: u16 = 25;
    const IFLA_BR_MCAST_HASH_MAX: u16 = 27;
    const IFLA_BR_MCAST_QUERIER_STATE: u16 = 47;
    const BRIDGE_QUERIER_IP_ADDRESS: u16 = 1;
    const BRIDGE_QUERIER_IP_OTHER_TIMER: u16 = 3;
    const BRIDGE_QUERIER_IPV6_ADDRESS: u16 = 5;
    const BRIDGE_QUERIER_IPV6_OTHER_TIMER: u16 = 7;
    let kinds = [
        IFLA_BR_MCAST_SNOOPING,
        IFLA_BR_MCAST_HASH_MAX,
        IFLA_BR_MCAST_QUERIER,
        IFLA_BR_MCAST_QUERIER_STATE,
    ];
    let [snooping, groups, asks, state] = attributes(bridge, 0, kinds);
    if snooping? == [0] {
        return None;
    }
    let families = [
        [BRIDGE_QUERIER_IP_ADDRESS, BRIDGE_QUERIER_IP_OTHER_TIMER],
        [BRIDGE_QUERIER_IPV6_ADDRESS, BRIDGE_QUERIER_IPV6_OTHER_TIMER],
    ];
    let queriers = families.into_iter().filter_map(|kinds| {
        // Without the timer the address is its own, or that of one that asks no more.
        let [address, timer] = attributes(state.unwrap_or_default(), 0, kinds);
        timer?;
        to_addr(address?).map(|address| address.ip())
    });
    Some(BridgeSnooping {
        groups: parse_u32(groups?).ok()?,
        asks: asks.is_some_and(|asks| asks != [0]),
        queriers: queriers.collect(),
    })
}

/// The address in a message, added or removed.
pub(super) fn address(message: &MessageBuffer<'_>) -> Option<Address> {
    const UNUSABLE: AddressHeaderFlags =
        AddressHeaderFlags::Tentative.union(AddressHeaderFlags::Dadfailed);
    if !matches!(message.message_type(), libc::RTM_NEWADDR | libc::RTM_DELADDR) {
        return None;
    }
    let header = AddressHeader::parse(message.payload()).ok()?;
    let kinds = [libc::IFA_LOCAL, libc::IFA_ADDRESS, libc::IFA_BROADCAST];
    let [local, other, broadcast] = attributes(message.payload(), ADDRESS_HEADER_BYTES, kinds);
    let optimistic = header.flags.contains(AddressHeaderFlags::Optimistic);
    Some(Address {
        index: header.index,
        // On a point-to-point link, IFA_ADDRESS is the peer's.
        address: to_addr(local.or(other)?)?,
        prefix_bits: header.prefix_len,
        broadcast: broadcast.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)),
        usable: optimistic || !header.flags.intersects(UNUSABLE),
    })
}

/// An address of either family, determined by its length.
pub(in crate::sockets) fn to_addr(bytes: &[u8]) -> Option<Addr> {
    match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => Some(Addr::v4(v4)),
        Err(_) => bytes.try_into().ok().map(Addr::v6),
    }
}

/// The values of selected attributes behind a header.
pub(in crate::sockets) fn attributes<const N: usize>(
    payload: &[u8],
    header: usize,
    kinds: [u16; N],
) -> [Option<&[u8]>; N] {
    let mut found = [None; N];
    for (kind, value) in Attributes(payload.get(header..).unwrap_or_default()) {
        if let Some(at) = kinds.iter().position(|&wanted| wanted == kind) {
            found[at] = Some(value);
        }
    }
    found
}

/// Passes each attribute of a sequence, with its type, to `take`.
pub(super) fn each_attribute(bytes: &[u8], mut take: impl FnMut(u16, &[u8])) {
    Attributes(bytes).for_each(|(kind, value)| take(kind, value));
}

/// A sequence of attributes (`struct rtattr`: length, type, value).
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let &[a, b, c, d, ..] = self.0 else { return None };
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        // The upper bits give the encoding of the value (NLA_F_NESTED), not its type.
        Some((u16::from_ne_bytes([c, d]) & NLA_TYPE_MASK, value))
    }
}

/// A zero-terminated string.
fn text(value: &[u8]) -> Option<String> {
    Some(String::from_utf8_lossy(value.strip_suffix(b"\0")?).into_owned())
}

/// An alternative name, if a rule can contain it. The kernel accepts any bytes, even none.
fn altname(value: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(value.strip_suffix(b"\0")?).ok()?;
    let is_odd = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    let is_name = !matches!(name, "" | "." | "..") && !name.contains(is_odd);
    is_name.then(|| name.to_owned())
}

/// The errno at the start of an NLMSG_ERROR, as a positive number; 0 means success.
pub(in crate::sockets) fn refusal(payload: &[u8]) -> i32 {
    let code = payload.get(..4).and_then(|code| parse_i32(code).ok());
    code.map_or(0, i32::wrapping_neg)
}
