//! The protocol of a ring that its writer overwrites without waiting for the reader, over any shared
//! words. The reader finds out by itself, as the reader of a sequence lock does, and by the numbers
//! of the records how many it has lost.
//!
//! Positions count words since the ring was made. A record begins at any word, and continues at the
//! first one behind the last.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::shared_words::{LoadWords, StoreWords};

/// Words before the records.
pub(super) const HEADER_WORDS: usize = 8;
/// The parts of a ring, each as long as the longest record; the first record that begins in each is
/// remembered.
pub(super) const PARTS: usize = 4;

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

/// Where the one writer is. It is kept apart from the ring, so that nobody who can write to the ring
/// misleads it.
pub(super) struct WritePosition {
    end: AtomicU64,
    records: AtomicU64,
}

impl WritePosition {
    /// That of the writer before.
    pub(super) fn of(ring: &impl LoadWords) -> Self {
        let word = |at| AtomicU64::new(ring.load(at, Ordering::Relaxed).unwrap_or(0));
        Self { end: word(header::END), records: word(header::RECORDS) }
    }

    /// The number of the next record.
    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Writes a record of `length` words to a ring with room for `capacity` words.
    pub(super) fn write<W: StoreWords + ?Sized>(
        &self,
        ring: &W,
        capacity: u64,
        length: usize,
        record: impl Iterator<Item = u64>,
    ) {
        let start = self.end.load(Ordering::Relaxed);
        let end = start.wrapping_add(length as u64);
        ring.store(header::RESERVED, end, Ordering::Relaxed);
        ring.fence_stores(Ordering::Release);
        let part = |at: u64| at / (capacity / PARTS as u64);
        if start == 0 || part(start) != part(end) {
            // The next record begins in another part.
            let place = header::PARTS + index(part(end) % PARTS as u64);
            ring.store(place, end, Ordering::Relaxed);
        }
        let mut at = start % capacity;
        for word in record {
            ring.store(HEADER_WORDS + index(at), word, Ordering::Relaxed);
            at = if at + 1 == capacity { 0 } else { at + 1 };
        }
        let records = self.records() + 1;
        ring.store(header::RECORDS, records, Ordering::Relaxed);
        ring.store(header::END, end, Ordering::Release);
        self.end.store(end, Ordering::Relaxed);
        self.records.store(records, Ordering::Relaxed);
    }
}

/// Where a reader is. It trusts nothing in the ring.
#[derive(Default)]
pub(super) struct ReadPosition {
    next: u64,
    sequence: u64,
    /// Records that were overwritten before they were read.
    pub(super) lost: u64,
}

impl ReadPosition {
    /// The next record; `None` if all were read.
    ///
    /// `length_of` finds the number of words of a record from the first one, `decode` its number and
    /// content from all of them; both return `None` for words that are no record.
    pub(super) fn read<T>(
        &mut self,
        ring: &impl LoadWords,
        length_of: impl Fn(u64) -> Option<usize>,
        decode: impl Fn(&[u64]) -> Option<(u64, T)>,
    ) -> Option<T> {
        // Each attempt but the last was overtaken by the writer.
        for _ in 0..3 {
            let end = load(ring, header::END, Ordering::Acquire);
            if end == self.next {
                return None;
            }
            let found = self.copy(ring, end, &length_of);
            let record = found.and_then(|words| Some((decode(&words)?, words.len())));
            match record {
                Some(((sequence, content), length)) => {
                    self.next = self.next.wrapping_add(length as u64);
                    self.lost += sequence.saturating_sub(self.sequence);
                    self.sequence = sequence.max(self.sequence).saturating_add(1);
                    return Some(content);
                }
                None => self.skip(ring, end),
            }
        }
        None
    }

    /// Copies the record at the next position; `None` if it is not there any more, or invalid.
    fn copy(
        &self,
        ring: &impl LoadWords,
        end: u64,
        length_of: impl Fn(u64) -> Option<usize>,
    ) -> Option<Vec<u64>> {
        let unread = end.wrapping_sub(self.next);
        if unread > capacity(ring) {
            return None;
        }
        let length = length_of(self.word(ring, 0))?;
        if length as u64 > unread {
            return None;
        }
        let words = (0..length as u64).map(|distance| self.word(ring, distance)).collect();
        ring.fence_loads(Ordering::Acquire);
        let reserved = load(ring, header::RESERVED, Ordering::Relaxed);
        (reserved.wrapping_sub(self.next) <= capacity(ring)).then_some(words)
    }

    /// Continues at the oldest record that is known to begin in what is left, or at the end.
    fn skip(&mut self, ring: &impl LoadWords, end: u64) {
        let reserved = load(ring, header::RESERVED, Ordering::Acquire);
        let parts = (0..PARTS).map(|part| load(ring, header::PARTS + part, Ordering::Relaxed));
        // Half a ring ahead of the writer, lest it overtake again at once.
        let is_left = |start: &u64| {
            *start > self.next
                && *start <= end
                && reserved.wrapping_sub(*start) <= capacity(ring) / 2
        };
        self.next = parts.filter(is_left).min().unwrap_or(end);
    }

    /// The word at this distance from the next position.
    fn word(&self, ring: &impl LoadWords, distance: u64) -> u64 {
        let place = self.next.wrapping_add(distance) % capacity(ring);
        load(ring, HEADER_WORDS + index(place), Ordering::Relaxed)
    }
}

/// The words for records.
fn capacity(ring: &impl LoadWords) -> u64 {
    ring.count().saturating_sub(HEADER_WORDS).max(1) as u64
}

fn load(ring: &impl LoadWords, at: usize, order: Ordering) -> u64 {
    ring.load(at, order).unwrap_or(0)
}

/// A number below the length of a ring.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sys::shared_words::model::ModelWords;

    /// A record of two words, both of which have its number; four fill the ring.
    const RECORD_WORDS: usize = 2;
    const CAPACITY: usize = PARTS * RECORD_WORDS;

    fn write(writer: &WritePosition, ring: &ModelWords) {
        let number = writer.records();
        let word = 1000 + number;
        writer.write(ring, CAPACITY as u64, RECORD_WORDS, [word, word].into_iter());
    }

    fn read(reader: &mut ReadPosition, ring: &ModelWords) -> Option<u64> {
        let length_of = |first: u64| (first >= 1000).then_some(RECORD_WORDS);
        reader.read(ring, length_of, |words| {
            assert_eq!(words[0], words[1], "half of a record");
            Some((words[0] - 1000, words[0] - 1000))
        })
    }

    /// Six records in a ring for four: the last two overwrite what may be read at the same time.
    #[test]
    fn a_reader_gets_whole_records_in_order_and_counts_the_others() {
        const RECORDS: u64 = 6;
        loom::model(|| {
            let ring = ModelWords::new(HEADER_WORDS + CAPACITY);
            let writer = WritePosition::of(&ring);
            (0..RECORDS - 2).for_each(|_| write(&writer, &ring));
            let written = ring.clone();
            let writing = loom::thread::spawn(move || {
                write(&writer, &written);
                write(&writer, &written);
            });
            let mut reader = ReadPosition::default();
            let mut found = Vec::new();
            found.extend(read(&mut reader, &ring));
            writing.join().unwrap();
            while let Some(number) = read(&mut reader, &ring) {
                found.push(number);
            }
            assert!(found.is_sorted_by(|one, other| one < other), "{found:?}");
            assert_eq!(found.len() as u64 + reader.lost, RECORDS, "{found:?}");
        });
    }
}
