//! Buffers beside those that the kernel fills, for what has to be written anew before it is sent:
//! it goes into sends like any other. It must not know what is written.

use super::Ring;
use crate::sys::buffers::Buffer;

/// The number under which buffers of this kind go.
pub(super) const SCRATCH_POOL: u8 = 127;
/// Bytes of one: more than any frame, even when each of its packets gets headers of its own.
const SCRATCH_BYTES: usize = 128 * 1024;
/// How many there are. Pages are touched when used.
const SCRATCH_COUNT: u16 = 64;

/// The buffers, one behind the other, and which of them are free.
pub(super) struct ScratchBuffers {
    memory: Box<[u8]>,
    free: Vec<u16>,
}

impl ScratchBuffers {
    pub(super) fn new() -> Self {
        let memory = vec![0; SCRATCH_BYTES * usize::from(SCRATCH_COUNT)].into();
        Self { memory, free: (0..SCRATCH_COUNT).collect() }
    }

    pub(super) fn give_back(&mut self, id: u16) {
        self.free.push(id);
    }

    #[cold]
    pub(super) fn bytes(&self, buffer: &Buffer) -> &[u8] {
        let bytes = self.memory.get(usize::from(buffer.id) * SCRATCH_BYTES..);
        bytes.and_then(|bytes| bytes.get(..buffer.len as usize)).unwrap_or_default()
    }
}

impl Ring {
    /// Whether [`Ring::rewrite`] has room.
    #[must_use]
    pub fn has_scratch(&self) -> bool {
        !self.slots.scratch.free.is_empty()
    }

    /// Writes what is in a buffer anew: `write` reads it, writes to the room that it is given, from
    /// its start, and says how many bytes, beside what it has to tell. The new buffer takes the
    /// place of the old one, which is given back in any case.
    ///
    /// # Errors
    /// What `write` says; `None` when there is no room.
    pub fn rewrite<T, E>(
        &mut self,
        buffer: Buffer,
        write: impl FnOnce(&[u8], &mut [u8]) -> Result<(T, u32), E>,
    ) -> Result<(T, Buffer), Option<E>> {
        let Some(id) = self.slots.scratch.free.pop() else {
            self.give_back(buffer);
            return Err(None);
        };
        let mut memory = std::mem::take(&mut self.slots.scratch.memory);
        let room = &mut memory[usize::from(id) * SCRATCH_BYTES..][..SCRATCH_BYTES];
        let written = write(self.bytes(&buffer), room);
        self.slots.scratch.memory = memory;
        self.give_back(buffer);
        match written {
            Ok((told, len)) => Ok((told, Buffer { pool: SCRATCH_POOL, id, len })),
            Err(error) => {
                self.slots.scratch.give_back(id);
                Err(Some(error))
            }
        }
    }
}
