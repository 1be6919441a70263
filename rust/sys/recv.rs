//! Batched receives: many datagrams in one call, each with its sender, the kernel's receive
//! timestamp and, if the kernel merged several, their size.

use std::io;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_int, c_uint, iovec, mmsghdr, sockaddr_storage, timespec};

use super::sockaddr;

/// The number of buffers in one call. Each can hold the longest merged datagram.
const BATCH: c_uint = 16;
const SLOTS: usize = BATCH as usize;
const SLOT_BYTES: usize = 65536;
/// Room for the address of a sender.
const NAME_BYTES: libc::socklen_t = 128;
const _: () = assert!(size_of::<sockaddr_storage>() == NAME_BYTES as usize);
/// Room for a timestamp (32 bytes) and a segment size (24).
const CONTROL_BYTES: usize = 64;

/// Buffers for one socket, with the datagrams of the last call. Pages are touched only when used.
#[derive(Debug)]
pub struct Inbox {
    data: Box<[u8]>,
    control: Box<[ControlBuffer; SLOTS]>,
    messages: Vec<ReceivedDatagrams>,
}

/// The datagrams received into one buffer.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedDatagrams {
    slot: usize,
    len: usize,
    /// The payload of each datagram in bytes, where the last may be shorter; 0 if nothing was
    /// merged.
    pub segment_bytes: usize,
    /// The sender's address and port, if it is an IP address.
    pub sender: Option<SocketAddr>,
    /// The kernel's receive time, in nanoseconds of CLOCK_REALTIME, if SO_TIMESTAMPNS is on.
    pub arrived_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
struct ControlBuffer([u8; CONTROL_BYTES]);

impl Default for Inbox {
    fn default() -> Self {
        Self {
            data: vec![0; SLOTS * SLOT_BYTES].into_boxed_slice(),
            control: Box::new([ControlBuffer([0; CONTROL_BYTES]); SLOTS]),
            messages: Vec::with_capacity(SLOTS),
        }
    }
}

impl Inbox {
    /// Receives what the socket holds, up to the number of buffers, without waiting. It overwrites
    /// what the last call received.
    ///
    /// # Errors
    /// The kernel's; `WouldBlock` if there is nothing.
    pub fn fill(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.messages.clear();
        // SAFETY: `mmsghdr` is integers and pointers, for which zero is a valid value.
        let mut headers: [mmsghdr; SLOTS] = unsafe { std::mem::zeroed() };
        // SAFETY: `sockaddr_storage` consists of numbers; all zero is AF_UNSPEC.
        let mut names: [sockaddr_storage; SLOTS] = unsafe { std::mem::zeroed() };
        let mut vectors = [iovec { iov_base: ptr::null_mut(), iov_len: SLOT_BYTES }; SLOTS];
        let slots = self.data.chunks_exact_mut(SLOT_BYTES).zip(self.control.iter_mut());
        let places = headers.iter_mut().zip(&mut vectors).zip(&mut names);
        for (((header, vector), name), (data, control)) in places.zip(slots) {
            vector.iov_base = data.as_mut_ptr().cast();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = NAME_BYTES;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES;
        }
        let list = headers.as_mut_ptr();
        // SAFETY: every header points to one vector, one data slot, one control slot and one name,
        // all distinct, of the lengths given, and alive until the call returns.
        let rc = unsafe {
            libc::recvmmsg(fd.as_raw_fd(), list, BATCH, libc::MSG_DONTWAIT, ptr::null_mut())
        };
        let filled = usize::try_from(rc).map_err(|_| io::Error::last_os_error())?;
        let received = headers.iter().zip(&names).zip(self.control.iter()).enumerate();
        self.messages.extend(received.take(filled).map(|(slot, ((header, name), control))| {
            let len = (header.msg_len as usize).min(SLOT_BYTES);
            let control_len = header.msg_hdr.msg_controllen.min(CONTROL_BYTES);
            let sender = sockaddr::internet(name);
            ReceivedDatagrams::new(slot, len, sender, &control.0[..control_len])
        }));
        Ok(())
    }

    /// The messages of the last call, in order.
    #[must_use]
    pub fn messages(&self) -> &[ReceivedDatagrams] {
        &self.messages
    }

    /// The bytes of a message of the last call.
    #[must_use]
    pub fn bytes(&self, message: ReceivedDatagrams) -> &[u8] {
        &self.data[message.slot * SLOT_BYTES..][..message.len]
    }
}

impl ReceivedDatagrams {
    fn new(slot: usize, len: usize, sender: Option<SocketAddr>, control: &[u8]) -> Self {
        let mut message = Self { slot, len, segment_bytes: 0, sender, arrived_ns: None };
        for (level, kind, value) in ControlMessages(control) {
            match (level, kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let bytes = value.first_chunk().map_or(0, |bytes| c_int::from_ne_bytes(*bytes));
                    message.segment_bytes = usize::try_from(bytes).unwrap_or(0);
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    message.arrived_ns = nanoseconds(value)
                }
                _ => {}
            }
        }
        message
    }
}

/// Reads a `timespec`: seconds and nanoseconds, each half of its size.
pub fn nanoseconds(value: &[u8]) -> Option<u64> {
    const HALF: usize = size_of::<timespec>() / 2;
    let (seconds, rest) = value.split_first_chunk::<HALF>()?;
    let seconds = u64::try_from(isize::from_ne_bytes(*seconds)).ok()?;
    let rest = u64::try_from(isize::from_ne_bytes(*rest.first_chunk::<HALF>()?)).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(rest)
}

/// An iterator over control messages as (level, type, value); like the macros CMSG_FIRSTHDR and
/// CMSG_NXTHDR, but without pointers.
#[derive(Debug)]
pub struct ControlMessages<'a>(pub &'a [u8]);

impl<'a> Iterator for ControlMessages<'a> {
    type Item = (c_int, c_int, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        const HEADER: usize = size_of::<libc::cmsghdr>();
        const WORD: usize = size_of::<usize>();
        let (len, rest) = self.0.split_first_chunk::<WORD>()?;
        let (level, rest) = rest.split_first_chunk()?;
        let (kind, _) = rest.split_first_chunk()?;
        let len = usize::from_ne_bytes(*len);
        let value = self.0.get(HEADER..len)?;
        self.0 = self.0.get(len.next_multiple_of(WORD)..).unwrap_or(&[]);
        Some((c_int::from_ne_bytes(*level), c_int::from_ne_bytes(*kind), value))
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn datagrams_have_size_and_time() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        crate::sys::sockopt::set(receiver.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
            .unwrap();
        crate::sys::sockopt::set(receiver.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        crate::sys::sockopt::set(sender.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 100).unwrap();
        let mut inbox = Inbox::default();
        assert_eq!(inbox.fill(receiver.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        sender.send(&[7; 250]).unwrap();
        sender.send(&[]).unwrap();
        inbox.fill(receiver.as_fd()).unwrap();
        let [merged, empty] = inbox.messages() else { panic!("{inbox:?}") };
        assert_eq!((inbox.bytes(*merged), merged.segment_bytes), (&[7; 250][..], 100));
        assert_eq!((inbox.bytes(*empty), empty.segment_bytes), (&[][..], 0));
        assert_eq!(
            (merged.sender, empty.sender),
            (sender.local_addr().ok(), sender.local_addr().ok())
        );
        assert!(merged.arrived_ns.is_some_and(|ns| ns > 1_600_000_000_000_000_000));
    }

    proptest! {
        #[test]
        fn any_control_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            ReceivedDatagrams::new(0, 0, None, &bytes);
        }
    }
}
