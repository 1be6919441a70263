//! What the kernel tells about links and addresses (rtnetlink(7)): a socket that hears of every
//! change, and the question for all there are now. Only this module and `ways` know the netlink
//! crates. It must not know what an interface is good for.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{DefaultNla, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recvmsg, send};

use super::link::{Address, Link};
pub use super::messages::read;
use super::messages::{self, MessageBuffer};
use crate::error::{Error, Result};
use crate::sockets::{filter, socket};
use crate::sys::sockopt;

/// Room for one message of the kernel: 32 KiB of a list (net/netlink/af_netlink.c), or a link whose
/// alternative names alone take 64 KiB (the length of an attribute).
pub const MESSAGE_BYTES: usize = 128 * 1024;

/// Lists in a row that may change while they are made; the last one is taken as it is.
const INTERRUPTED: usize = 8;

/// What the socket is for, in messages.
const TARGET: &str = "the state of the links";

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
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
        while socket.receive(&mut bytes).is_ok() {}
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

    pub(super) fn subscribe(groups: i32) -> Result<Self> {
        // Protocol 0, which `socket::open` asks for, is NETLINK_ROUTE.
        let fd = socket::open(libc::AF_NETLINK, libc::SOCK_RAW, TARGET)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups.unsigned_abs()))
            .map_err(|errno| Error::os("subscribing to", TARGET, errno))?;
        Ok(Self { fd })
    }

    /// Asks for all that there is; the kernel makes the list while it is heard. One list at a
    /// time: the next may be asked for after [`LinkEvent::Listed`].
    ///
    /// # Errors
    /// The kernel's, no memory for one.
    pub fn ask(&self, list: Dump) -> io::Result<()> {
        // Only for who names a mask does the kernel make room for the longest link, and it ends the
        // list before a link that has none (net/core/rtnetlink.c, `rtnl_calcit`).
        let mask = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
        let mut links = LinkMessage::default();
        links.attributes.push(mask);
        self.put(
            match list {
                Dump::Links => RouteNetlinkMessage::GetLink(links),
                Dump::Addresses => RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            },
            NLM_F_DUMP,
        )
    }

    /// Asks for the link with this name or alternative name, which the kernel does not tell of
    /// while it is down (net/core/dev.c, `netdev_state_change`). [`LinkEvent::Link`] is the answer, or
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

    pub(super) fn tell(&self, question: &[u8]) -> io::Result<()> {
        send(self.fd.as_raw_fd(), question, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// Takes the next piece of what the kernel has told, for [`read`].
    ///
    /// # Errors
    /// `WouldBlock` when there is none now; ENOBUFS when some was lost, so that the links may be
    /// otherwise than what was heard says; EMSGSIZE when it is longer than the room for it.
    pub fn receive<'a>(&self, bytes: &'a mut [u8]) -> io::Result<&'a [u8]> {
        receive(self.as_fd(), bytes)
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
    let links = dump(Dump::Links, messages::link)?;
    Ok(links.into_iter().map(|link| (link.index, link)).collect())
}

/// Every address of the calling thread's network namespace, in the kernel's order.
///
/// Not by getifaddrs(3), which asks for the links too, without a mask, and can wait for ever for
/// one that the kernel leaves out then (glibc 2.36).
///
/// # Errors
/// As [`list`].
pub fn addresses() -> Result<Vec<Address>> {
    dump(Dump::Addresses, messages::address)
}

/// Everything of a list, as `item` reads it from the messages.
fn dump<T>(of: Dump, item: impl Fn(&MessageBuffer<'_>) -> Option<T>) -> Result<Vec<T>> {
    let failed = |error| Error::os("asking for", TARGET, error);
    let socket = LinkSocket::subscribe(0)?;
    let mut bytes = vec![0; MESSAGE_BYTES];
    let mut all = Vec::new();
    for _ in 0..INTERRUPTED {
        all.clear();
        socket.ask(of).map_err(failed)?;
        let mut end = None;
        while end.is_none() {
            // The kernel makes the list while it is heard: nobody has to wait for it.
            let piece = socket.receive(&mut bytes).map_err(failed)?;
            let take = |message: &MessageBuffer<'_>| {
                match item(message) {
                    Some(one) => all.push(one),
                    None => end = end.or(messages::end_of_list(message)?),
                }
                Ok(())
            };
            messages::each(piece, take).map_err(failed)?;
        }
        if end == Some(false) {
            break;
        }
    }
    Ok(all)
}

/// Takes the next piece of the kernel's messages from a netlink socket; empty for what somebody
/// else has sent.
///
/// # Errors
/// `WouldBlock` when there is none now; ENOBUFS when some was lost; EMSGSIZE when it is longer than
/// the room for it.
pub(super) fn receive<'a>(fd: BorrowedFd<'_>, bytes: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut room = [io::IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let heard = recvmsg::<NetlinkAddr>(fd.as_raw_fd(), &mut room, None, flags)?;
    if heard.flags.contains(MsgFlags::MSG_TRUNC) {
        // Not ENOBUFS: to ask again would end in the same.
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let is_kernel = heard.address.is_some_and(|sender| sender.pid() == 0);
    let len = if is_kernel { heard.bytes } else { 0 };
    Ok(&bytes[..len])
}

#[cfg(test)]
mod tests;
