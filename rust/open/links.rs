//! What the kernel tells about links (rtnetlink(7)): a socket that hears of every change, the
//! question how one link is now, and the reader of both. The only file that knows the netlink
//! crates. It must not know what a carrier is good for.
//!
//! Only headers are read: an attribute that a later kernel adds cannot make a message unreadable.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NetlinkMessage, parse_i32};
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recvmsg, send};

use super::socket;
use crate::error::{Error, Result};

/// Room for one message of the kernel: it makes none of more than 32 KiB.
pub const MESSAGE_BYTES: usize = 32 * 1024;

/// What the socket is for, in messages.
const TARGET: &str = "the state of the links";

/// A link as the kernel says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's index of the interface.
    pub index: u32,
    /// Whether what is sent there leaves (`IFF_LOWER_UP` and `IFF_RUNNING`); not of one that is
    /// down or deleted.
    pub carrier: bool,
}

/// A socket that hears of every link of the network namespace in which it was opened.
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
        // Protocol 0, which `socket::open` asks for, is NETLINK_ROUTE.
        let fd = socket::open(libc::AF_NETLINK, libc::SOCK_RAW, TARGET)?;
        let groups = NetlinkAddr::new(0, libc::RTMGRP_LINK.unsigned_abs());
        bind(fd.as_raw_fd(), &groups)
            .map_err(|errno| Error::os("subscribing to", TARGET, errno))?;
        Ok(Self { fd })
    }

    /// Asks how a link is; the answer can be heard as soon as this returns.
    ///
    /// # Errors
    /// The kernel's, no memory for one.
    pub fn ask(&self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        let mut question = NetlinkMessage::from(RouteNetlinkMessage::GetLink(link));
        question.header.flags = NLM_F_REQUEST;
        // A refusal carries the number of its question and nothing else that tells the link.
        question.header.sequence_number = index;
        question.finalize();
        let mut bytes = vec![0; question.buffer_len()];
        question.serialize(&mut bytes);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// Takes the next piece of what the kernel has told, for [`read`].
    ///
    /// # Errors
    /// `WouldBlock` when there is none now; ENOBUFS when some was lost, so that the links may be
    /// otherwise than what was heard says.
    pub fn hear<'a>(&self, bytes: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let mut room = [io::IoSliceMut::new(bytes)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let heard = recvmsg::<NetlinkAddr>(self.fd.as_raw_fd(), &mut room, None, flags)?;
        if heard.flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
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

/// Tells every link that a piece of the kernel's messages speaks of. What cannot be read is
/// passed over.
///
/// # Errors
/// The kernel refused a question, for another reason than that there is no such link.
pub fn read(mut bytes: &[u8], mut tell: impl FnMut(Link)) -> io::Result<()> {
    while let Ok(message) = NetlinkBuffer::new_checked(bytes) {
        if let Some(link) = link_of(&message)? {
            tell(link);
        }
        // Checked to lie between the header's length and that of the bytes.
        let next = (message.length() as usize).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    Ok(())
}

fn link_of(message: &NetlinkBuffer<&[u8]>) -> io::Result<Option<Link>> {
    let kind = message.message_type();
    let link = match kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => {
            let header = LinkHeader::parse(message.payload()).ok();
            // A bridge speaks of its ports in the same words, but of another family: a port that
            // leaves its bridge is not deleted.
            let header = header.filter(|link| link.interface_family == AddressFamily::Unspec);
            header.map(|link| Link {
                index: link.index,
                carrier: kind == libc::RTM_NEWLINK && has_carrier(link.flags),
            })
        }
        NLMSG_ERROR => match refusal(message.payload()) {
            0 => None,
            libc::ENODEV => Some(Link { index: message.sequence_number(), carrier: false }),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        },
        _ => None,
    };
    Ok(link)
}

/// In the moment between the two flags what is sent is lost, and success reported.
fn has_carrier(flags: LinkFlags) -> bool {
    flags.contains(LinkFlags::LowerUp | LinkFlags::Running)
}

/// The errno that an NLMSG_ERROR begins with, negated; 0 says that all is well.
fn refusal(payload: &[u8]) -> i32 {
    let code = payload.get(..4).and_then(|code| parse_i32(code).ok());
    code.map_or(0, i32::wrapping_neg)
}

#[cfg(test)]
mod tests;
