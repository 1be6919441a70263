//! Words that threads or processes share without a lock, as the protocols over them need them: the
//! sequence number of a page, the ring of a tap. These are written for any such words, so that a
//! model checker (loom) can try every order in which their loads and stores may take effect.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::memory::WordsView;

/// Words that can be read.
pub trait LoadWords {
    /// Their number.
    fn count(&self) -> usize;

    /// The word at an index, if it exists.
    fn load(&self, at: usize, order: Ordering) -> Option<u64>;

    /// Orders the loads before it and after it.
    fn fence_loads(&self, order: Ordering);
}

/// Words that can be written.
pub trait StoreWords {
    /// Writes the word at an index, which exists.
    fn store(&self, at: usize, word: u64, order: Ordering);

    /// Orders the stores before it and after it.
    fn fence_stores(&self, order: Ordering);
}

impl LoadWords for WordsView<'_> {
    #[inline]
    fn count(&self) -> usize {
        WordsView::count(*self)
    }

    #[inline]
    fn load(&self, at: usize, order: Ordering) -> Option<u64> {
        WordsView::load(*self, at, order)
    }

    #[inline]
    fn fence_loads(&self, order: Ordering) {
        fence(order);
    }
}

impl StoreWords for [AtomicU64] {
    #[inline(always)]
    fn store(&self, at: usize, word: u64, order: Ordering) {
        self[at].store(word, order);
    }

    #[inline(always)]
    fn fence_stores(&self, order: Ordering) {
        fence(order);
    }
}

/// Words whose every possible order of loads and stores is tried.
#[cfg(all(test, loom))]
pub(crate) mod model {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use loom::sync::atomic::{AtomicU64, fence};

    use super::{LoadWords, StoreWords};

    /// Zeroed words, for a writer and readers.
    #[derive(Clone)]
    pub(crate) struct ModelWords(Arc<Vec<AtomicU64>>);

    impl ModelWords {
        pub(crate) fn new(count: usize) -> Self {
            Self(Arc::new((0..count).map(|_| AtomicU64::new(0)).collect()))
        }
    }

    impl LoadWords for ModelWords {
        fn count(&self) -> usize {
            self.0.len()
        }

        fn load(&self, at: usize, order: Ordering) -> Option<u64> {
            self.0.get(at).map(|cell| cell.load(order))
        }

        fn fence_loads(&self, order: Ordering) {
            fence(order);
        }
    }

    impl StoreWords for ModelWords {
        fn store(&self, at: usize, word: u64, order: Ordering) {
            self.0[at].store(word, order);
        }

        fn fence_stores(&self, order: Ordering) {
            fence(order);
        }
    }
}
