//! Messages between two processes that may carry a descriptor (unix(7), SCM_RIGHTS).

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// The most descriptors in one message (include/net/scm.h).
const SCM_MAX_FD: usize = 253;

/// The kernel reports first that the peer has closed its end with messages unread, and only then
/// gives the messages that the peer had sent (net/unix/af_unix.c).
const CLOSED_WITHOUT_READING: Errno = Errno::ECONNRESET;

/// A received message.
#[derive(Debug)]
pub struct Received {
    /// The message's length in bytes; also 0 if the peer has closed its end.
    pub len: usize,
    /// The descriptor that came with it.
    pub fd: Option<OwnedFd>,
    /// Whether a descriptor was lost because this process has no room for it (RLIMIT_NOFILE).
    pub lacks_fd: bool,
}

/// Sends a message as a whole or not at all.
///
/// # Errors
/// The kernel's: `WouldBlock` if a nonblocking socket is full, EPIPE if the peer has closed its
/// end, without a signal.
pub fn send(
    socket: BorrowedFd<'_>,
    message: &[u8],
    fd: Option<BorrowedFd<'_>>,
    flags: MsgFlags,
) -> io::Result<()> {
    let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights };
    let flags = flags | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(message)], control, flags, None)?;
    Ok(())
}

/// Receives the next message, and the descriptor that came with it, if any.
///
/// # Errors
/// The kernel's, `WouldBlock` if there is none; InvalidData if the message is longer than `room`,
/// or carries several descriptors.
pub fn receive(socket: BorrowedFd<'_>, room: &mut [u8], flags: MsgFlags) -> io::Result<Received> {
    // Room for all that one message can carry: otherwise some descriptors would stay open.
    let mut control = nix::cmsg_space!([RawFd; SCM_MAX_FD]);
    let mut pieces = [IoSliceMut::new(room)];
    let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = match recvmsg::<()>(socket.as_raw_fd(), &mut pieces, Some(&mut control), flags) {
        Err(CLOSED_WITHOUT_READING) => {
            recvmsg::<()>(socket.as_raw_fd(), &mut pieces, Some(&mut control), flags)?
        }
        received => received?,
    };
    let lacks_fd = message.flags.contains(MsgFlags::MSG_CTRUNC);
    let mut fds = Vec::new();
    // A truncated control message cannot be read; a single descriptor is then lost completely.
    for part in message.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            fds.extend(numbers.into_iter().map(adopt));
        }
    }
    if message.flags.contains(MsgFlags::MSG_TRUNC) || fds.len() > 1 {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok(Received { len: message.bytes, fd: fds.pop(), lacks_fd })
}

/// Receives the next message of a peer that must not send descriptors; returns its length in bytes.
///
/// # Errors
/// The kernel's, `WouldBlock` if there is none; InvalidData if the message is longer than `room`,
/// or carries descriptors, which are then closed.
pub fn receive_bytes(
    socket: BorrowedFd<'_>,
    room: &mut [u8],
    flags: MsgFlags,
) -> io::Result<usize> {
    let mut pieces = [IoSliceMut::new(room)];
    let message = match recvmsg::<()>(socket.as_raw_fd(), &mut pieces, None, flags) {
        Err(CLOSED_WITHOUT_READING) => recvmsg::<()>(socket.as_raw_fd(), &mut pieces, None, flags)?,
        received => received?,
    };
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok(message.bytes)
}

/// Duplicates the descriptor with this number without taking ownership of it.
///
/// # Errors
/// EBADF if the number is not open; no descriptor is left.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call accepts any number, and does not change the descriptor that it names.
    let new = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if new < 0 { Err(io::Error::last_os_error()) } else { Ok(adopt(new)) }
}

fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just created this descriptor for this call, so nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    #[test]
    fn the_last_messages_of_a_peer_arrive_though_it_has_not_read_its_own() {
        let (near, far) = pair();
        send(near.as_fd(), b"unread", None, MsgFlags::empty()).unwrap();
        for message in [&b"last"[..], b"words"] {
            send(far.as_fd(), message, None, MsgFlags::empty()).unwrap();
        }
        drop(far);
        let mut room = [0; 16];
        assert_eq!(receive(near.as_fd(), &mut room, MsgFlags::empty()).unwrap().len, 4);
        assert_eq!(receive_bytes(near.as_fd(), &mut room, MsgFlags::empty()).unwrap(), 5);
        assert_eq!(receive_bytes(near.as_fd(), &mut room, MsgFlags::empty()).unwrap(), 0);

        let (near, far) = pair();
        send(near.as_fd(), b"unread", None, MsgFlags::empty()).unwrap();
        drop(far);
        assert_eq!(receive_bytes(near.as_fd(), &mut room, MsgFlags::empty()).unwrap(), 0);
    }

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
    }

    fn next(socket: &OwnedFd, room: usize) -> io::Result<Received> {
        receive(socket.as_fd(), &mut vec![0; room], MsgFlags::empty())
    }

    #[test]
    fn a_descriptor_arrives_with_its_message() {
        let (near, far) = pair();
        let (reads, writes) = nix::unistd::pipe().unwrap();
        send(near.as_fd(), b"end", Some(writes.as_fd()), MsgFlags::empty()).unwrap();
        drop(writes);
        let Received { len, fd, .. } = next(&far, 8).unwrap();
        nix::unistd::write(fd.unwrap(), b"x").unwrap();
        // The last descriptor of the writing end is closed by now.
        let mut text = String::new();
        File::from(reads).read_to_string(&mut text).unwrap();
        assert_eq!((len, &*text), (3, "x"));
        assert_eq!(next(&far, 8).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(near);
        assert_eq!(next(&far, 8).unwrap().len, 0);
    }

    #[test]
    fn a_long_message_is_refused_and_its_descriptors_closed() {
        let (near, far) = pair();
        let (reads, writes) = nix::unistd::pipe().unwrap();
        send(near.as_fd(), b"longer", Some(writes.as_fd()), MsgFlags::empty()).unwrap();
        assert_eq!(next(&far, 5).unwrap_err().kind(), ErrorKind::InvalidData);
        let several = [writes.as_raw_fd(); 3];
        let rights = [ControlMessage::ScmRights(&several)];
        let message = [IoSlice::new(b"x")];
        sendmsg::<()>(near.as_raw_fd(), &message, &rights, MsgFlags::empty(), None).unwrap();
        assert_eq!(next(&far, 5).unwrap_err().kind(), ErrorKind::InvalidData);
        send(near.as_fd(), b"x", Some(writes.as_fd()), MsgFlags::empty()).unwrap();
        let refused = receive_bytes(far.as_fd(), &mut [0; 5], MsgFlags::empty());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidData);
        send(near.as_fd(), b"fine", None, MsgFlags::empty()).unwrap();
        assert_eq!(receive_bytes(far.as_fd(), &mut [0; 5], MsgFlags::empty()).unwrap(), 4);
        drop(writes);
        let mut text = String::new();
        assert_eq!(File::from(reads).read_to_string(&mut text).unwrap(), 0);
    }
}
