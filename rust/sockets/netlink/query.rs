//! Requests over a netlink(7) socket, and the kernel's answers, which are complete before the
//! request returns.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use nix::sys::socket::{MsgFlags, send};

use super::{links, messages};
use crate::error::Result;
use crate::sockets::socket;

/// Buffer for one chunk of an answer (net/netlink/af_netlink.c, `netlink_recvmsg`).
const PIECE_BYTES: usize = 32 * 1024;
/// Length of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// A socket for requests in the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct QuerySocket {
    fd: OwnedFd,
}

/// The reason for a missing answer.
pub(super) enum QueryError {
    /// The kernel answered with this error.
    Refused(io::Error),
    /// No answer was received.
    Missing(io::Error),
}

impl QueryError {
    pub(super) fn into_error(self) -> io::Error {
        match self {
            Self::Refused(error) | Self::Missing(error) => error,
        }
    }
}

impl QuerySocket {
    /// Opens a socket of this netlink protocol in the calling thread's network namespace.
    ///
    /// # Errors
    /// EPROTONOSUPPORT if the kernel does not have the protocol; no descriptor is left.
    pub(super) fn open(protocol: i32, target: &str) -> Result<Self> {
        Ok(Self { fd: socket::open_netlink(protocol, target)? })
    }

    /// Sends a request and passes all messages of the answer, each with its type and payload, to
    /// `take`.
    pub(super) fn ask(
        &self,
        request: &[u8],
        mut take: impl FnMut(u16, &[u8]),
    ) -> std::result::Result<(), QueryError> {
        let mut bytes = vec![0; PIECE_BYTES];
        // Discard the rest of an earlier answer that was not read to its end.
        while links::receive(self.fd.as_fd(), &mut bytes).is_ok() {}
        send(self.fd.as_raw_fd(), request, MsgFlags::MSG_DONTWAIT)
            .map_err(|errno| QueryError::Missing(errno.into()))?;
        let is_list = NetlinkBuffer::new_checked(request)
            .is_ok_and(|request| request.flags() & NLM_F_DUMP == NLM_F_DUMP);
        loop {
            let piece = links::receive(self.fd.as_fd(), &mut bytes).map_err(QueryError::Missing)?;
            if read_piece(piece, is_list, &mut take)? {
                return Ok(());
            }
        }
    }

    /// The same for a request of rtnetlink(7).
    pub(super) fn ask_route(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
        take: impl FnMut(u16, &[u8]),
    ) -> std::result::Result<(), QueryError> {
        let mut request = NetlinkMessage::from(request);
        request.header.flags = flags;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.ask(&bytes, take)
    }
}

impl AsFd for QuerySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A request of this type with this payload, for which the netlink crates have no structure.
pub(super) fn request(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let len = HEADER_BYTES + payload.len();
    let mut bytes = vec![0; HEADER_BYTES];
    let mut header = NetlinkBuffer::new(&mut bytes);
    header.set_length(u32::try_from(len).unwrap_or(u32::MAX));
    header.set_message_type(kind);
    header.set_flags(flags);
    bytes.extend(payload);
    bytes
}

/// An attribute (`struct nlattr`: length, type, value), padded.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Passes the messages of one chunk to `take`; returns whether the answer is complete.
fn read_piece(
    bytes: &[u8],
    is_list: bool,
    take: &mut impl FnMut(u16, &[u8]),
) -> std::result::Result<bool, QueryError> {
    let mut is_complete = false;
    messages::each(bytes, |message| {
        match message.message_type() {
            // The last message of a list has an error in the same form.
            NLMSG_DONE | NLMSG_ERROR => match messages::refusal(message.payload()) {
                0 => is_complete = true,
                errno => return Err(QueryError::Refused(io::Error::from_raw_os_error(errno))),
            },
            kind => {
                take(kind, message.payload());
                is_complete |= !is_list;
            }
        }
        Ok(())
    })?;
    Ok(is_complete)
}
