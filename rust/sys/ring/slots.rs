//! The packet rings that are read alongside an io_uring; its sends use their slots like buffers.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use io_uring::{opcode, types};
use nix::sys::socket::{MsgFlags, recv};

use super::polled::Action;
use super::scratch::{SCRATCH_POOL, ScratchBuffers};
use super::stores::{STORE_POOL, Stores};
use super::{POLL, PoolId, QUIET_CANCEL, Ring};
use crate::sys::buffers::{Buffer, Buffers};
use crate::sys::packet_ring::{PacketRing, SlotReader, TakenSlot};

/// Pool numbers from [`STORE_POOL`] on are not provided buffers: this one is for frames too long for
/// their slots, later ones are packet rings.
const LONG_FRAMES: u8 = SCRATCH_POOL + 1;
/// The size of a buffer for a long frame: 64 KiB and all headers.
const LONG_FRAME_BYTES: usize = 17 * 4096;
/// How many long frames may be held at once; while all are, their ring waits. Few are needed:
/// frames are this long only if the network fragments, or if GRO was switched on meanwhile.
const LONG_FRAME_COUNT: u16 = 8;
/// The length of the `virtio_net_hdr` in front of a frame.
const VNET_HEADER: usize = 10;

/// The next number of a pool of provided buffers, if one is left.
pub(super) fn pool_number(pools: usize) -> Option<u8> {
    u8::try_from(pools).ok().filter(|&number| number < STORE_POOL)
}

/// Whether a poll's result (events, or the negated errno) means an error.
pub(super) fn poll_failed(result: i32) -> bool {
    result < 0 || result & i32::from(libc::POLLERR) != 0
}

/// The readers of packet rings, the frames too long for their slots, the scratch buffers and the
/// stores: all buffers that are not provided buffers.
pub(super) struct SlotReaders {
    readers: Vec<Option<SlotReader>>,
    long: Vec<Box<[u8]>>,
    free: Vec<u16>,
    pub(super) scratch: ScratchBuffers,
    pub(super) stores: Stores,
}

impl SlotReaders {
    pub(super) fn new() -> Self {
        let (readers, long, free) = (Vec::new(), Vec::new(), Vec::new());
        let (scratch, stores) = (ScratchBuffers::new(), Stores::default());
        Self { readers, long, free, scratch, stores }
    }

    /// The bytes of a buffer, from one of `pools` or a slot.
    #[inline]
    pub(super) fn bytes_among<'a>(&'a self, pools: &'a [Buffers], buffer: &Buffer) -> &'a [u8] {
        match pools.get(usize::from(buffer.pool)) {
            Some(pool) => pool.bytes(buffer),
            None => self.bytes(buffer),
        }
    }

    #[inline]
    fn bytes(&self, buffer: &Buffer) -> &[u8] {
        match self.reader(buffer.pool) {
            Some(reader) => reader.bytes(buffer.id, buffer.len),
            None if buffer.pool == SCRATCH_POOL => self.scratch.bytes(buffer),
            None if buffer.pool == STORE_POOL => self.stores.bytes(buffer),
            None => self.long_bytes(buffer),
        }
    }

    #[inline(never)]
    pub(super) fn give_back(&mut self, buffer: Buffer) {
        let place = usize::from(buffer.pool).checked_sub(usize::from(LONG_FRAMES) + 1);
        match place.and_then(|place| self.readers.get_mut(place)) {
            Some(Some(reader)) => reader.give_back(buffer.id),
            // Its ring was removed.
            Some(None) => {}
            None if buffer.pool == SCRATCH_POOL => self.scratch.give_back(buffer.id),
            None => self.free.push(buffer.id),
        }
    }

    #[inline]
    fn reader(&self, pool: u8) -> Option<&SlotReader> {
        let place = usize::from(pool).checked_sub(usize::from(LONG_FRAMES) + 1)?;
        self.readers.get(place)?.as_ref()
    }

    #[cold]
    fn long_bytes(&self, buffer: &Buffer) -> &[u8] {
        let bytes = self.long.get(usize::from(buffer.id)).filter(|_| buffer.pool == LONG_FRAMES);
        bytes.and_then(|bytes| bytes.get(..buffer.len as usize)).unwrap_or_default()
    }

    /// Fetches the frame of a slot from its socket's queue, and stores it as in a slot that is long
    /// enough.
    #[cold]
    fn fetch(&mut self, place: usize, slot: TakenSlot, fd: BorrowedFd<'_>) -> Option<Buffer> {
        let reader = self.readers.get_mut(place)?.as_mut()?;
        let id = self.free.pop()?;
        let bytes = &mut self.long[usize::from(id)];
        let data = (slot.frame as usize).saturating_sub(VNET_HEADER);
        bytes[..data].copy_from_slice(&reader.bytes(slot.id, slot.frame)[..data]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let room = &mut bytes[data..];
        // A pending socket error is returned first, once; the frame follows it.
        let received =
            recv(fd.as_raw_fd(), room, flags).or_else(|_| recv(fd.as_raw_fd(), room, flags));
        // Not earlier: while the slot is held, a successor knows that the frame may have been
        // fetched.
        reader.give_back(slot.id);
        let received = received.unwrap_or(0).saturating_sub(VNET_HEADER);
        let len = u32::try_from(received).ok()?;
        bytes[8..12].copy_from_slice(&len.to_ne_bytes());
        Some(Buffer { pool: LONG_FRAMES, id, len: slot.frame + len })
    }
}

impl Ring {
    /// Starts reading a packet ring.
    ///
    /// # Errors
    /// ResourceBusy if the ring has another reader; InvalidInput for more than 127 rings.
    pub fn add_slots(&mut self, packets: &Arc<PacketRing>) -> io::Result<PoolId> {
        let slots = &mut self.slots;
        let reader = SlotReader::new(packets).ok_or(io::ErrorKind::ResourceBusy)?;
        if slots.long.is_empty() {
            slots.long = (0..LONG_FRAME_COUNT).map(|_| vec![0; LONG_FRAME_BYTES].into()).collect();
            slots.free = (0..LONG_FRAME_COUNT).collect();
        }
        let place = slots.readers.iter().position(Option::is_none);
        let place = place.unwrap_or(slots.readers.len());
        let number = u8::try_from(place + 1).ok().and_then(|place| place.checked_add(LONG_FRAMES));
        let number = number.ok_or(io::ErrorKind::InvalidInput)?;
        if place == slots.readers.len() {
            slots.readers.push(None);
        }
        slots.readers[place] = Some(reader);
        Ok(PoolId(number))
    }

    /// Stops reading a packet ring. The frames in taken slots are lost.
    pub fn remove_slots(&mut self, pool: PoolId) {
        assert!(self.sends_in_flight == 0, "a packet ring was given up inside a wave");
        let place = usize::from(pool.0).checked_sub(usize::from(LONG_FRAMES) + 1);
        if let Some(reader) = place.and_then(|place| self.slots.readers.get_mut(place)) {
            *reader = None;
        }
    }

    /// Whether a frame waits in a packet ring.
    #[inline]
    #[must_use]
    pub fn has_frame(&self, pool: PoolId) -> bool {
        self.slots.reader(pool.0).is_some_and(SlotReader::has_frame)
    }

    /// Takes the next frame of the packet ring of the socket `fd`: `tpacket2_hdr`, then the frame
    /// at `tp_mac` with its virtio header before it. `None` if there is none, or if it is too long
    /// for its slot and there is no room for it until others are given back.
    #[inline]
    pub fn take_slot(&mut self, pool: PoolId, fd: BorrowedFd<'_>) -> Option<Buffer> {
        let place = usize::from(pool.0).checked_sub(usize::from(LONG_FRAMES) + 1)?;
        if self.slots.free.is_empty() {
            return None;
        }
        let slot = self.slots.readers.get_mut(place)?.as_mut()?.take()?;
        if slot.is_queued {
            return self.slots.fetch(place, slot, fd);
        }
        Some(Buffer { pool: pool.0, id: slot.id, len: slot.len })
    }

    /// Reports [`RingEvent::Readable`](super::RingEvent::Readable) once the packet ring of `fd` has a
    /// frame, at once if it has one already.
    ///
    /// # Errors
    /// The kernel's, when earlier entries are submitted.
    pub fn watch_slots(&mut self, fd: BorrowedFd<'_>, token: u32) -> io::Result<()> {
        let user_data = POLL | u64::from(token);
        if self.armed_by_poll(fd, user_data, Action::Report) {
            return Ok(());
        }
        let events = u32::from(libc::POLLIN.cast_unsigned());
        let entry = opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), events).build();
        self.armed += 1;
        self.push(&entry.user_data(user_data))
    }

    /// Ends [`Ring::watch_slots`], which then reports [`RingEvent::Readable`](super::RingEvent::Readable).
    ///
    /// # Errors
    /// The kernel's, when earlier entries are submitted.
    pub fn unwatch_slots(&mut self, token: u32) -> io::Result<()> {
        let target = POLL | u64::from(token);
        if self.disarmed_by_poll(target, QUIET_CANCEL) {
            return Ok(());
        }
        self.push(&opcode::AsyncCancel::new(target).build().user_data(QUIET_CANCEL))
    }
}
