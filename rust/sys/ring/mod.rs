//! One io_uring: multishot receives into provided buffers, waves of sends out of them. Where the
//! kernel refuses io_uring, other system calls do the same ([`polled`]).
//!
//! The ring owns all memory that the kernel may access, so no order of calls can make the kernel
//! write where it must not: buffers are handed out as [`Buffer`] tokens and can be given back only
//! between waves. This module must not depend on frames, rules or outputs.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::vec;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use libc::msghdr;

use super::buffers::{Buffer, Buffers};
use super::messages::{MessageId, Messages, Piece, empty_header};
use completion::Completion;
pub use event::RingEvent;
use event::low_half;
pub use fresh::{FreshRing, RingKind};
pub use layout::ReceiveLayout;
use polled::PollQueue;
pub(crate) use polled::SEND_FLAGS;
pub(crate) use restrictions::REGISTER_BUFFERS;
use slots::SlotReaders;
pub use stores::StoreId;

mod completion;
mod event;
mod fresh;
mod layout;
mod polled;
mod reception;
mod restrictions;
mod scratch;
mod slots;
mod stores;

/// Entries in the submission queue.
const SUBMISSIONS: u32 = 1024;
/// Entries in the completion queue: more than all buffers and one full wave together.
const COMPLETIONS: u32 = 8192;

const RECEIVE: u64 = 1 << 56;
const SEND: u64 = 2 << 56;
const WAKE: u64 = 3 << 56;
const CANCEL: u64 = 4 << 56;
const POLL: u64 = 5 << 56;
/// A cancellation whose failure is of no interest.
const QUIET_CANCEL: u64 = 6 << 56;
const KIND_MASK: u64 = 0xff << 56;

/// The number of a buffer pool in its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolId(u8);

/// What carries out the operations of a ring.
enum RingQueue {
    Uring(IoUring),
    Poll(PollQueue),
}

/// An io_uring, or what stands in for it, with its buffers.
pub struct Ring {
    queue: RingQueue,
    pools: Vec<Buffers>,
    slots: SlotReaders,
    messages: Messages,
    /// Completions of receives that arrived while a wave was awaited; without io_uring, all but
    /// those of sends.
    stash: Vec<Completion>,
    stash_read: usize,
    frame_header: Box<msghdr>,
    datagram_header: Box<msghdr>,
    wake_value: Box<u64>,
    /// The number of receives and reads that the kernel still holds.
    armed: u32,
    sends_in_flight: u32,
    /// Whether sends of this wave wait for others of it.
    has_links: bool,
}

impl Ring {
    /// Creates a ring that only the calling thread may use, restricted to the operations in this
    /// module.
    ///
    /// # Errors
    /// As [`FreshRing::new`].
    pub fn new() -> io::Result<Self> {
        Self::begin(FreshRing::new()?)
    }

    /// The same with a ring created earlier, in any thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn begin(FreshRing(uring): FreshRing) -> io::Result<Self> {
        let queue = match uring {
            Some(uring) => {
                restrictions::restrict(&uring)?;
                RingQueue::Uring(uring)
            }
            None => RingQueue::Poll(PollQueue::new(SUBMISSIONS as usize)),
        };
        Ok(Self {
            queue,
            pools: Vec::new(),
            slots: SlotReaders::new(),
            messages: Messages::new(),
            stash: Vec::with_capacity(COMPLETIONS as usize),
            stash_read: 0,
            frame_header: Box::new(receive_header(ReceiveLayout::Frame)),
            datagram_header: Box::new(receive_header(ReceiveLayout::Datagram)),
            wake_value: Box::new(0),
            armed: 0,
            sends_in_flight: 0,
            has_links: false,
        })
    }

    /// Adds a pool of buffers to the ring.
    ///
    /// # Errors
    /// The kernel's; InvalidInput for more than 126 pools.
    pub fn add_pool(&mut self, buffers: Buffers) -> io::Result<PoolId> {
        let id = slots::pool_number(self.pools.len()).ok_or(io::ErrorKind::InvalidInput)?;
        if let RingQueue::Uring(uring) = &self.queue {
            let (address, entries) = (buffers.ring_address(), buffers.ring_entries());
            let submitter = uring.submitter();
            // SAFETY: the ring's memory lives in `pools` until `drop` has closed the io_uring.
            unsafe { submitter.register_buf_ring_with_flags(address, entries, u16::from(id), 0) }?;
        }
        self.pools.push(buffers);
        Ok(PoolId(id))
    }

    /// Submits the queued entries and sleeps until there is an event.
    ///
    /// # Errors
    /// The kernel's; an interruption by a signal is not an error.
    pub fn wait(&mut self) -> io::Result<()> {
        if self.stash_read < self.stash.len() {
            return Ok(());
        }
        match &mut self.queue {
            RingQueue::Uring(uring) => uninterrupted(uring.submit_and_wait(1)),
            RingQueue::Poll(queue) => queue.collect(&mut self.pools, None, &mut self.stash),
        }
    }

    /// As [`Ring::wait`], but not longer than `most_us` microseconds.
    ///
    /// # Errors
    /// As [`Ring::wait`].
    pub fn wait_for(&mut self, most_us: u32) -> io::Result<()> {
        if self.stash_read < self.stash.len() {
            return Ok(());
        }
        let uring = match &mut self.queue {
            RingQueue::Uring(uring) => uring,
            RingQueue::Poll(queue) => {
                return queue.collect(&mut self.pools, Some(most_us), &mut self.stash);
            }
        };
        let time = types::Timespec::new().nsec(most_us.saturating_mul(1000));
        let arguments = types::SubmitArgs::new().timespec(&time);
        match uring.submitter().submit_with_args(1, &arguments) {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            result => uninterrupted(result),
        }
    }

    /// Collects completions without sleeping.
    ///
    /// # Errors
    /// The kernel's.
    pub fn poll(&mut self) -> io::Result<()> {
        /// IORING_ENTER_GETEVENTS: runs deferred work without waiting.
        const GET_EVENTS: u32 = 1;
        let uring = match &mut self.queue {
            RingQueue::Uring(uring) => uring,
            RingQueue::Poll(queue) => {
                return queue.collect(&mut self.pools, Some(0), &mut self.stash);
            }
        };
        let queued = u32::try_from(uring.submission().len()).unwrap_or(0);
        let submitter = uring.submitter();
        // SAFETY: no argument structure is passed, and every queued entry was created by `push`.
        uninterrupted(unsafe { submitter.enter::<libc::sigset_t>(queued, 0, GET_EVENTS, None) })
    }

    /// The bytes that the kernel wrote into a buffer, including the areas of its [`ReceiveLayout`].
    #[inline]
    #[must_use]
    pub fn bytes(&self, buffer: &Buffer) -> &[u8] {
        self.slots.bytes_among(&self.pools, buffer)
    }

    /// Returns a buffer; the kernel may use it after [`Ring::offer_buffers`].
    #[inline(always)]
    pub fn give_back(&mut self, buffer: Buffer) {
        assert!(self.sends_in_flight == 0, "a buffer was given back inside a wave");
        match self.pools.get_mut(usize::from(buffer.pool)) {
            Some(pool) => pool.give_back(buffer),
            None => self.slots.give_back(buffer),
        }
    }

    /// Offers all returned buffers to the kernel.
    #[inline]
    pub fn offer_buffers(&self) {
        for pool in &self.pools {
            pool.publish();
        }
    }

    /// Creates a message of one wave: `pieces` in sequence, split into datagrams of `segment` bytes
    /// (0: one datagram). Several sends may share it. Returns `None` if the wave is full.
    pub fn message<'a>(
        &mut self,
        pieces: impl ExactSizeIterator<Item = Piece<'a>>,
        segment: u16,
    ) -> Option<MessageId> {
        if !self.messages.fits(pieces.len()) {
            return None;
        }
        let first = self.messages.pieces_used();
        for piece in pieces {
            let bytes = self.bytes(piece.buffer);
            let part = bytes.get(piece.start as usize..)?.get(..piece.len as usize)?;
            let (base, len) = (part.as_ptr(), part.len());
            self.messages.piece(base, len);
        }
        self.messages.close(first, segment)
    }

    /// Queues one send of this wave on a connected socket. A full socket buffer is reported as an
    /// error at once (MSG_DONTWAIT): otherwise io_uring would wait and reorder.
    ///
    /// If `is_linked`, the next send begins when this one has succeeded, and is cancelled (ECANCELED)
    /// otherwise; both are queued after the same [`Ring::make_room`].
    ///
    /// # Errors
    /// The kernel's, when earlier entries are submitted.
    #[inline(always)]
    pub fn send(
        &mut self,
        fd: BorrowedFd<'_>,
        message: MessageId,
        token: u32,
        is_linked: bool,
    ) -> io::Result<()> {
        let header = self.messages.header(message).ok_or(io::ErrorKind::InvalidInput)?;
        self.sends_in_flight += 1;
        let uring = match &mut self.queue {
            RingQueue::Uring(uring) => uring,
            RingQueue::Poll(queue) => {
                queue.send(fd.as_raw_fd(), header, SEND | u64::from(token), is_linked);
                return Ok(());
            }
        };
        let fd = types::Fd(fd.as_raw_fd());
        let flags = libc::MSG_DONTWAIT.cast_unsigned();
        let mut entry = opcode::SendMsg::new(fd, header).flags(flags).build();
        if is_linked {
            entry = entry.flags(squeue::Flags::IO_LINK);
            self.has_links = true;
        }
        push(uring, &entry.user_data(SEND | u64::from(token)))
    }

    /// Makes room for `entries` entries, which are then submitted together: a link ends with its
    /// submission.
    ///
    /// # Errors
    /// The kernel's, when earlier entries are submitted.
    #[inline]
    pub fn make_room(&mut self, entries: usize) -> io::Result<()> {
        let RingQueue::Uring(uring) = &mut self.queue else { return Ok(()) };
        let queue = uring.submission();
        if queue.capacity() - queue.len() >= entries {
            return Ok(());
        }
        drop(queue);
        uninterrupted(uring.submit())
    }

    /// Submits the wave, waits for it, and calls `done` with the token and result of each send
    /// (bytes, or the negated errno). Afterwards the kernel no longer uses the buffers, and the
    /// messages are cleared.
    ///
    /// # Errors
    /// The kernel's, on submission.
    pub fn finish_wave(&mut self, mut done: impl FnMut(u32, i32)) -> io::Result<()> {
        // The kernel begins linked sends only while it is waited for.
        let links = std::mem::take(&mut self.has_links);
        let mut awaited = if links { self.sends_in_flight as usize } else { 0 };
        loop {
            if let RingQueue::Uring(uring) = &mut self.queue {
                uninterrupted(uring.submit_and_wait(awaited))?;
            }
            // One pass over all available completions: each pass accesses two words shared with the
            // kernel.
            for completion in self.queue.completions() {
                if completion.user_data & KIND_MASK == SEND {
                    self.sends_in_flight -= 1;
                    done(low_half(completion.user_data), completion.result);
                } else {
                    self.stash.push(completion);
                }
            }
            if self.sends_in_flight == 0 {
                break;
            }
            awaited = 1;
        }
        self.messages.clear();
        Ok(())
    }

    #[inline(always)]
    fn next_completion(&mut self) -> Option<Completion> {
        if let Some(completion) = self.stash.get(self.stash_read) {
            self.stash_read += 1;
            return Some(*completion);
        }
        if self.stash_read != 0 {
            self.stash.clear();
            self.stash_read = 0;
        }
        match &mut self.queue {
            RingQueue::Uring(uring) => uring.completion().next().map(Completion::from),
            RingQueue::Poll(_) => None,
        }
    }

    #[inline]
    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        match &mut self.queue {
            RingQueue::Uring(uring) => push(uring, entry),
            RingQueue::Poll(_) => Ok(()),
        }
    }
}

impl RingQueue {
    /// The results that have arrived.
    #[inline(always)]
    fn completions(&mut self) -> Completions<'_> {
        match self {
            Self::Uring(uring) => Completions::Uring(uring.completion()),
            Self::Poll(queue) => Completions::Poll(queue.sent()),
        }
    }
}

/// Results of either kind of ring.
enum Completions<'a> {
    Uring(cqueue::CompletionQueue<'a>),
    Poll(vec::Drain<'a, Completion>),
}

impl Iterator for Completions<'_> {
    type Item = Completion;

    #[inline(always)]
    fn next(&mut self) -> Option<Completion> {
        match self {
            Self::Uring(queue) => queue.next().map(Completion::from),
            Self::Poll(sent) => sent.next(),
        }
    }
}

impl Drop for Ring {
    /// Cancels and drains all operations, so that the kernel uses none of the memory that is freed
    /// next.
    fn drop(&mut self) {
        if matches!(self.queue, RingQueue::Poll(_)) {
            return;
        }
        let everything = types::CancelBuilder::any().all();
        let entry = opcode::AsyncCancel2::new(everything).build().user_data(QUIET_CANCEL);
        let mut attempts = 100;
        if self.push(&entry).is_err() {
            attempts = 0;
        }
        while self.armed > 0 && attempts > 0 {
            attempts -= 1;
            if self.wait().is_err() {
                break;
            }
            while self.next_event().is_some() {}
        }
    }
}

#[inline]
fn push(uring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    if try_queue(uring, entry) {
        return Ok(());
    }
    uninterrupted(uring.submit())?;
    if try_queue(uring, entry) { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

/// Queues an entry; returns false if there is no room.
#[inline]
fn try_queue(uring: &mut IoUring, entry: &squeue::Entry) -> bool {
    // SAFETY: every pointer in an entry leads to memory that the ring owns on the heap (headers,
    // messages, pools, the wake value) and frees only in `drop`, after the kernel has released it.
    unsafe { uring.submission().push(entry) }.is_ok()
}

fn receive_header(layout: ReceiveLayout) -> msghdr {
    let mut header = empty_header();
    header.msg_namelen = u32::try_from(layout.name_bytes()).unwrap_or(0);
    header.msg_controllen = layout.control_bytes();
    header
}

/// Treats an interruption as an early end of the wait; a full completion queue is emptied next.
fn uninterrupted(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

mod message_headers;
#[cfg(test)]
mod tests;
