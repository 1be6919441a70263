//! Provided buffers: memory from which the kernel picks when a frame arrives.
//!
//! A buffer belongs to the kernel from when it is offered until a completion names it. From then on
//! a [`Buffer`] token represents it; giving the token back offers the buffer again.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::memory::Anonymous;

/// A buffer that the kernel has filled and that this process owns until it is given back.
#[derive(Debug)]
pub struct Buffer {
    pub(super) pool: u8,
    pub(super) id: u16,
    pub(super) len: u32,
}

impl Buffer {
    /// Another token for the same bytes, which is never given back.
    #[must_use]
    pub fn view(&self) -> Self {
        Self { ..*self }
    }
}

/// Buffers of equal size, and the ring through which the kernel takes them.
pub struct Buffers {
    memory: Anonymous,
    ring: Anonymous,
    buffer_bytes: u32,
    count: u16,
    ring_mask: u16,
    tail: u16,
    /// The next buffer to be filled; io_uring has a count of its own.
    head: u16,
}

impl Buffers {
    /// Creates `count` buffers of `buffer_bytes` each, all of them on offer.
    ///
    /// # Errors
    /// No memory; InvalidInput for sizes that form no ring (1 to 32768 buffers).
    pub fn new(buffer_bytes: u32, count: u16) -> io::Result<Self> {
        let entries = count.checked_next_power_of_two().filter(|n| (1..=1 << 15).contains(n));
        let entries = entries.ok_or(io::ErrorKind::InvalidInput)?;
        let mut buffers = Self {
            memory: Anonymous::new(buffer_bytes as usize * usize::from(count))?,
            ring: Anonymous::new(size_of::<BufRingEntry>() * usize::from(entries))?,
            buffer_bytes,
            count,
            ring_mask: entries - 1,
            tail: 0,
            head: 0,
        };
        for id in 0..count {
            buffers.offer(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The number of buffers.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Takes the buffer `id`, in which the kernel has filled `len` bytes.
    #[inline]
    pub(super) fn take(&self, pool: u8, id: u16, len: u32) -> Buffer {
        Buffer { pool, id, len: len.min(self.buffer_bytes) }
    }

    /// The bytes that the kernel wrote.
    #[inline]
    #[must_use]
    pub(super) fn bytes(&self, buffer: &Buffer) -> &[u8] {
        let start = self.address(buffer.id);
        // The token may belong to another ring, whose buffers are longer.
        let len = buffer.len.min(self.buffer_bytes) as usize;
        // SAFETY: `address` and `len` keep the range inside the mapping, and the kernel does not
        // write to a buffer between naming it in a completion and being offered it again.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }

    /// Returns a buffer, which is offered with the next [`Buffers::publish`].
    #[inline]
    pub(super) fn give_back(&mut self, buffer: Buffer) {
        self.offer(buffer.id);
    }

    /// Offers all buffers returned since the last call to the kernel.
    #[inline]
    pub(super) fn publish(&self) {
        // SAFETY: the ring's memory is page-aligned and at least one entry long.
        let tail = unsafe { BufRingEntry::tail(self.ring.base().as_ptr().cast()) };
        // SAFETY: the tail lies inside the ring's mapping, is aligned, and is shared with the
        // kernel as an atomic.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The size of a buffer.
    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes as usize
    }

    /// The starts of the buffers on offer, in the order in which they are to be filled; for a
    /// receiver other than io_uring.
    pub(super) fn offered(&self) -> impl Iterator<Item = NonNull<u8>> {
        (0..self.tail.wrapping_sub(self.head)).map(|place| self.address(self.offered_id(place)))
    }

    /// Takes the first buffer on offer, and writes `head` to its start; returns its number.
    pub(super) fn take_offered<const N: usize>(&mut self, head: [u8; N]) -> Option<u16> {
        if self.head == self.tail || N > self.buffer_bytes() {
            return None;
        }
        let id = self.offered_id(0);
        self.head = self.head.wrapping_add(1);
        // SAFETY: the buffer is at least `N` bytes long, and on offer: nobody else uses it.
        unsafe { self.address(id).cast::<[u8; N]>().write(head) };
        Some(id)
    }

    /// The number of the buffer at a place behind the next one.
    fn offered_id(&self, place: u16) -> u16 {
        let slot = usize::from(self.head.wrapping_add(place) & self.ring_mask);
        let first: NonNull<BufRingEntry> = self.ring.base().cast();
        // SAFETY: `slot` is masked to the ring's entries.
        let entry = unsafe { first.add(slot) };
        // SAFETY: the entry lies inside the ring's mapping, and `offer` has written it.
        unsafe { entry.as_ref() }.bid()
    }

    pub(super) fn ring_address(&self) -> u64 {
        self.ring.base().as_ptr() as u64
    }

    pub(super) fn ring_entries(&self) -> u16 {
        self.ring_mask + 1
    }

    /// The start of the buffer `id`; an invalid id yields the first buffer.
    #[inline]
    fn address(&self, id: u16) -> NonNull<u8> {
        let id = if id < self.count { id } else { 0 };
        let offset = self.buffer_bytes as usize * usize::from(id);
        // SAFETY: `id` is below `count`, so the offset is inside the mapping.
        unsafe { self.memory.base().add(offset) }
    }

    #[inline]
    fn offer(&mut self, id: u16) {
        let address = self.address(id).as_ptr() as u64;
        let slot = usize::from(self.tail & self.ring_mask);
        let first: NonNull<BufRingEntry> = self.ring.base().cast();
        // SAFETY: `slot` is masked to the ring's entries.
        let mut entry = unsafe { first.add(slot) };
        // SAFETY: the entry lies inside the ring's mapping, and the kernel does not read it
        // before the tail is published. The tail shares the first entry's spare field, which
        // none of the setters below touches.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }
}
