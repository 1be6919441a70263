//! The sending side of an AF_XDP socket: frames are written into free memory, handed to the kernel
//! in order, and free again once the driver is done with them.
//!
//! The kernel takes frames only during [`XdpSender::flush`], so a frame that it has not taken can
//! still be withdrawn.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::Ordering;

use libc::{xdp_desc, xdp_mmap_offsets};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::unistd::{Whence, lseek};

use super::XdpShape;
use super::mapping::{Mapping, SharedRing};
use crate::sys::sockopt;

/// The fate of a frame that the kernel has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameFate {
    /// The driver has it.
    Sent,
    /// The driver or its interface discarded it, and reported that.
    Discarded,
}

/// A frame between [`XdpSender::push`] and the kernel.
#[derive(Clone, Copy)]
struct QueuedFrame {
    frame: u32,
    /// Whether the kernel is to send it; false once it was withdrawn.
    is_valid: bool,
    tag: u64,
}

/// The only sender of an AF_XDP socket.
pub struct XdpSender {
    umem: Mapping,
    send: SharedRing<xdp_desc>,
    completed: SharedRing<u64>,
    shape: XdpShape,
    /// The frames of the UMEM that neither the ring nor the driver has; the last is the warmest in
    /// the cache.
    free: Vec<u32>,
    /// By position in the ring.
    queued: Box<[QueuedFrame]>,
    /// The position behind the last frame, and behind the last one that the kernel has taken.
    head: u32,
    taken: u32,
    /// The last position that the kernel has published; it may be behind `taken`.
    published: u32,
    /// The position behind the last completion that was read.
    completions: u32,
    /// The number of valid frames that the kernel has not taken.
    waiting: u32,
    /// The number of frames that were queued so far.
    pushed: u32,
}

impl XdpSender {
    /// Maps a socket from [`super::open`] that was not used yet.
    ///
    /// # Errors
    /// The kernel's; InvalidData if the memory is not sealed or of another size, or if the socket
    /// was used before.
    pub fn map(socket: BorrowedFd<'_>, umem: BorrowedFd<'_>, shape: XdpShape) -> io::Result<Self> {
        let bytes = shape.umem_bytes()?;
        check_umem(umem, bytes)?;
        let offsets = offsets(socket)?;
        let completion_page = libc::off_t::try_from(libc::XDP_UMEM_PGOFF_COMPLETION_RING);
        let completion_page = completion_page.map_err(|_| io::ErrorKind::InvalidData)?;
        let (send_page, entries) = (libc::XDP_PGOFF_TX_RING, shape.frames);
        let send: SharedRing<xdp_desc> = SharedRing::map(socket, entries, send_page, offsets.tx)?;
        let completed: SharedRing<u64> =
            SharedRing::map(socket, entries, completion_page, offsets.cr)?;
        let heads = [send.producer(), send.consumer(), completed.producer()];
        if heads.iter().any(|head| head.load(Ordering::Acquire) != 0) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the socket was used before"));
        }
        let unused = QueuedFrame { frame: 0, is_valid: false, tag: 0 };
        Ok(Self {
            umem: Mapping::new(umem, bytes, 0)?,
            send,
            completed,
            shape,
            free: (0..shape.frames).rev().collect(),
            queued: vec![unused; shape.frames as usize].into(),
            head: 0,
            taken: 0,
            published: 0,
            completions: 0,
            waiting: 0,
            pushed: 0,
        })
    }

    /// Queues a frame that `write` writes to the start of the memory that it gets; it returns the
    /// frame's length, or `None` to queue nothing. `tag` identifies the frame when the kernel takes
    /// it. Returns whether the frame was queued: not if there is no room or nothing was written.
    #[inline(always)]
    pub fn push(&mut self, tag: u64, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        if self.free.is_empty() {
            self.collect();
        }
        let Some(&frame) = self.free.last().filter(|_| self.has_entry()) else { return false };
        let Some(len) = write(self.memory(frame)) else { return false };
        let len = u32::try_from(len).unwrap_or(u32::MAX).min(self.shape.frame_bytes);
        let addr = u64::from(frame) * u64::from(self.shape.frame_bytes);
        self.free.pop();
        self.send.write(self.head, xdp_desc { addr, len, options: 0 });
        *self.queued_at(self.head) = QueuedFrame { frame, is_valid: true, tag };
        self.head = self.head.wrapping_add(1);
        self.waiting += 1;
        self.pushed = self.pushed.wrapping_add(1);
        true
    }

    /// Hands queued frames to the kernel until it has all of them or takes no more, and calls
    /// `done` with the tag and fate of each that it has taken.
    ///
    /// # Errors
    /// WouldBlock if the driver or the send buffer is full: frames wait for the next call. Otherwise
    /// the kernel's: ENETDOWN while the interface is down, ENXIO once it was removed.
    pub fn flush(
        &mut self,
        socket: BorrowedFd<'_>,
        mut done: impl FnMut(u64, FrameFate),
    ) -> io::Result<()> {
        self.send.producer().store(self.head, Ordering::Release);
        while self.taken != self.head {
            // The kernel takes no more than the completion ring has room for.
            self.collect();
            let result = send(socket);
            let before = self.taken;
            let errno = result.as_ref().err().and_then(io::Error::raw_os_error).unwrap_or(0);
            self.settle(errno, &mut done);
            match errno {
                _ if self.taken != before => {}
                0 | libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                _ => return result,
            }
        }
        Ok(())
    }

    /// Withdraws all frames that the kernel has not taken, and calls `withdrawn` with each tag.
    pub fn withdraw(&mut self, mut withdrawn: impl FnMut(u64)) {
        let mut position = self.taken;
        while position != self.head {
            let QueuedFrame { frame, is_valid, tag } = *self.queued_at(position);
            if is_valid {
                // No frame has this address: the kernel skips the entry.
                let addr = u64::from(self.shape.frames) * u64::from(self.shape.frame_bytes);
                self.send.write(position, xdp_desc { addr, len: 0, options: 0 });
                self.queued_at(position).is_valid = false;
                self.free.push(frame);
                withdrawn(tag);
            }
            position = position.wrapping_add(1);
        }
        self.waiting = 0;
    }

    /// The number of frames that wait for the kernel.
    #[inline]
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Whether there is something for [`XdpSender::flush`] to hand over, if only entries of frames
    /// that were withdrawn.
    #[inline]
    #[must_use]
    pub fn has_entries(&self) -> bool {
        self.taken != self.head
    }

    /// The position behind the last frame, for [`XdpSender::has_passed`].
    #[must_use]
    pub fn position(&self) -> u32 {
        self.pushed
    }

    /// Whether the driver is done with every frame before a position. It is done with them in their
    /// order.
    #[must_use]
    pub fn has_passed(&mut self, position: u32) -> bool {
        self.collect();
        let free = u32::try_from(self.free.len()).unwrap_or(0);
        let done = self.pushed.wrapping_sub(self.shape.frames.saturating_sub(free));
        done.wrapping_sub(position) < 1 << 31
    }

    /// Frees the frames that the driver is done with.
    fn collect(&mut self) {
        let end = self.completed.producer().load(Ordering::Acquire);
        // Never more than there are entries, whatever the word says.
        let new = end.wrapping_sub(self.completions).min(self.shape.frames);
        for _ in 0..new {
            let frame = self.completed.read(self.completions) / u64::from(self.shape.frame_bytes);
            // Some kernels also report the entries that they skip.
            let known = u32::try_from(frame).ok().filter(|frame| *frame < self.shape.frames);
            if let Some(frame) = known.filter(|_| self.free.len() < self.shape.frames as usize) {
                self.free.push(frame);
            }
            self.completions = self.completions.wrapping_add(1);
        }
        self.completed.consumer().store(self.completions, Ordering::Release);
    }

    /// Determines what the kernel has taken in a call that ended with `errno`.
    ///
    /// It publishes its position only together with a frame that was sent. A call that ends with
    /// EBUSY has taken one more, which the interface discarded.
    fn settle(&mut self, errno: i32, done: &mut impl FnMut(u64, FrameFate)) {
        let published = self.send.consumer().load(Ordering::Acquire);
        if self.head.wrapping_sub(published) <= self.shape.frames {
            self.published = published;
        }
        let queued = self.head.wrapping_sub(self.taken);
        let mut count = published.wrapping_sub(self.taken);
        if count > queued {
            count = 0;
        }
        let has_discarded = errno == libc::EBUSY;
        // A call that takes an entry without a valid frame takes no other.
        let has_skipped = errno == 0 && count == 0 && !self.queued_at(self.taken).is_valid;
        if (has_discarded || has_skipped) && count == 0 {
            count = queued.min(1);
        }
        for number in 1..=count {
            let QueuedFrame { is_valid, tag, .. } = *self.queued_at(self.taken);
            self.taken = self.taken.wrapping_add(1);
            if is_valid {
                self.waiting -= 1;
                let is_last = number == count;
                done(
                    tag,
                    if has_discarded && is_last { FrameFate::Discarded } else { FrameFate::Sent },
                );
            }
        }
    }

    /// Whether the ring has room for one more.
    #[inline]
    fn has_entry(&self) -> bool {
        self.head.wrapping_sub(self.published) < self.shape.frames
    }

    #[inline]
    fn queued_at(&mut self, position: u32) -> &mut QueuedFrame {
        &mut self.queued[(position & (self.shape.frames - 1)) as usize]
    }

    /// The memory of a frame.
    #[inline]
    fn memory(&mut self, frame: u32) -> &mut [u8] {
        let frame = if frame < self.shape.frames { frame } else { 0 };
        let bytes = self.shape.frame_bytes as usize;
        // SAFETY: the frame's number is below their count, so the offset is inside the mapping.
        let start = unsafe { self.umem.base().add(frame as usize * bytes) };
        // SAFETY: the frame is inside the mapping and borrowed from `self`. The kernel only reads
        // frames, and only those that were handed to it and are not free.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), bytes) }
    }
}

/// Checks that accesses to the memory cannot fault.
fn check_umem(umem: BorrowedFd<'_>, bytes: NonZeroUsize) -> io::Result<()> {
    let seals = SealFlag::from_bits_truncate(fcntl(umem, FcntlArg::F_GET_SEALS)?);
    // Not fstat(2), which the C library makes a call with a path: a worker has none of these.
    let size = lseek(umem, 0, Whence::SeekEnd)?;
    let is_whole = usize::try_from(size).is_ok_and(|size| size >= bytes.get());
    if !seals.contains(SealFlag::F_SEAL_SHRINK) || !is_whole {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the frames are not sealed"));
    }
    Ok(())
}

/// The offsets in the mappings of a socket's rings.
fn offsets(socket: BorrowedFd<'_>) -> io::Result<xdp_mmap_offsets> {
    let none = libc::xdp_ring_offset { producer: 0, consumer: 0, desc: 0, flags: 0 };
    let mut offsets = xdp_mmap_offsets { rx: none, tx: none, fr: none, cr: none };
    sockopt::get(socket, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, &mut offsets)?;
    Ok(offsets)
}

/// Makes the kernel take frames from the ring.
fn send(socket: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: the call passes neither data nor an address.
    let rc = unsafe { libc::sendto(socket.as_raw_fd(), ptr::null(), 0, flags, ptr::null(), 0) };
    if rc >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
