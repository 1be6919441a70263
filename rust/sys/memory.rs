//! Anonymous and shared memory mappings.

use std::alloc::{Layout, handle_alloc_error};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use nix::sys::stat::{Mode, fchmod};

/// Private zeroed memory, page-aligned; a page uses memory only once it is touched.
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
        // SAFETY: the range is exactly the mapping that `new` created, and its owner is being
        // dropped.
        let unmapped = unsafe { munmap(self.base.cast(), self.len.get()) };
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: the value owns the mapping, whatever thread holds it.
unsafe impl Send for Anonymous {}

/// A number: every pattern of bits is one.
pub trait Number: Copy + sealed::Sealed {}
impl Number for u8 {}
impl Number for u32 {}
impl Number for u64 {}
impl<const N: usize> Number for [u64; N] {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
    impl<const N: usize> Sealed for [u64; N] {}
}

/// A zeroed array in a mapping of its own: an allocator may reuse memory that was touched before,
/// and then clears all of it.
pub struct PrivateArray<T> {
    memory: Anonymous,
    len: usize,
    items: PhantomData<T>,
}

impl<T: Number> PrivateArray<T> {
    /// Maps this many zeros. As with any other allocation, the process ends if there is no memory.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let memory = Anonymous::new(len * size_of::<T>());
        let memory = memory.unwrap_or_else(|_| handle_alloc_error(Layout::new::<T>()));
        Self { memory, len, items: PhantomData }
    }
}

impl<T: Number> Deref for PrivateArray<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `len` numbers, is zeroed and aligned to pages, and lives as
        // long as `self`.
        unsafe { slice::from_raw_parts(self.memory.base().cast().as_ptr(), self.len) }
    }
}

impl<T: Number> DerefMut for PrivateArray<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`; `self` is borrowed exclusively, and nothing else has the mapping.
        unsafe { slice::from_raw_parts_mut(self.memory.base().cast().as_ptr(), self.len) }
    }
}

/// A shared mapping of a file of 64-bit words.
struct SharedMapping {
    base: NonNull<AtomicU64>,
    words: usize,
}

impl SharedMapping {
    /// Maps `words` words of a file that is sealed against shrinking.
    fn new(file: &File, words: usize, prot: ProtFlags) -> io::Result<Self> {
        let len = NonZeroUsize::new(words * 8).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing, and the
        // seals keep the file at least as long as the mapping.
        let base = unsafe { mmap(None, len, prot, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { base: base.cast(), words })
    }

    fn cells(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is `words` aligned, initialised 8-byte cells that live as long as
        // `self`; they are only ever touched as atomics.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }
}

impl Drop for SharedMapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the mapping that `new` created, and its owner is being
        // dropped.
        let unmapped = unsafe { munmap(self.base.cast(), self.words * 8) };
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: the value owns the mapping, whatever thread holds it.
unsafe impl Send for SharedMapping {}
// SAFETY: a shared reference gives access to atomics only.
unsafe impl Sync for SharedMapping {}

/// The number of words in a file.
///
/// # Errors
/// InvalidData if the file is not sealed against shrinking: reading it could then fault.
fn sealed_words(file: &File) -> io::Result<usize> {
    let seals = SealFlag::from_bits_truncate(fcntl(file, FcntlArg::F_GET_SEALS)?);
    if !seals.contains(SealFlag::F_SEAL_SHRINK) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the page is not sealed"));
    }
    // Its metadata are a system call that a worker may not make.
    let bytes = (&*file).seek(SeekFrom::End(0))?;
    Ok(usize::try_from(bytes / 8).unwrap_or(0))
}

/// 64-bit words in a sealed memfd, for one writing thread and readers in any process.
///
/// All access is atomic, so a reader may read at any time, and whatever another process writes into
/// the file is at worst a wrong number.
pub struct SharedWords {
    mapping: SharedMapping,
    file: File,
}

impl SharedWords {
    /// Creates a zeroed file of `words` words, sealed against changes of its size, and with
    /// permissions that keep other users from opening it again.
    ///
    /// # Errors
    /// The kernel's: no memory, no free descriptor.
    pub fn create(words: usize) -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create(c"mcr-statistics", flags)?);
        fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let bytes = words.checked_mul(8).ok_or(io::ErrorKind::InvalidInput)?;
        file.set_len(u64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Self::map(file, words)
    }

    /// Maps a file created by [`SharedWords::create`], possibly in another process.
    ///
    /// # Errors
    /// InvalidData if the file is not sealed against shrinking: reading it could then fault.
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        let words = sealed_words(&file)?;
        Self::map(file, words)
    }

    fn map(file: File, words: usize) -> io::Result<Self> {
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        Ok(Self { mapping: SharedMapping::new(&file, words, prot)?, file })
    }

    /// The words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        self.mapping.cells()
    }

    /// A read-only view of the words.
    #[must_use]
    pub fn view(&self) -> WordsView<'_> {
        WordsView(self.words())
    }

    /// The file, to pass to a reader.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The words of another process's [`SharedWords`], which this process cannot change.
pub struct ReadOnlyWords(SharedMapping);

impl ReadOnlyWords {
    /// Maps the file behind a descriptor, which may be open for reading only.
    ///
    /// # Errors
    /// InvalidData if the file is not sealed against shrinking: reading it could then fault.
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        let words = sealed_words(&file)?;
        Ok(Self(SharedMapping::new(&file, words, ProtFlags::PROT_READ)?))
    }

    /// A read-only view of the words.
    #[must_use]
    pub fn view(&self) -> WordsView<'_> {
        WordsView(self.0.cells())
    }
}

/// Words that are read but never written: a store to a read-only mapping would fault.
#[derive(Clone, Copy)]
pub struct WordsView<'a>(&'a [AtomicU64]);

impl<'a> WordsView<'a> {
    /// The number of words.
    #[must_use]
    pub const fn count(self) -> usize {
        self.0.len()
    }

    /// The word at index `at`, if it exists.
    #[must_use]
    pub fn load(self, at: usize, order: Ordering) -> Option<u64> {
        self.0.get(at).map(|cell| cell.load(order))
    }

    /// `count` words from `start` on, read in no particular order; `None` if there are fewer.
    #[must_use]
    pub fn relaxed(self, start: usize, count: usize) -> Option<impl Iterator<Item = u64> + 'a> {
        let cells = self.0.get(start..start.checked_add(count)?)?;
        Some(cells.iter().map(|cell| cell.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_size_of_the_page_cannot_change() {
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
    #[test]
    fn a_read_only_reader_sees_the_same() {
        let page = SharedWords::create(8).unwrap();
        let path = format!("/proc/self/fd/{}", page.fd().as_raw_fd());
        let only_read = OpenOptions::new().read(true).open(path).unwrap();
        assert_eq!(only_read.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let refused = SharedWords::open(only_read.try_clone().unwrap().into()).map(drop);
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EACCES));
        let reader = ReadOnlyWords::open(only_read.into()).unwrap();
        page.words()[7].store(41, Ordering::Relaxed);
        assert_eq!(reader.view().count(), 8);
        assert_eq!(reader.view().load(7, Ordering::Acquire), Some(41));
        assert_eq!(reader.view().load(8, Ordering::Acquire), None);
        assert_eq!(reader.view().relaxed(6, 2).unwrap().collect::<Vec<_>>(), [0, 41]);
        assert!(reader.view().relaxed(6, 3).is_none());
        assert!(reader.view().relaxed(6, usize::MAX).is_none());
    }
}
