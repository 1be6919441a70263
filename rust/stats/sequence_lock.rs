//! The sequence lock of a page: its number is odd while the one writer writes, so that a reader
//! notices and tries again. Neither waits for the other.

use std::sync::atomic::Ordering;

use crate::sys::shared_words::{LoadWords, StoreWords};

/// Writes under the number at `place`, which is `last` and even; returns the next one.
#[inline(always)]
pub(super) fn write<W: StoreWords + ?Sized>(
    words: &W,
    place: usize,
    last: u64,
    write: impl FnOnce(),
) -> u64 {
    words.store(place, last + 1, Ordering::Relaxed);
    words.fence_stores(Ordering::Release);
    write();
    words.store(place, last + 2, Ordering::Release);
    last + 2
}

/// Reads under the number at `place`; `None` if the writer wrote meanwhile, or there is no number.
#[inline(always)]
pub(super) fn read<T>(
    words: &impl LoadWords,
    place: usize,
    read: impl FnOnce() -> Option<T>,
) -> Option<T> {
    let before = words.load(place, Ordering::Acquire)?;
    if !before.is_multiple_of(2) {
        return None;
    }
    let found = read()?;
    words.fence_loads(Ordering::Acquire);
    (words.load(place, Ordering::Relaxed) == Some(before)).then_some(found)
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sys::shared_words::model::ModelWords;

    /// The number, and two words that are equal outside of a write.
    const PLACE: usize = 0;
    const PAIR: [usize; 2] = [1, 2];

    fn write_pair(words: &ModelWords, last: u64, word: u64) -> u64 {
        let store = |at| words.store(at, word, Ordering::Relaxed);
        write(words, PLACE, last, || PAIR.into_iter().for_each(store))
    }

    fn read_pair(words: &ModelWords) -> Option<[u64; 2]> {
        read(words, PLACE, || {
            let [first, second] = PAIR.map(|at| words.load(at, Ordering::Relaxed));
            Some([first?, second?])
        })
    }

    #[test]
    fn a_reader_sees_whole_writes_that_never_go_back() {
        loom::model(|| {
            let words = ModelWords::new(3);
            let written = words.clone();
            let writer = loom::thread::spawn(move || {
                let last = write_pair(&written, 0, 1);
                write_pair(&written, last, 2);
            });
            let mut before = 0;
            for _ in 0..2 {
                let Some([first, second]) = read_pair(&words) else { continue };
                assert_eq!(first, second, "half of a write");
                assert!(first >= before, "went back");
                before = first;
            }
            writer.join().unwrap();
            assert_eq!(read_pair(&words), Some([2, 2]));
        });
    }

    /// A process that is killed has written a part; its successor mends it before the number is
    /// even again.
    #[test]
    fn a_successor_of_a_killed_writer_is_read_whole() {
        loom::model(|| {
            let words = ModelWords::new(3);
            let written = words.clone();
            let writer = loom::thread::spawn(move || {
                written.store(PLACE, 1, Ordering::Relaxed);
                written.fence_stores(Ordering::Release);
                written.store(PAIR[0], 1, Ordering::Relaxed);
                // Killed; its successor mends and continues.
                written.store(PAIR[1], 1, Ordering::Relaxed);
                written.store(PLACE, 2, Ordering::Release);
                write_pair(&written, 2, 3);
            });
            if let Some([first, second]) = read_pair(&words) {
                assert_eq!(first, second, "half of a write");
            }
            writer.join().unwrap();
            assert_eq!(read_pair(&words), Some([3, 3]));
        });
    }
}
