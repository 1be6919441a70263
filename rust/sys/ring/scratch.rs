//! Scratch buffers for datagrams that must be rewritten before they are sent. They are separate
//! from those that the kernel fills, but sends use them in the same way.

use super::Ring;
use crate::sys::buffers::Buffer;
use crate::sys::memory::PrivateArray;

/// The pool number of these buffers.
pub(super) const SCRATCH_POOL: u8 = 127;
/// The size of one: more than any frame, even if each of its packets gets headers of its own.
const SCRATCH_BYTES: usize = 128 * 1024;
/// The number of buffers. Pages are touched only when used.
const SCRATCH_COUNT: u16 = 64;

/// The buffers in one mapping, and which of them are free.
pub(super) struct ScratchBuffers {
    /// `None` only while one of them is being written.
    memory: Option<PrivateArray<u8>>,
    free: Vec<u16>,
}

impl ScratchBuffers {
    pub(super) fn new() -> Self {
        let memory = PrivateArray::new(SCRATCH_BYTES * usize::from(SCRATCH_COUNT));
        Self { memory: Some(memory), free: (0..SCRATCH_COUNT).collect() }
    }

    pub(super) fn give_back(&mut self, id: u16) {
        self.free.push(id);
    }

    #[cold]
    pub(super) fn bytes(&self, buffer: &Buffer) -> &[u8] {
        let memory = self.memory.as_deref().unwrap_or_default();
        let bytes = memory.get(usize::from(buffer.id) * SCRATCH_BYTES..);
        bytes.and_then(|bytes| bytes.get(..buffer.len as usize)).unwrap_or_default()
    }
}

impl Ring {
    /// Whether [`Ring::rewrite`] has a free buffer.
    #[must_use]
    pub fn has_scratch(&self) -> bool {
        !self.slots.scratch.free.is_empty()
    }

    /// Rewrites a buffer: `write` reads it, writes to the start of the memory that it gets, and
    /// returns the number of bytes along with its result. The new buffer replaces the old one,
    /// which is given back in any case.
    ///
    /// # Errors
    /// The error of `write`; `None` if there is no room.
    pub fn rewrite<T, E>(
        &mut self,
        buffer: Buffer,
        write: impl FnOnce(&[u8], &mut [u8]) -> Result<(T, u32), E>,
    ) -> Result<(T, Buffer), Option<E>> {
        let scratch = &mut self.slots.scratch;
        let taken = scratch.free.pop().and_then(|id| Some((id, scratch.memory.take()?)));
        let Some((id, mut memory)) = taken else {
            self.give_back(buffer);
            return Err(None);
        };
        let room = &mut memory[usize::from(id) * SCRATCH_BYTES..][..SCRATCH_BYTES];
        let written = write(self.bytes(&buffer), room);
        self.slots.scratch.memory = Some(memory);
        self.give_back(buffer);
        match written {
            Ok((result, len)) => Ok((result, Buffer { pool: SCRATCH_POOL, id, len })),
            Err(error) => {
                self.slots.scratch.give_back(id);
                Err(Some(error))
            }
        }
    }
}
