//! The ring of a tap, in memory that its reader maps read-only. The writer never waits: when the
//! ring is full it overwrites the oldest records. The reader finds that out by itself, as the reader
//! of a seqlock does, and by the numbers of the records how many it has lost.
//!
//! Positions count words since the ring was made. A record begins at any word, and continues at the
//! first one behind the last.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::record::{HEAD_WORDS, RECORD_BYTES, TapRecord, lengths};
use crate::sys::memory::{ReadOnlyWords, SharedWords, WordsView};

/// Words before the records.
const HEADER_WORDS: usize = 8;
/// The parts of a ring; the first record that begins in each is remembered.
const PARTS: usize = 4;
/// The fewest words of a ring: a quarter holds the longest record.
pub const MIN_RING_WORDS: usize = HEADER_WORDS + 4 * (HEAD_WORDS + RECORD_BYTES.div_ceil(8));

/// The words of the header.
mod header {
    /// The position behind the last record.
    pub(super) const END: usize = 0;
    /// The position behind the record that is being written.
    pub(super) const RESERVED: usize = 1;
    /// The number of records written.
    pub(super) const RECORDS: usize = 2;
    /// Where the first record of each part begins.
    pub(super) const PARTS: usize = 4;
}

/// The end of a ring that one engine writes. What it needs to know it keeps in memory of its own, so
/// that nobody who can write to the ring misleads it.
pub struct RingWriter {
    words: SharedWords,
    end: AtomicU64,
    records: AtomicU64,
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
        let word = |at: usize| AtomicU64::new(words.words()[at].load(Ordering::Relaxed));
        let (end, records) = (word(header::END), word(header::RECORDS));
        Ok(Self { words, end, records })
    }

    /// Writes a record with as much of `frame` as `frame_bytes` says. Its number is given here.
    pub fn write(&self, mut record: TapRecord, frame: &[u8], frame_bytes: u32) {
        let kept = usize::try_from(frame_bytes).unwrap_or(RECORD_BYTES).min(RECORD_BYTES);
        let kept = &frame[..frame.len().min(kept)];
        record.sequence = self.records.load(Ordering::Relaxed);
        let (head, length) = record.to_words(kept.len());
        let (cells, start) = (self.words.words(), self.end.load(Ordering::Relaxed));
        let (header, cells) = cells.split_at(HEADER_WORDS);
        let capacity = cells.len() as u64;
        let end = start.wrapping_add(length as u64);
        header[header::RESERVED].store(end, Ordering::Relaxed);
        fence(Ordering::Release);
        let part = |at: u64| at / (capacity / PARTS as u64);
        if start == 0 || part(start) != part(end) {
            // The next record begins in another part.
            header[header::PARTS + index(part(end) % PARTS as u64)].store(end, Ordering::Relaxed);
        }
        let (chunks, rest) = kept.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let body = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk));
        let body = body.chain((!rest.is_empty()).then_some(u64::from_le_bytes(last)));
        let mut at = index(start % capacity);
        for word in head.into_iter().chain(body) {
            cells[at].store(word, Ordering::Relaxed);
            at = if at + 1 == cells.len() { 0 } else { at + 1 };
        }
        header[header::RECORDS].store(record.sequence + 1, Ordering::Relaxed);
        header[header::END].store(end, Ordering::Release);
        self.end.store(end, Ordering::Relaxed);
        self.records.store(record.sequence + 1, Ordering::Relaxed);
    }
}

/// The end of a ring that a program reads. It trusts nothing in the ring.
pub struct RingReader {
    words: ReadOnlyWords,
    next: u64,
    sequence: u64,
    lost: u64,
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
        Ok(Self { words, next: 0, sequence: 0, lost: 0 })
    }

    /// The number of records that were overwritten before they were read.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// The next record with the kept bytes of its frame; `None` if all were read.
    pub fn read(&mut self) -> Option<(TapRecord, Vec<u8>)> {
        // Each attempt but the last was overtaken by the writer.
        for _ in 0..3 {
            let end = self.header(header::END, Ordering::Acquire);
            if end == self.next {
                return None;
            }
            match self.copy(end) {
                Some((record, bytes, length)) => {
                    self.next = self.next.wrapping_add(length);
                    self.lost += record.sequence.saturating_sub(self.sequence);
                    self.sequence = record.sequence.max(self.sequence) + 1;
                    return Some((record, bytes));
                }
                None => self.skip(end),
            }
        }
        None
    }

    /// Copies the record at the next position; `None` if it is not there any more, or invalid.
    fn copy(&self, end: u64) -> Option<(TapRecord, Vec<u8>, u64)> {
        let unread = end.wrapping_sub(self.next);
        if unread > self.capacity() {
            return None;
        }
        let (length, bytes) = lengths(self.word(0))?;
        if length as u64 > unread {
            return None;
        }
        let mut head = [0; HEAD_WORDS];
        (0..).zip(&mut head).for_each(|(at, word)| *word = self.word(at));
        let body = (HEAD_WORDS..length).flat_map(|at| self.word(at as u64).to_le_bytes());
        let body: Vec<u8> = body.take(bytes).collect();
        fence(Ordering::Acquire);
        let reserved = self.header(header::RESERVED, Ordering::Relaxed);
        if reserved.wrapping_sub(self.next) > self.capacity() {
            return None;
        }
        Some((TapRecord::from_words(&head)?, body, length as u64))
    }

    /// Continues at the oldest record that is known to begin in what is left, or at the end.
    fn skip(&mut self, end: u64) {
        let reserved = self.header(header::RESERVED, Ordering::Acquire);
        let parts = (0..PARTS).map(|part| self.header(header::PARTS + part, Ordering::Relaxed));
        // Half a ring ahead of the writer, lest it overtake again at once.
        let is_left = |start: &u64| {
            *start > self.next
                && *start <= end
                && reserved.wrapping_sub(*start) <= self.capacity() / 2
        };
        self.next = parts.filter(is_left).min().unwrap_or(end);
    }

    fn view(&self) -> WordsView<'_> {
        self.words.view()
    }

    fn capacity(&self) -> u64 {
        (self.view().count() - HEADER_WORDS) as u64
    }

    fn header(&self, at: usize, order: Ordering) -> u64 {
        self.view().load(at, order).unwrap_or(0)
    }

    /// The word at this distance from the next position.
    fn word(&self, distance: u64) -> u64 {
        let place = self.next.wrapping_add(distance) % self.capacity();
        let at = HEADER_WORDS + index(place);
        self.view().load(at, Ordering::Relaxed).unwrap_or(0)
    }
}

/// A number below the length of a ring.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}
