//! Links and addresses over rtnetlink(7): a socket that receives every change, and dumps of the
//! current state.

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

/// Buffer for one message: 32 KiB for a dump (net/netlink/af_netlink.c), or a link whose
/// alternative names alone take 64 KiB (the maximum length of an attribute).
pub const MESSAGE_BYTES: usize = 128 * 1024;

/// Retries for a dump that changed while it was read; the last one is used as it is.
const INTERRUPTED: usize = 8;

/// The socket's name in error messages.
const TARGET: &str = "rtnetlink";

/// The available dumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
    /// All links.
    Links,
    /// All addresses.
    Addresses,
}

/// A socket that receives notifications about every link and address of the network namespace in
/// which it was opened.
#[derive(Debug)]
pub struct LinkSocket {
    fd: OwnedFd,
}

impl LinkSocket {
    /// Opens it in the calling thread's network namespace; needs no privilege.
    ///
    /// # Errors
    /// No descriptor, or no netlink (a sandbox without AF_NETLINK).
    pub fn open() -> Result<Self> {
        Self::subscribe(libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR)
    }

    /// Opens one that receives only deletions of links, and none before
    /// [`LinkSocket::watch_deletions_of`].
    ///
    /// # Errors
    /// As [`LinkSocket::open`].
    pub fn open_for_deletions() -> Result<Self> {
        const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
        let socket = Self::subscribe(libc::RTMGRP_LINK)?;
        socket.watch_deletions_of(&[])?;
        socket::receive_buffer(socket.as_fd(), RECEIVE_BUFFER_BYTES, TARGET)?;
        // Discard what arrived before the filter was attached.
        let mut bytes = vec![0; MESSAGE_BYTES];
        while socket.receive(&mut bytes).is_ok() {}
        Ok(socket)
    }

    /// Receives from now on only deletions of links with these indices, or of all links if there
    /// are too many for a filter.
    ///
    /// # Errors
    /// The kernel has no memory; the previous filter stays.
    pub fn watch_deletions_of(&self, indices: &[u32]) -> Result<()> {
        sockopt::attach_filter(self.as_fd(), &filter::link_deletions(indices))
            .map_err(|error| Error::os("attaching a filter", TARGET, error))
    }

    pub(super) fn subscribe(groups: i32) -> Result<Self> {
        // Protocol 0, which `socket::open` uses, is NETLINK_ROUTE.
        let fd = socket::open(libc::AF_NETLINK, libc::SOCK_RAW, TARGET)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups.unsigned_abs()))
            .map_err(|errno| Error::os("subscribing to notifications", TARGET, errno))?;
        Ok(Self { fd })
    }

    /// Requests a dump, which the kernel produces as it is read. Only one dump may run at a time:
    /// request the next after [`super::link::LinkEvent::Listed`].
    ///
    /// # Errors
    /// The kernel's, such as lack of memory.
    pub fn ask(&self, list: Dump) -> io::Result<()> {
        // Only for requests with a mask does the kernel allocate room for the longest link; without
        // one it ends the dump before a link that does not fit (net/core/rtnetlink.c,
        // `rtnl_calcit`).
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

    /// Requests the link with this name or alternative name; the kernel sends no notifications
    /// about changes to a link that is down (net/core/dev.c, `netdev_state_change`). The answer is
    /// [`super::link::LinkEvent::Link`], or nothing.
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

    fn put(&self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut request = NetlinkMessage::from(request);
        request.header.flags = NLM_F_REQUEST | flags;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.send_request(&bytes)
    }

    pub(super) fn send_request(&self, request: &[u8]) -> io::Result<()> {
        send(self.fd.as_raw_fd(), request, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// Receives the next chunk of messages, for [`read`].
    ///
    /// # Errors
    /// `WouldBlock` if there is none now; ENOBUFS if messages were lost, so that the known state
    /// may be out of date; EMSGSIZE if the chunk is longer than the buffer.
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
/// Netlink is unavailable, or there is no answer.
pub fn list() -> Result<BTreeMap<u32, Link>> {
    let links = dump(Dump::Links, messages::link)?;
    Ok(links.into_iter().map(|link| (link.index, link)).collect())
}

/// Every address of the calling thread's network namespace, in the kernel's order.
///
/// Does not use getifaddrs(3), which also requests the links, without a mask, and can wait forever
/// for one that the kernel then leaves out (glibc 2.36).
///
/// # Errors
/// As [`list`].
pub fn addresses() -> Result<Vec<Address>> {
    dump(Dump::Addresses, messages::address)
}

/// All entries of a dump, each parsed by `item`.
fn dump<T>(of: Dump, item: impl Fn(&MessageBuffer<'_>) -> Option<T>) -> Result<Vec<T>> {
    let failed = |error| Error::os("listing the links and addresses", TARGET, error);
    let socket = LinkSocket::subscribe(0)?;
    let mut bytes = vec![0; MESSAGE_BYTES];
    let mut all = Vec::new();
    for _ in 0..INTERRUPTED {
        all.clear();
        socket.ask(of).map_err(failed)?;
        let mut end = None;
        while end.is_none() {
            // The kernel produces the dump as it is read, so this never blocks.
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

/// Receives the next chunk of messages from a netlink socket; returns an empty slice for a message
/// from another process.
///
/// # Errors
/// `WouldBlock` if there is none now; ENOBUFS if messages were lost; EMSGSIZE if the chunk is
/// longer than the buffer.
pub(in crate::sockets) fn receive<'a>(
    fd: BorrowedFd<'_>,
    bytes: &'a mut [u8],
) -> io::Result<&'a [u8]> {
    let mut room = [io::IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<NetlinkAddr>(fd.as_raw_fd(), &mut room, None, flags)?;
    if received.flags.contains(MsgFlags::MSG_TRUNC) {
        // Not ENOBUFS, because a retry would fail in the same way.
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let is_kernel = received.address.is_some_and(|sender| sender.pid() == 0);
    let len = if is_kernel { received.bytes } else { 0 };
    Ok(&bytes[..len])
}

#[cfg(test)]
mod tests;
