//! Stores: memory for datagrams that are sent in a later wave than that in which they were received.
//! Received buffers are too few to be held that long, so such datagrams are copied.

use std::io;

use super::Ring;
use super::scratch::SCRATCH_POOL;
use crate::sys::buffers::Buffer;
use crate::sys::memory::PrivateArray;
use crate::sys::messages::Piece;

/// The pool number of their buffers.
pub(super) const STORE_POOL: u8 = SCRATCH_POOL - 1;

/// The number of a store in its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreId(u16);

/// The memory of each store; `None` for a free number. Pages are touched only when used.
#[derive(Default)]
pub(super) struct Stores(Vec<Option<PrivateArray<u8>>>);

impl Stores {
    #[cold]
    pub(super) fn bytes(&self, buffer: &Buffer) -> &[u8] {
        let memory = self.0.get(usize::from(buffer.id)).and_then(Option::as_deref);
        memory.and_then(|memory| memory.get(..buffer.len as usize)).unwrap_or_default()
    }
}

impl Ring {
    /// Adds a store of `bytes` bytes.
    ///
    /// # Errors
    /// InvalidInput for more than 65,536 stores.
    pub fn add_store(&mut self, bytes: u32) -> io::Result<StoreId> {
        let stores = &mut self.slots.stores.0;
        let place = stores.iter().position(Option::is_none).unwrap_or(stores.len());
        let number = u16::try_from(place).map_err(|_| io::ErrorKind::InvalidInput)?;
        let memory = Some(PrivateArray::new(bytes as usize));
        match stores.get_mut(place) {
            Some(free) => *free = memory,
            None => stores.push(memory),
        }
        Ok(StoreId(number))
    }

    /// Frees a store. Sends must not use its buffer any more.
    pub fn remove_store(&mut self, StoreId(number): StoreId) {
        assert!(self.sends_in_flight == 0, "a store was freed inside a wave");
        if let Some(memory) = self.slots.stores.0.get_mut(usize::from(number)) {
            *memory = None;
        }
    }

    /// Copies a part of a buffer to the offset `at` of a store; false if it does not fit.
    pub fn store(&mut self, piece: Piece<'_>, StoreId(number): StoreId, at: u32) -> bool {
        assert!(self.sends_in_flight == 0, "a store was written inside a wave");
        let place = usize::from(number);
        let taken = self.slots.stores.0.get_mut(place).and_then(Option::take);
        let Some(mut memory) = taken else { return false };
        let Piece { buffer, start, len } = piece;
        let from = self.bytes(buffer).get(start as usize..).and_then(|it| it.get(..len as usize));
        let room = memory.get_mut(at as usize..).and_then(|it| it.get_mut(..len as usize));
        let fits = from.zip(room).map(|(from, room)| room.copy_from_slice(from));
        self.slots.stores.0[place] = Some(memory);
        fits.is_some()
    }

    /// All of a store as a buffer to send from, which is never given back.
    #[must_use]
    pub fn stored(&self, StoreId(number): StoreId) -> Buffer {
        let memory = self.slots.stores.0.get(usize::from(number)).and_then(Option::as_deref);
        let len = memory.map_or(0, |memory| u32::try_from(memory.len()).unwrap_or(u32::MAX));
        Buffer { pool: STORE_POOL, id: number, len }
    }
}
