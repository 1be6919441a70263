//! Messages that say more than their socket does: in an envelope, or behind headers of their own.

use super::Ring;
use crate::sys::messages::{Head, MessageId, Piece};
use crate::sys::send_control::SendControl;

impl Ring {
    /// Makes another message of this wave with the pieces of `message`, in an envelope.
    /// `None` when the wave is full.
    pub fn add_with_control(
        &mut self,
        message: MessageId,
        send_control: &SendControl,
    ) -> Option<MessageId> {
        self.messages.add_with_control(message, send_control)
    }

    /// Makes a message of one datagram behind the headers that `write` makes of its bytes; it
    /// says how long they are. `None` when the wave is full.
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
