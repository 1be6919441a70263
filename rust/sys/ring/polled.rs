//! The operations of a ring by poll(2), recvmmsg(2) and sendmsg(2), for where the kernel refuses
//! io_uring. Completions, and the layout of received buffers, are those of io_uring, so that nothing
//! outside of the ring differs. Each send and each batch of receives is a system call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::vec;

use libc::{c_int, c_uint, iovec, mmsghdr, msghdr, nfds_t, pollfd, timespec};

use super::ReceiveLayout;
use super::completion::Completion;
use crate::sys::buffers::Buffers;

/// The most datagrams that one call receives.
const BATCH: usize = 32;
/// The most calls for one socket in a round, so that none delays the others.
const MOST_CALLS: usize = 8;
/// Bytes of `struct io_uring_recvmsg_out`, in front of each datagram.
const OUT_HEADER: usize = 16;
const SECOND_US: u32 = 1_000_000;
/// How it sends: a full send buffer is an error at once.
pub(crate) const SEND_FLAGS: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// What is armed, and the results of sends.
pub(super) struct PollQueue {
    watched: Vec<Watched>,
    /// What poll(2) gets, in the same order.
    polled: Vec<pollfd>,
    batch: ReceiveBatch,
    /// The result of each send of this wave.
    sent: Vec<Completion>,
    /// Whether the next send belongs to a chain of which one has failed.
    is_chain_broken: bool,
}

struct Watched {
    user_data: u64,
    action: Action,
}

/// What to do with a descriptor that is readable.
#[derive(Clone, Copy)]
pub(super) enum Action {
    /// Receive into buffers of this pool, until that fails.
    Receive(u8, ReceiveLayout),
    /// Read an eventfd.
    Read,
    /// Nothing.
    Report,
}

impl PollQueue {
    /// With room for the results of so many sends.
    pub(super) fn new(sends: usize) -> Self {
        Self {
            watched: Vec::new(),
            polled: Vec::new(),
            batch: ReceiveBatch::new(),
            sent: Vec::with_capacity(sends),
            is_chain_broken: false,
        }
    }

    /// Arms a descriptor; the completion of its end has this value.
    pub(super) fn arm(&mut self, fd: BorrowedFd<'_>, user_data: u64, action: Action) {
        self.watched.push(Watched { user_data, action });
        self.polled.push(pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    }

    /// Disarms what was armed with this value; returns whether there was anything.
    pub(super) fn disarm(&mut self, user_data: u64) -> bool {
        let at = self.watched.iter().position(|watched| watched.user_data == user_data);
        at.inspect(|&at| self.remove(at)).is_some()
    }

    /// Sends at once, unless an earlier send of the same chain has failed.
    #[cold]
    pub(super) fn send(
        &mut self,
        fd: RawFd,
        header: *const msghdr,
        user_data: u64,
        is_linked: bool,
    ) {
        let result = if self.is_chain_broken { -libc::ECANCELED } else { send(fd, header) };
        self.is_chain_broken = is_linked && result < 0;
        self.sent.push(Completion::end(user_data, result));
    }

    /// The results of the sends of this wave, which has ended.
    pub(super) fn sent(&mut self) -> vec::Drain<'_, Completion> {
        self.is_chain_broken = false;
        self.sent.drain(..)
    }

    /// Waits until something that is armed is readable, at most for a time, and serves it.
    #[cold]
    pub(super) fn collect(
        &mut self,
        pools: &mut [Buffers],
        most_us: Option<u32>,
        done: &mut Vec<Completion>,
    ) -> io::Result<()> {
        poll(&mut self.polled, most_us)?;
        let mut at = 0;
        while let Some(pollfd { fd, revents, .. }) = self.polled.get(at).copied() {
            let Watched { user_data, action } = self.watched[at];
            let end = match action {
                _ if revents == 0 => None,
                Action::Receive(pool, layout) => {
                    let pool = &mut pools[usize::from(pool)];
                    self.batch.receive(fd, pool, layout, |id, len| {
                        done.push(Completion::received(user_data, id, len));
                    })
                }
                Action::Read => Some(read_event(fd)),
                Action::Report => Some(revents.into()),
            };
            match end {
                Some(result) => {
                    done.push(Completion::end(user_data, result));
                    self.remove(at); // another one takes its place
                }
                None => at += 1,
            }
        }
        Ok(())
    }

    fn remove(&mut self, at: usize) {
        self.watched.swap_remove(at);
        self.polled.swap_remove(at);
    }
}

/// The message headers of one batch of receives.
struct ReceiveBatch {
    headers: Box<[mmsghdr; BATCH]>,
    vectors: Box<[iovec; BATCH]>,
}

impl ReceiveBatch {
    fn new() -> Self {
        // SAFETY: `mmsghdr` is integers and pointers, for which zero is a valid value.
        let header: mmsghdr = unsafe { std::mem::zeroed() };
        let vector = iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self { headers: Box::new([header; BATCH]), vectors: Box::new([vector; BATCH]) }
    }

    /// Receives what a socket holds, a number of batches of it; calls `received` with the buffer and
    /// the length of each datagram. Returns why the reception ends, as a negated errno; `None` if it
    /// continues.
    fn receive(
        &mut self,
        fd: RawFd,
        pool: &mut Buffers,
        layout: ReceiveLayout,
        mut received: impl FnMut(u16, u32),
    ) -> Option<i32> {
        for _ in 0..MOST_CALLS {
            let asked = self.point_at_buffers(pool, layout);
            if asked == 0 {
                return Some(-libc::ENOBUFS);
            }
            let count = match receive_messages(fd, &mut self.headers[..asked]) {
                Ok(count) => count,
                Err(libc::EAGAIN | libc::EINTR) => return None,
                Err(errno) => return Some(-errno),
            };
            for header in &self.headers[..count] {
                let Some(id) = pool.take_offered(out_header(header)) else { break };
                received(id, header.msg_len.saturating_add(head_bytes(layout)));
            }
            if count < asked {
                return None;
            }
        }
        None
    }

    /// Has each header point at the areas of the next buffer on offer; returns for how many there is
    /// one.
    fn point_at_buffers(&mut self, pool: &Buffers, layout: ReceiveLayout) -> usize {
        let (name, control) = (layout.name_bytes(), layout.control_bytes());
        let places = self.headers.iter_mut().zip(self.vectors.iter_mut());
        let mut count = 0;
        for ((header, vector), base) in places.zip(pool.offered()) {
            let base = base.as_ptr();
            let head = OUT_HEADER + name + control;
            vector.iov_base = base.wrapping_add(head).cast();
            vector.iov_len = pool.buffer_bytes().saturating_sub(head);
            let header = &mut header.msg_hdr;
            header.msg_name = base.wrapping_add(OUT_HEADER).cast();
            header.msg_namelen = u32::try_from(name).unwrap_or(0);
            header.msg_control = base.wrapping_add(OUT_HEADER + name).cast();
            header.msg_controllen = control;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            count += 1;
        }
        count
    }
}

/// Bytes in front of the data.
fn head_bytes(layout: ReceiveLayout) -> u32 {
    u32::try_from(OUT_HEADER + layout.name_bytes() + layout.control_bytes()).unwrap_or(u32::MAX)
}

/// The bytes of `struct io_uring_recvmsg_out` for a message.
fn out_header(message: &mmsghdr) -> [u8; OUT_HEADER] {
    let header = &message.msg_hdr;
    let control = u32::try_from(header.msg_controllen).unwrap_or(0);
    let flags = header.msg_flags.cast_unsigned();
    let mut bytes = [0; OUT_HEADER];
    let words = [header.msg_namelen, control, message.msg_len, flags];
    for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_ne_bytes();
    }
    bytes
}

/// Receives without waiting; returns the number of messages, or the errno.
fn receive_messages(fd: RawFd, headers: &mut [mmsghdr]) -> Result<usize, c_int> {
    let count = c_uint::try_from(headers.len()).unwrap_or(0);
    // SAFETY: each header points at the areas of a buffer of its own, which nothing else uses until
    // it is taken, with their lengths.
    let result = unsafe {
        libc::recvmmsg(fd, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT, ptr::null_mut())
    };
    usize::try_from(result).map_err(|_| errno())
}

/// Sends without waiting; returns the number of bytes, or the negated errno.
fn send(fd: RawFd, header: *const msghdr) -> i32 {
    // SAFETY: the header and all that it points at belong to the messages of this wave, or to
    // buffers that are held until its end.
    let result = unsafe { libc::sendmsg(fd, header, SEND_FLAGS) };
    if result < 0 { -errno() } else { i32::try_from(result).unwrap_or(i32::MAX) }
}

/// Reads an eventfd; returns 0, or the negated errno.
fn read_event(fd: RawFd) -> i32 {
    let mut value = 0_u64;
    // SAFETY: the kernel writes 8 bytes, the size of `value`.
    let result = unsafe { libc::read(fd, (&raw mut value).cast(), size_of_val(&value)) };
    if result < 0 { -errno() } else { 0 }
}

/// Waits; an interruption by a signal is an early end of the wait.
fn poll(polled: &mut [pollfd], most_us: Option<u32>) -> io::Result<()> {
    polled.iter_mut().for_each(|each| each.revents = 0);
    let count = polled.len() as nfds_t;
    let time = most_us.map(|most_us| timespec {
        tv_sec: (most_us / SECOND_US).into(),
        tv_nsec: (most_us % SECOND_US * 1000).into(),
    });
    let most = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the slice has `count` entries, and the time lives until the call returns.
    let result = unsafe { libc::ppoll(polled.as_mut_ptr(), count, most, ptr::null()) };
    if result < 0 && errno() != libc::EINTR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
