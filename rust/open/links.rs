//! What the kernel tells about links and addresses (rtnetlink(7)): a socket that hears of every
//! change, the question for all there are now, and the reader of both. The only file that knows
//! the netlink crates. It must not know what an interface is good for.
//!
//! Of the attributes only those that are needed are read, and what cannot be read is passed over:
//! an attribute that a later kernel adds cannot make a message unreadable.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    DefaultNla, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkMessage, parse_i32, parse_u32,
};
use netlink_packet_route::address::{AddressHeader, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recvmsg, send};

use super::layers::{Below, Layers};
use super::{filter, socket};
use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::sys::sockopt;

/// Room for one message of the kernel: 32 KiB of a list (net/netlink/af_netlink.c), or a link whose
/// alternative names alone take 64 KiB (the length of an attribute).
pub const MESSAGE_BYTES: usize = 128 * 1024;

/// Lists in a row that may change while they are made; the last one is taken as it is.
const INTERRUPTED: usize = 8;

/// What the socket is for, in messages.
const TARGET: &str = "the state of the links";

/// `struct ifinfomsg` and `struct ifaddrmsg`: the attributes come after.
const LINK_HEADER_BYTES: usize = 16;
const ADDRESS_HEADER_BYTES: usize = 8;

/// Of <linux/if_link.h>, from Linux 4.16 on.
const IFLA_CARRIER_UP_COUNT: u16 = 47;

/// NLA_TYPE_MASK of <linux/netlink.h>: an attribute's kind without its flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// A link as the kernel says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The kernel's index of the interface.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alternative names, each as good as the name (ip-link(8), property add); up to 127 bytes.
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
    pub layers: Layers,
}

/// One thing that the kernel has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
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

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// All links.
    Links,
    /// All addresses.
    Addresses,
}

/// A socket that hears of every link and address of the network namespace in which it was opened.
#[derive(Debug)]
pub struct LinkSocket {
    fd: OwnedFd,
}

impl LinkSocket {
    /// Opens it in the calling thread's network namespace; no right is needed.
    ///
    /// # Errors
    /// No descriptor, or no netlink (a sandbox without AF_NETLINK).
    pub fn open() -> Result<Self> {
        Self::subscribe(libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR)
    }

    /// Opens one that hears only of links that are deleted, and of none before
    /// [`LinkSocket::hear_deletions_of`].
    ///
    /// # Errors
    /// As [`LinkSocket::open`].
    pub fn open_for_deletions() -> Result<Self> {
        const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
        let socket = Self::subscribe(libc::RTMGRP_LINK)?;
        socket.hear_deletions_of(&[])?;
        socket::receive_buffer(socket.as_fd(), RECEIVE_BUFFER_BYTES, TARGET)?;
        // What came before the filter.
        let mut bytes = vec![0; MESSAGE_BYTES];
        while socket.hear(&mut bytes).is_ok() {}
        Ok(socket)
    }

    /// Hears from now on only of the deletion of links with these indices, or of any where they are
    /// too many for a filter.
    ///
    /// # Errors
    /// No memory in the kernel; it hears what it heard before.
    pub fn hear_deletions_of(&self, indices: &[u32]) -> Result<()> {
        sockopt::attach_filter(self.as_fd(), &filter::link_deletions(indices))
            .map_err(|error| Error::os("attaching a filter", TARGET, error))
    }

    fn subscribe(groups: i32) -> Result<Self> {
        // Protocol 0, which `socket::open` asks for, is NETLINK_ROUTE.
        let fd = socket::open(libc::AF_NETLINK, libc::SOCK_RAW, TARGET)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups.unsigned_abs()))
            .map_err(|errno| Error::os("subscribing to", TARGET, errno))?;
        Ok(Self { fd })
    }

    /// Asks for all that there is; the kernel makes the list while it is heard. One list at a
    /// time: the next may be asked for after [`Told::Listed`].
    ///
    /// # Errors
    /// The kernel's, no memory for one.
    pub fn ask(&self, list: List) -> io::Result<()> {
        // Only for who names a mask does the kernel make room for the longest link, and it ends the
        // list before a link that has none (net/core/rtnetlink.c, `rtnl_calcit`).
        let mask = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
        let mut links = LinkMessage::default();
        links.attributes.push(mask);
        self.put(
            match list {
                List::Links => RouteNetlinkMessage::GetLink(links),
                List::Addresses => RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            },
            NLM_F_DUMP,
        )
    }

    /// Asks for the link with this name or alternative name, which the kernel does not tell of
    /// while it is down (net/core/dev.c, `netdev_state_change`). [`Told::Link`] is the answer, or
    /// nothing.
    ///
    /// # Errors
    /// As [`LinkSocket::ask`].
    pub fn ask_for(&self, name: &str) -> io::Result<()> {
        let name = [name.as_bytes(), b"\0"].concat();
        let name = LinkAttribute::Other(DefaultNla::new(libc::IFLA_ALT_IFNAME, name));
        let mut wanted = LinkMessage::default();
        wanted.attributes.push(name);
        self.put(RouteNetlinkMessage::GetLink(wanted), 0)
    }

    fn put(&self, question: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut question = NetlinkMessage::from(question);
        question.header.flags = NLM_F_REQUEST | flags;
        question.finalize();
        let mut bytes = vec![0; question.buffer_len()];
        question.serialize(&mut bytes);
        self.tell(&bytes)
    }

    fn tell(&self, question: &[u8]) -> io::Result<()> {
        send(self.fd.as_raw_fd(), question, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// Takes the next piece of what the kernel has told, for [`read`].
    ///
    /// # Errors
    /// `WouldBlock` when there is none now; ENOBUFS when some was lost, so that the links may be
    /// otherwise than what was heard says; EMSGSIZE when it is longer than the room for it.
    pub fn hear<'a>(&self, bytes: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let mut room = [io::IoSliceMut::new(bytes)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let heard = recvmsg::<NetlinkAddr>(self.fd.as_raw_fd(), &mut room, None, flags)?;
        if heard.flags.contains(MsgFlags::MSG_TRUNC) {
            // Not ENOBUFS: to ask again would end in the same.
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let is_kernel = heard.address.is_some_and(|sender| sender.pid() == 0);
        let len = if is_kernel { heard.bytes } else { 0 };
        Ok(&bytes[..len])
    }
}

impl AsFd for LinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Every link of the calling thread's network namespace, by its index.
///
/// # Errors
/// No netlink, or no answer.
pub fn list() -> Result<BTreeMap<u32, Link>> {
    let failed = |error| Error::os("asking for", TARGET, error);
    let socket = LinkSocket::subscribe(0)?;
    let mut bytes = vec![0; MESSAGE_BYTES];
    let mut links = BTreeMap::new();
    for _ in 0..INTERRUPTED {
        links.clear();
        socket.ask(List::Links).map_err(failed)?;
        let mut end = None;
        while end.is_none() {
            // The kernel makes the list while it is heard: nobody has to wait for it.
            let piece = socket.hear(&mut bytes).map_err(failed)?;
            read(piece, |told| match told {
                Told::Link(link) => drop(links.insert(link.index, link)),
                Told::Listed { interrupted } => end = Some(interrupted),
                _ => {}
            })
            .map_err(failed)?;
        }
        if end == Some(false) {
            break;
        }
    }
    Ok(links)
}

/// Tells everything that a piece of the kernel's messages says. What cannot be read is passed
/// over.
///
/// # Errors
/// The kernel refused a question.
pub fn read(mut bytes: &[u8], mut tell: impl FnMut(Told)) -> io::Result<()> {
    while let Ok(message) = NetlinkBuffer::new_checked(bytes) {
        if let Some(told) = told_by(&message)? {
            tell(told);
        }
        // Checked to lie between the header's length and that of the bytes.
        let next = (message.length() as usize).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    Ok(())
}

fn told_by(message: &NetlinkBuffer<&[u8]>) -> io::Result<Option<Told>> {
    let payload = message.payload();
    Ok(match message.message_type() {
        libc::RTM_NEWLINK => link(payload).map(Told::Link),
        libc::RTM_DELLINK => link_header(payload).map(|header| Told::LinkGone(header.index)),
        libc::RTM_NEWADDR => address(payload).map(|(index, address, usable)| {
            if usable { Told::Address(index, address) } else { Told::AddressGone(index, address) }
        }),
        libc::RTM_DELADDR => {
            address(payload).map(|(index, address, _)| Told::AddressGone(index, address))
        }
        NLMSG_DONE => Some(Told::Listed { interrupted: message.flags() & NLM_F_DUMP_INTR != 0 }),
        NLMSG_ERROR => match refusal(payload) {
            // ENODEV: no link has the name that was asked for.
            0 | libc::ENODEV => None,
            errno => return Err(io::Error::from_raw_os_error(errno)),
        },
        _ => None,
    })
}

/// A bridge speaks of its ports in the same words, but of another family: a port that leaves its
/// bridge is not deleted.
fn link_header(payload: &[u8]) -> Option<LinkHeader> {
    let header = LinkHeader::parse(payload).ok();
    header.filter(|link| link.interface_family == AddressFamily::Unspec)
}

fn link(payload: &[u8]) -> Option<Link> {
    let header = link_header(payload)?;
    let kinds = [libc::IFLA_IFNAME, libc::IFLA_MTU, libc::IFLA_PROP_LIST, IFLA_CARRIER_UP_COUNT];
    let [name, mtu, properties, gains] = attributes(payload, LINK_HEADER_BYTES, kinds);
    let is_altname = |kind: &u16| *kind == libc::IFLA_ALT_IFNAME;
    let altnames = Attributes(properties.unwrap_or_default()).filter(|(kind, _)| is_altname(kind));
    let has = |flag| header.flags.contains(flag);
    Some(Link {
        index: header.index,
        name: text(name?)?,
        altnames: altnames.filter_map(|(_, name)| text(name)).collect(),
        up: has(LinkFlags::Up),
        multicast: has(LinkFlags::Multicast),
        loopback: has(LinkFlags::Loopback),
        // In the moment between the two flags what is sent is lost, and success reported.
        carrier: has(LinkFlags::LowerUp | LinkFlags::Running),
        carrier_gains: gains.and_then(|gains| parse_u32(gains).ok()).unwrap_or(0),
        mtu: parse_u32(mtu?).ok()?,
        layers: layers(payload),
    })
}

fn layers(payload: &[u8]) -> Layers {
    let kinds = [libc::IFLA_LINKINFO, libc::IFLA_LINK, libc::IFLA_LINK_NETNSID, libc::IFLA_MASTER];
    let [info, below, namespace, master] = attributes(payload, LINK_HEADER_BYTES, kinds);
    let kinds = [libc::IFLA_INFO_KIND, libc::IFLA_INFO_DATA];
    let [kind, data] = attributes(info.unwrap_or_default(), 0, kinds);
    let kind = kind.map(|kind| kind.strip_suffix(b"\0").unwrap_or(kind)).unwrap_or_default();
    let index = |value: Option<&[u8]>| parse_u32(value?).ok();
    let below = index(below).map(|index| match namespace {
        None => Below::Here(index),
        Some(_) => Below::Elsewhere,
    });
    let snooped_groups = data.filter(|_| kind == b"bridge").and_then(snooped_groups);
    Layers { snooped_groups, ..Layers::new(kind, below, index(master)) }
}

/// How many groups a bridge keeps, from what is told of its own kind; `None` if it does not snoop.
fn snooped_groups(bridge: &[u8]) -> Option<u32> {
    // Of <linux/if_link.h>.
    const IFLA_BR_MCAST_SNOOPING: u16 = 23;
    const IFLA_BR_MCAST_HASH_MAX: u16 = 27;
    let [snooping, most] = attributes(bridge, 0, [IFLA_BR_MCAST_SNOOPING, IFLA_BR_MCAST_HASH_MAX]);
    if snooping? == [0] { None } else { parse_u32(most?).ok() }
}

/// The interface, its address, and whether it can be sent from: not while the kernel still looks
/// for another host that has it (RFC 4862, 5.4), nor when it has found one.
fn address(payload: &[u8]) -> Option<(u32, Addr, bool)> {
    const UNUSABLE: AddressHeaderFlags =
        AddressHeaderFlags::Tentative.union(AddressHeaderFlags::Dadfailed);
    let header = AddressHeader::parse(payload).ok()?;
    let known = attributes(payload, ADDRESS_HEADER_BYTES, [libc::IFA_LOCAL, libc::IFA_ADDRESS]);
    // On a link between two, IFA_ADDRESS is the other's.
    let [local, other] = known;
    let address = to_addr(local.or(other)?)?;
    let optimistic = header.flags.contains(AddressHeaderFlags::Optimistic);
    Some((header.index, address, optimistic || !header.flags.intersects(UNUSABLE)))
}

/// An address of either family, by its length.
fn to_addr(bytes: &[u8]) -> Option<Addr> {
    match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => Some(Addr::v4(v4)),
        Err(_) => bytes.try_into().ok().map(Addr::v6),
    }
}

/// The values of some attributes behind a header.
fn attributes<const N: usize>(
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

/// Attributes one after the other (`struct rtattr`: length, kind, value).
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let &[a, b, c, d, ..] = self.0 else { return None };
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        // The upper bits say how a value is written (NLA_F_NESTED), not what it is.
        Some((u16::from_ne_bytes([c, d]) & NLA_TYPE_MASK, value))
    }
}

/// A text that ends with a zero.
fn text(value: &[u8]) -> Option<String> {
    Some(String::from_utf8_lossy(value.strip_suffix(b"\0")?).into_owned())
}

/// The errno that an NLMSG_ERROR begins with, negated; 0 says that all is well.
fn refusal(payload: &[u8]) -> i32 {
    let code = payload.get(..4).and_then(|code| parse_i32(code).ok());
    code.map_or(0, i32::wrapping_neg)
}

pub mod groups;
#[cfg(test)]
mod tests;
