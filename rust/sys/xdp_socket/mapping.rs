//! Shared mappings of a socket's memory and rings.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A shared mapping.
pub(super) struct Mapping {
    base: NonNull<u8>,
    bytes: NonZeroUsize,
}

impl Mapping {
    /// Maps `bytes` of a file or socket, with all of its pages present.
    pub(super) fn new(
        fd: BorrowedFd<'_>,
        bytes: NonZeroUsize,
        offset: libc::off_t,
    ) -> io::Result<Self> {
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing. The
        // callers pass a file that is sealed against shrinking, or a socket whose rings the kernel
        // maps only within their size.
        let base = unsafe { mmap(None, bytes, prot, flags, fd, offset) }?;
        Ok(Self { base: base.cast(), bytes })
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The address of `bytes` bytes at `offset`, aligned to `align`.
    ///
    /// # Errors
    /// InvalidData if they are not inside the mapping or not aligned.
    pub(super) fn at(&self, offset: u64, bytes: usize, align: usize) -> io::Result<NonNull<u8>> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidData)?;
        let end = offset.checked_add(bytes).filter(|end| *end <= self.bytes.get());
        if end.is_none() || !offset.is_multiple_of(align) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: the offset was compared with the length of the mapping.
        Ok(unsafe { self.base.add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the mapping that `new` created, and its owner is being
        // dropped.
        let unmapped = unsafe { munmap(self.base.cast(), self.bytes.get()) };
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: the value owns the mapping, whatever thread holds it.
unsafe impl Send for Mapping {}

/// One ring: entries of type `T` between two positions, of which the kernel moves one. Positions
/// count up and wrap around; entries are indexed by their lower bits.
pub(super) struct SharedRing<T> {
    _mapping: Mapping,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    entries: NonNull<T>,
    mask: u32,
}

impl<T: Copy> SharedRing<T> {
    /// Maps the ring of `socket` with `entries` entries (a power of two) at the `page` offset.
    pub(super) fn map(
        socket: BorrowedFd<'_>,
        entries: u32,
        page: libc::off_t,
        offsets: libc::xdp_ring_offset,
    ) -> io::Result<Self> {
        let entry_bytes = entries as usize * size_of::<T>();
        let start = usize::try_from(offsets.desc).map_err(|_| io::ErrorKind::InvalidData)?;
        let bytes = start.checked_add(entry_bytes).and_then(NonZeroUsize::new);
        let mapping = Mapping::new(socket, bytes.ok_or(io::ErrorKind::InvalidData)?, page)?;
        let word = |offset| mapping.at(offset, size_of::<u32>(), align_of::<u32>());
        let (producer, consumer) = (word(offsets.producer)?.cast(), word(offsets.consumer)?.cast());
        let entries_at = mapping.at(offsets.desc, entry_bytes, align_of::<T>())?.cast();
        Ok(Self { _mapping: mapping, producer, consumer, entries: entries_at, mask: entries - 1 })
    }

    #[inline]
    pub(super) fn producer(&self) -> &AtomicU32 {
        // SAFETY: `map` has checked that the word is aligned and inside the mapping, which lives as
        // long as `self`; both sides access it as an atomic.
        unsafe { self.producer.as_ref() }
    }

    #[inline]
    pub(super) fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for the producer.
        unsafe { self.consumer.as_ref() }
    }

    /// Reads the entry at a position.
    #[inline]
    pub(super) fn read(&self, position: u32) -> T {
        let entry = self.entry(position);
        // SAFETY: the entry is inside the mapping and aligned; any bytes are a valid entry, because
        // both kinds consist of numbers.
        unsafe { entry.read_volatile() }
    }

    /// Writes the entry at a position.
    #[inline]
    pub(super) fn write(&mut self, position: u32, value: T) {
        let entry = self.entry(position);
        // SAFETY: the entry is inside the mapping and aligned, and only this thread writes to it.
        unsafe { entry.write_volatile(value) };
    }

    #[inline]
    fn entry(&self, position: u32) -> NonNull<T> {
        // SAFETY: the masked position is below the number of entries, all of which `map` has found
        // inside the mapping.
        unsafe { self.entries.add((position & self.mask) as usize) }
    }
}

// SAFETY: the value owns the mapping that its pointers lead to, whatever thread holds it.
unsafe impl<T: Send> Send for SharedRing<T> {}
