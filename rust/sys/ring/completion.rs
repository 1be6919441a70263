//! The result of an operation, whatever has carried it out.

use io_uring::cqueue;

/// `IORING_CQE_F_BUFFER` and `IORING_CQE_F_MORE` of <linux/io_uring.h>; the upper half is the
/// number of the buffer.
const HAS_BUFFER: u32 = 1;
const CONTINUES: u32 = 2;
const BUFFER_SHIFT: u32 = 16;

/// What io_uring reports in a completion.
#[derive(Clone, Copy)]
pub(super) struct Completion {
    pub(super) user_data: u64,
    /// As a system call returns it; an error is a negated errno.
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    /// The end of an operation.
    pub(super) fn end(user_data: u64, result: i32) -> Self {
        Self { user_data, result, flags: 0 }
    }

    /// A receive that has filled a buffer and continues.
    pub(super) fn received(user_data: u64, buffer: u16, len: u32) -> Self {
        let flags = u32::from(buffer) << BUFFER_SHIFT | HAS_BUFFER | CONTINUES;
        Self { user_data, result: i32::try_from(len).unwrap_or(i32::MAX), flags }
    }

    /// Whether the operation continues.
    #[inline]
    pub(super) fn continues(self) -> bool {
        cqueue::more(self.flags)
    }

    /// The number of the buffer that was filled.
    #[inline]
    pub(super) fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

impl From<cqueue::Entry> for Completion {
    #[inline]
    fn from(entry: cqueue::Entry) -> Self {
        Self { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() }
    }
}
