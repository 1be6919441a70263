//! Messages with control messages or headers of their own.

use super::Ring;
use crate::sys::messages::{Head, MessageId, Piece};
use crate::sys::send_control::SendControl;

impl Ring {
    /// Creates another message of this wave from the pieces of `message`, with control messages.
    /// Returns `None` if the wave is full.
    pub fn add_with_control(
        &mut self,
        message: MessageId,
        send_control: &SendControl,
    ) -> Option<MessageId> {
        self.messages.add_with_control(message, send_control)
    }

    /// Creates a message of one datagram, with headers that `write` builds from the datagram's
    /// bytes; `write` returns their length. Returns `None` if the wave is full.
    pub fn add_with_headers(
        &mut self,
        piece: Piece<'_>,
        write: impl FnOnce(&[u8], &mut Head) -> usize,
    ) -> Option<MessageId> {
        let Self { pools, slots, messages, .. } = self;
        if !messages.fits(2) {
            return None;
        }
        let first = messages.pieces_used();
        let bytes = slots.bytes_among(pools, piece.buffer);
        let part = bytes.get(piece.start as usize..)?.get(..piece.len as usize)?;
        messages.head(|head| write(part, head));
        messages.piece(part.as_ptr(), part.len());
        messages.close(first, 0)
    }
}
