//! The receive ring of an AF_PACKET socket (TPACKET_V2): frames lie in slots shared with the
//! kernel, so taking one costs no system call.
//!
//! A slot belongs to the kernel while its status word is zero. Once the kernel has put a frame in,
//! one `SlotReader` takes it, and nothing writes to it until it is given back. The socket cannot
//! send ([`tx_disable()`]).

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};

use libc::{TP_STATUS_COPY, TP_STATUS_KERNEL, TP_STATUS_USER, tpacket_req};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::socket::{MsgFlags, recv};

use super::sockopt;
pub use tx_disable::tx_disable;

pub(crate) mod tx_disable;

/// The kernel's allocation unit; slots do not cross its boundaries.
pub(crate) const BLOCK_BYTES: u32 = 64 * 1024;
/// The mark in the status word of a taken slot: not zero, so that the kernel does not use the slot,
/// and not TP_STATUS_USER, so that it is not taken twice.
const HELD: u32 = 1 << 30;

/// The shape of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingShape {
    /// Bytes of one slot including headers: a power of two, 256 bytes to 64 KiB.
    pub slot_bytes: u32,
    /// The number of slots: they fill whole blocks of 64 KiB; at most 32 768.
    pub slots: u16,
}

/// Slots that the kernel fills in ring order. They belong to the socket that they were created for.
#[derive(Debug)]
pub struct PacketRing {
    base: NonNull<u8>,
    shape: RingShape,
    has_reader: AtomicBool,
    /// The position of the next slot to read.
    next: AtomicU16,
    /// Whether that position is unknown: the kernel continues where it was when the previous
    /// process died.
    position_is_unknown: AtomicBool,
    kept: AtomicU64,
    lost: AtomicU64,
    /// The values of `kept` and `lost` at the last call of [`PacketRing::is_stuck`].
    seen: [AtomicU64; 2],
}

impl PacketRing {
    /// Creates the ring of an AF_PACKET socket on which [`tx_disable()`] was called; it can then be
    /// mapped.
    ///
    /// # Errors
    /// The kernel's: no memory, a socket of another kind, or one that already has a ring;
    /// InvalidInput for a shape that does not fill whole blocks.
    pub fn reserve(fd: BorrowedFd<'_>, shape: RingShape) -> io::Result<()> {
        let bytes = shape.bytes().ok_or(io::ErrorKind::InvalidInput)?;
        let len = u32::try_from(bytes.get()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let request = tpacket_req {
            tp_block_size: BLOCK_BYTES,
            tp_block_nr: len / BLOCK_BYTES,
            tp_frame_size: shape.slot_bytes,
            tp_frame_nr: shape.slots.into(),
        };
        sockopt::set(fd, libc::SOL_PACKET, libc::PACKET_RX_RING, request)
    }

    /// Maps a ring that has had no reader yet.
    ///
    /// # Errors
    /// The kernel's: no memory, or a ring of another size; or a socket that can send.
    pub fn map(fd: BorrowedFd<'_>, shape: RingShape) -> io::Result<Self> {
        let bytes = shape.bytes().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            base: map(fd, bytes)?,
            shape,
            has_reader: AtomicBool::new(false),
            next: AtomicU16::new(0),
            position_is_unknown: AtomicBool::new(false),
            kept: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            seen: [AtomicU64::new(0), AtomicU64::new(0)],
        })
    }

    /// Maps a ring whose reader, in another process, is dead. Slots that the reader had taken are
    /// returned to the kernel; the second value is the number of frames lost by that. Waiting
    /// frames are read first.
    ///
    /// # Errors
    /// As [`PacketRing::map`].
    pub fn take_over(fd: BorrowedFd<'_>, shape: RingShape) -> io::Result<(Self, u64)> {
        let ring = Self::map(fd, shape)?;
        let held = ring.give_back_all(HELD);
        let mut lost = held.len() as u64;
        if held.iter().any(|status| status & TP_STATUS_COPY != 0) {
            // It is unknown whether the frame was already fetched from the queue. All frames of
            // this kind are given up, so that later ones are not fetched in place of each other
            // forever.
            lost += ring.give_back_all(TP_STATUS_COPY).len() as u64;
            empty_queue(fd, shape.slots);
        }
        match ring.oldest() {
            Some(id) => ring.next.store(id, Ordering::Relaxed),
            None => ring.position_is_unknown.store(true, Ordering::Relaxed),
        }
        Ok((ring, lost))
    }

    /// The number of slots.
    #[must_use]
    pub fn slots(&self) -> u16 {
        self.shape.slots
    }

    /// Marks a slot as taken, like a reader that dies immediately afterwards.
    #[cfg(test)]
    pub(crate) fn hold(&self, id: u16) {
        let word = self.status(id);
        word.store(word.load(Ordering::Acquire) & !TP_STATUS_USER | HELD, Ordering::Relaxed);
    }

    /// The number of slots with a frame that was not taken.
    #[cfg(test)]
    pub(crate) fn filled(&self) -> usize {
        let is_filled = |id: &u16| self.status(*id).load(Ordering::Acquire) & TP_STATUS_USER != 0;
        (0..self.shape.slots).filter(is_filled).count()
    }

    /// The number of frames that found no slot or were lost otherwise since the ring was created;
    /// `fd` is the ring's socket. The kernel's own count restarts at each reading.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lost(&self, fd: BorrowedFd<'_>) -> io::Result<u64> {
        // `struct tpacket_stats`: all frames including the lost ones, then the lost ones.
        let mut counts = [0_u32; 2];
        sockopt::get(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, &mut counts)?;
        let [all, lost] = counts.map(u64::from);
        self.kept.fetch_add(all.saturating_sub(lost), Ordering::Relaxed);
        Ok(self.lost.fetch_add(lost, Ordering::Relaxed) + lost)
    }

    /// Whether the kernel has stopped storing frames: since the last call it has lost some and
    /// stored none, although every slot is its own. A frame that no `virtio_net_hdr` can describe
    /// causes this: its slot stays reserved forever (net/packet/af_packet.c, `tpacket_rcv`).
    pub fn is_stuck(&self, fd: BorrowedFd<'_>) -> bool {
        let Ok(lost) = self.lost(fd) else { return false };
        let now = [self.kept.load(Ordering::Relaxed), lost];
        let was = [0, 1].map(|at| self.seen[at].swap(now[at], Ordering::Relaxed));
        let is_empty = |id| self.status(id).load(Ordering::Relaxed) == TP_STATUS_KERNEL;
        now[0] == was[0] && now[1] > was[1] && (0..self.shape.slots).all(is_empty)
    }

    /// Returns all slots whose status has one of these bits to the kernel; returns their previous
    /// statuses.
    fn give_back_all(&self, bits: u32) -> Vec<u32> {
        let words = (0..self.shape.slots).map(|id| self.status(id));
        let marked = words.filter_map(|word| {
            let status = word.load(Ordering::Acquire);
            (status & bits != 0).then(|| {
                word.store(TP_STATUS_KERNEL, Ordering::Release);
                status
            })
        });
        marked.collect()
    }

    /// The slot filled first; `None` while all are empty.
    #[cold]
    fn oldest(&self) -> Option<u16> {
        let last = self.shape.slots - 1;
        let is_filled = |id: u16| self.status(id).load(Ordering::Acquire) & TP_STATUS_USER != 0;
        // Filled slots are contiguous, except for one that the kernel may just be filling.
        let begins = |id: &u16| is_filled(*id) && !is_filled(id.checked_sub(1).unwrap_or(last));
        let starts: Vec<u16> = (0..=last).filter(begins).collect();
        match *starts {
            [start] => Some(start),
            [] => (0..=last).filter(|id| is_filled(*id)).min_by_key(|id| self.stamp(*id)),
            _ => starts.into_iter().min_by_key(|id| self.stamp(*id)),
        }
    }

    /// The timestamp of the frame in a filled slot, in seconds and nanoseconds.
    fn stamp(&self, id: u16) -> (u32, u32) {
        let header = self.slot(id).cast::<libc::tpacket2_hdr>();
        // SAFETY: every slot begins with this header, which consists of numbers and is aligned; the
        // kernel does not write to a filled slot.
        let header = unsafe { header.read_volatile() };
        (header.tp_sec, header.tp_nsec)
    }

    #[inline]
    fn slot(&self, id: u16) -> NonNull<u8> {
        let id = if id < self.shape.slots { id } else { 0 };
        // SAFETY: `id` is below the number of slots, so the offset is inside the mapping.
        unsafe { self.base.add(usize::from(id) * self.shape.slot_bytes as usize) }
    }

    #[inline]
    fn status(&self, id: u16) -> &AtomicU32 {
        // SAFETY: every slot begins with its status word (linux/if_packet.h, tpacket2_hdr), which
        // is aligned, lives as long as the mapping, and is shared with the kernel as an atomic.
        unsafe { AtomicU32::from_ptr(self.slot(id).cast().as_ptr()) }
    }
}

/// Maps a ring of `bytes`. The kernel maps it only together with the transmit ring behind it; that
/// part is unmapped again.
fn map(fd: BorrowedFd<'_>, bytes: NonZeroUsize) -> io::Result<NonNull<u8>> {
    let behind = tx_disable::bytes()?;
    let all = bytes.checked_add(behind).ok_or(io::ErrorKind::InvalidInput)?;
    let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing. The kernel
    // maps rings only in their exact size, and does not change mapped ones.
    let base: NonNull<u8> = unsafe { mmap(None, all, prot, MapFlags::MAP_SHARED, fd, 0) }?.cast();
    // SAFETY: `bytes` is less than the mapped length.
    let end = unsafe { base.add(bytes.get()) };
    // SAFETY: the last part of the mapping above, which nothing refers to.
    unsafe { munmap(end.cast(), behind) }?;
    Ok(base)
}

impl Drop for PacketRing {
    fn drop(&mut self) {
        let bytes = self.shape.bytes().map_or(0, NonZeroUsize::get);
        // SAFETY: the range is exactly the mapping that `map` created, and its owner is being
        // dropped.
        let unmapped = unsafe { munmap(self.base.cast(), bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: the value owns the mapping, whatever thread holds it.
unsafe impl Send for PacketRing {}
// SAFETY: through a shared reference only status words are accessed, as atomics; the rest of a slot
// is read only by the one reader, between taking it and giving it back.
unsafe impl Sync for PacketRing {}

impl RingShape {
    fn bytes(self) -> Option<NonZeroUsize> {
        let bytes = usize::from(self.slots) * self.slot_bytes as usize;
        let is_whole = self.slot_bytes.is_power_of_two()
            && (256..=BLOCK_BYTES).contains(&self.slot_bytes)
            && self.slots <= 1 << 15
            && bytes.is_multiple_of(BLOCK_BYTES as usize);
        NonZeroUsize::new(bytes).filter(|_| is_whole)
    }
}

/// Discards the frames in the socket's queue, outside the slots.
fn empty_queue(fd: BorrowedFd<'_>, at_most: u16) {
    for _ in 0..at_most {
        // A pending socket error is returned in between, once.
        if recv(fd.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT) == Err(Errno::EAGAIN) {
            return;
        }
    }
}

/// A taken slot with a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenSlot {
    pub(super) id: u16,
    /// Bytes from the start of the slot to the end of the frame.
    pub(super) len: u32,
    /// Bytes from the start of the slot to the frame.
    pub(super) frame: u32,
    /// Whether the frame was too long for the slot and waits whole in the socket's queue.
    pub(super) is_queued: bool,
}

/// The reader of a ring, which takes frames in order.
pub(super) struct SlotReader {
    ring: Arc<PacketRing>,
    next: u16,
    /// Whether `next` must still be determined.
    position_is_unknown: bool,
}

impl SlotReader {
    /// Returns `None` while the ring has another reader.
    pub(super) fn new(ring: &Arc<PacketRing>) -> Option<Self> {
        if ring.has_reader.swap(true, Ordering::Acquire) {
            return None;
        }
        let next = ring.next.load(Ordering::Relaxed);
        let position_is_unknown = ring.position_is_unknown.load(Ordering::Relaxed);
        Some(Self { ring: ring.clone(), next, position_is_unknown })
    }

    /// Whether the next slot holds a frame.
    #[inline]
    pub(super) fn has_frame(&self) -> bool {
        if self.position_is_unknown {
            return self.ring.oldest().is_some();
        }
        self.ring.status(self.next).load(Ordering::Acquire) & TP_STATUS_USER != 0
    }

    /// Takes the next slot, if it holds a frame; the reader owns it until it is given back.
    #[inline]
    pub(super) fn take(&mut self) -> Option<TakenSlot> {
        if self.position_is_unknown {
            self.next = self.ring.oldest()?;
            self.position_is_unknown = false;
        }
        let id = self.next;
        let word = self.ring.status(id);
        let status = word.load(Ordering::Acquire);
        if status & TP_STATUS_USER == 0 {
            return None;
        }
        // The frame's reader needs the other bits unchanged.
        word.store(status & !TP_STATUS_USER | HELD, Ordering::Relaxed);
        self.next = if id + 1 == self.ring.shape.slots { 0 } else { id + 1 };
        let header = self.bytes(id, self.ring.shape.slot_bytes);
        let frame = u32::from(u16::from_ne_bytes([header[12], header[13]]));
        let held = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        let len = frame.saturating_add(held).min(self.ring.shape.slot_bytes);
        Some(TakenSlot { id, len, frame, is_queued: status & TP_STATUS_COPY != 0 })
    }

    /// The first bytes of a taken slot.
    #[inline]
    pub(super) fn bytes(&self, id: u16, len: u32) -> &[u8] {
        let len = len.min(self.ring.shape.slot_bytes) as usize;
        // SAFETY: `slot` and `len` keep the range inside the mapping, and the kernel does not
        // write to a slot whose status is not zero.
        unsafe { std::slice::from_raw_parts(self.ring.slot(id).as_ptr(), len) }
    }

    /// Returns a slot to the kernel.
    #[inline]
    pub(super) fn give_back(&mut self, id: u16) {
        self.ring.status(id).store(TP_STATUS_KERNEL, Ordering::Release);
    }
}

impl Drop for SlotReader {
    fn drop(&mut self) {
        self.ring.next.store(self.next, Ordering::Relaxed);
        self.ring.position_is_unknown.store(self.position_is_unknown, Ordering::Relaxed);
        self.ring.has_reader.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_shape_without_whole_blocks_is_refused_before_the_kernel_sees_it() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (slot_bytes, slots) in [(2048, 0), (2048, 33), (2000, 32), (1 << 17, 32), (0, 32)] {
            let refused = PacketRing::reserve(socket.as_fd(), RingShape { slot_bytes, slots });
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn only_a_packet_socket_has_a_ring() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let refused =
            PacketRing::reserve(socket.as_fd(), RingShape { slot_bytes: 2048, slots: 32 });
        assert!(refused.unwrap_err().raw_os_error().is_some());
    }
}
