//! Anonymous and shared memory mappings. It must not know what is kept in them.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Private zeroed memory, page-aligned; a page costs memory only once it is touched.
pub(super) struct Anonymous {
    base: NonNull<u8>,
    len: NonZeroUsize,
}

impl Anonymous {
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let len = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { mmap_anonymous(None, len, prot, flags) }?;
        Ok(Self { base: base.cast(), len })
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for Anonymous {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the mapping that `new` made, and its owner is going away.
        let unmapped = unsafe { munmap(self.base.cast(), self.len.get()) };
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: the mapping belongs to the value, whichever thread holds it.
unsafe impl Send for Anonymous {}

/// Numbers in a sealed memfd, for one writing thread and readers in any process.
///
/// All access is by atomics, so that a reader may look at any time, and whatever another process
/// writes into the file is at worst a wrong number.
pub struct SharedWords {
    base: NonNull<AtomicU64>,
    words: usize,
    file: File,
}

impl SharedWords {
    /// A new zeroed file of `words` numbers, sealed so that nobody can change its size.
    ///
    /// # Errors
    /// The kernel's answer: no memory, no free descriptor.
    pub fn create(words: usize) -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create(c"mcr-statistics", flags)?);
        let bytes = words.checked_mul(8).ok_or(io::ErrorKind::InvalidInput)?;
        file.set_len(u64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Self::map(file, words)
    }

    /// Maps a file that [`SharedWords::create`] made, perhaps in another process.
    ///
    /// # Errors
    /// InvalidData when the file is not sealed against shrinking: reading it could then fault.
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        let seals = SealFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GET_SEALS)?);
        if !seals.contains(SealFlag::F_SEAL_SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the page is not sealed"));
        }
        let words = usize::try_from(file.metadata()?.len() / 8).unwrap_or(0);
        Self::map(file, words)
    }

    fn map(file: File, words: usize) -> io::Result<Self> {
        let len = NonZeroUsize::new(words * 8).ok_or(io::ErrorKind::InvalidInput)?;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing, and the
        // seals keep the file as long as the mapping.
        let base = unsafe { mmap(None, len, prot, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok(Self { base: base.cast(), words, file })
    }

    /// The numbers.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is `words` aligned, initialised 8-byte cells that live as long as
        // `self`; they are only ever touched as atomics.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }

    /// The file, to hand it to a reader.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the mapping that `map` made, and its owner is going away.
        let unmapped = unsafe { munmap(self.base.cast(), self.words * 8) };
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: the mapping belongs to the value, whichever thread holds it.
unsafe impl Send for SharedWords {}
// SAFETY: a shared reference gives out atomics only.
unsafe impl Sync for SharedWords {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn nobody_can_change_the_size_of_the_page() {
        let page = SharedWords::create(8).unwrap();
        let file = File::from(page.fd().try_clone_to_owned().unwrap());
        for bytes in [0, 8, 4096] {
            assert_eq!(file.set_len(bytes).unwrap_err().raw_os_error(), Some(libc::EPERM));
        }
        let refused = fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE));
        assert_eq!(refused.unwrap_err(), nix::errno::Errno::EPERM);
    }

    #[test]
    fn a_reader_with_the_descriptor_sees_what_is_written() {
        let page = SharedWords::create(8).unwrap();
        let reader = SharedWords::open(page.fd().try_clone_to_owned().unwrap()).unwrap();
        page.words()[7].store(41, Ordering::Relaxed);
        assert_eq!(reader.words().len(), 8);
        assert_eq!(reader.words()[7].load(Ordering::Relaxed), 41);
    }

    #[test]
    fn a_file_that_could_shrink_under_a_reader_is_refused() {
        let file = memfd_create(c"loose", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING);
        let refused = SharedWords::open(file.unwrap()).map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    }
}
