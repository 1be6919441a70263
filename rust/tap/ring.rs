//! The ring of a tap, in memory that its reader maps read-only: records in an overwritten ring.

use std::io;
use std::os::fd::OwnedFd;

use super::overwritten::{HEADER_WORDS, PARTS, ReadPosition, WritePosition};
use super::record::{HEAD_WORDS, RECORD_BYTES, TapRecord, lengths};
use crate::sys::memory::{ReadOnlyWords, SharedWords};

/// The fewest words of a ring: each part holds the longest record.
pub const MIN_RING_WORDS: usize = HEADER_WORDS + PARTS * (HEAD_WORDS + RECORD_BYTES.div_ceil(8));

/// The end of a ring that one engine writes.
pub struct RingWriter {
    words: SharedWords,
    position: WritePosition,
}

impl RingWriter {
    /// Continues the ring in this memory, which is zeroed at first.
    ///
    /// # Errors
    /// InvalidData if it is too short, or not sealed against shrinking.
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        let words = SharedWords::open(fd)?;
        if words.words().len() < MIN_RING_WORDS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the ring is too short"));
        }
        let position = WritePosition::of(&words.view());
        Ok(Self { words, position })
    }

    /// Writes a record with as much of `frame` as `frame_bytes` says. Its number is given here.
    pub fn write(&self, mut record: TapRecord, frame: &[u8], frame_bytes: u32) {
        let kept = usize::try_from(frame_bytes).unwrap_or(RECORD_BYTES).min(RECORD_BYTES);
        let kept = &frame[..frame.len().min(kept)];
        record.sequence = self.position.records();
        let (head, length) = record.to_words(kept.len());
        let (chunks, rest) = kept.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let body = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk));
        let body = body.chain((!rest.is_empty()).then_some(u64::from_le_bytes(last)));
        let words = self.words.words();
        let capacity = (words.len() - HEADER_WORDS) as u64;
        self.position.write(words, capacity, length, head.into_iter().chain(body));
    }
}

/// The end of a ring that a program reads.
pub struct RingReader {
    words: ReadOnlyWords,
    position: ReadPosition,
}

impl RingReader {
    /// Reads the ring in this memory from its beginning on.
    ///
    /// # Errors
    /// InvalidData if it is too short, or not sealed against shrinking.
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        let words = ReadOnlyWords::open(fd)?;
        if words.view().count() < MIN_RING_WORDS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the ring is too short"));
        }
        Ok(Self { words, position: ReadPosition::default() })
    }

    /// The number of records that were overwritten before they were read.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.position.lost
    }

    /// The next record with the kept bytes of its frame; `None` if all were read.
    pub fn read(&mut self) -> Option<(TapRecord, Vec<u8>)> {
        let length_of = |first| lengths(first).map(|(words, _)| words);
        self.position.read(&self.words.view(), length_of, |words| {
            let (head, body) = words.split_first_chunk::<HEAD_WORDS>()?;
            let (length, bytes) = lengths(head[0])?;
            let record = TapRecord::from_words(head).filter(|_| length == words.len())?;
            let body = body.iter().flat_map(|word| word.to_le_bytes()).take(bytes).collect();
            Some((record.sequence, (record, body)))
        })
    }
}
