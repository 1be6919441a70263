//! Frames in a stream of bytes: a length in four bytes, little-endian, and as many bytes of JSON.
//! This module must not depend on the content of messages or the source of the bytes.

use std::collections::VecDeque;

/// The longest message, in bytes.
pub(super) const FRAME_BYTES: usize = 32 << 20;
/// The most bytes that are kept for a peer that does not read.
pub(super) const BACKLOG_BYTES: usize = 8 << 20;

const LENGTH_BYTES: usize = 4;

/// The error of a message longer than [`FRAME_BYTES`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Splits received bytes into messages, wherever the pieces end.
#[derive(Default)]
pub(super) struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete message.
    ///
    /// # Errors
    /// The next message is too long; the rest of the stream is unusable.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > FRAME_BYTES {
            return Err(TooLong);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let rest = self.bytes.split_off(LENGTH_BYTES + length);
        let mut message = std::mem::replace(&mut self.bytes, rest);
        message.drain(..LENGTH_BYTES);
        Ok(Some(message))
    }
}

/// The bytes that are still to be sent.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: VecDeque<u8>,
}

impl Outbox {
    /// Adds a message; returns false if it does not fit, since the peer does not read.
    #[must_use]
    pub(super) fn push(&mut self, message: &[u8]) -> bool {
        let Some(length) = u32::try_from(message.len()).ok().filter(|_| self.has_room(message))
        else {
            return false;
        };
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(message);
        true
    }

    /// Whether a message fits. Into an empty outbox, every message of valid length does.
    fn has_room(&self, message: &[u8]) -> bool {
        let limit = if self.bytes.is_empty() { FRAME_BYTES } else { BACKLOG_BYTES };
        self.bytes.len() + message.len() <= limit
    }

    /// The bytes to send next.
    pub(super) fn front(&self) -> &[u8] {
        self.bytes.as_slices().0
    }

    /// Removes the first `sent` bytes.
    pub(super) fn advance(&mut self, sent: usize) {
        self.bytes.drain(..sent.min(self.bytes.len()));
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(decoder: &mut Decoder) -> Result<Vec<Vec<u8>>, TooLong> {
        std::iter::from_fn(|| decoder.next().transpose()).collect()
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_by_its_length() {
        let mut decoder = Decoder::default();
        let length = u32::try_from(FRAME_BYTES + 1).unwrap();
        decoder.push(&length.to_le_bytes());
        assert_eq!(decoder.next(), Err(TooLong));
        assert_eq!(Decoder::default().next(), Ok(None));
    }

    #[test]
    fn the_outbox_is_bounded() {
        let mut outbox = Outbox::default();
        assert!(!outbox.push(&vec![0; FRAME_BYTES + 1]));
        assert!(outbox.push(&vec![0; BACKLOG_BYTES - 100]));
        assert!(!outbox.push(&[0; 200]));
        outbox.advance(BACKLOG_BYTES);
        assert_eq!(outbox.len(), 0);
        assert!(outbox.push(&[0; 200]));
    }

    proptest! {
        #[test]
        fn messages_are_decoded_as_they_were_encoded_from_any_pieces(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
            piece in 1..40_usize,
        ) {
            let mut outbox = Outbox::default();
            messages.iter().for_each(|message| assert!(outbox.push(message)));
            let (mut decoder, mut got) = (Decoder::default(), Vec::new());
            while outbox.len() > 0 {
                let front = outbox.front();
                let sent = piece.min(front.len());
                decoder.push(&front[..sent]);
                outbox.advance(sent);
                got.extend(all(&mut decoder).unwrap());
            }
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn any_bytes_are_harmless(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..10)) {
            let (mut decoder, mut bytes) = (Decoder::default(), 0);
            for piece in pieces {
                decoder.push(&piece);
                bytes += piece.len();
                match all(&mut decoder) {
                    Ok(messages) => {
                        let read: usize = messages.iter().map(|one| one.len() + LENGTH_BYTES).sum();
                        prop_assert!(read <= bytes);
                        bytes -= read;
                    }
                    Err(TooLong) => break,
                }
            }
        }
    }
}
