//! Detection of missing, duplicated and late datagrams of a stream from their numbers alone.
//!
//! A stream begins with the first datagram seen, so a receiver that joins late reports nothing as
//! lost. "Reordered" is defined by RFC 4737: a number below one that arrived before. Memory is
//! bounded whatever arrives.

/// How many of the latest numbers of a stream are tracked individually. An older datagram counts as
/// late if a number that old is missing, otherwise as a duplicate.
pub(super) const WINDOW: u64 = 4096;

/// Numbers farther apart than this, in either direction, do not belong to one sender: the datagram
/// counts as foreign. At a million datagrams per second it is twelve days.
const MAX_STEP: u64 = 1 << 40;

/// The most streams tracked at a time. A further one replaces the stream that was idle for longest;
/// its counts are kept.
pub(super) const MAX_STREAMS: usize = 64;

/// The counts of one stream or of all. A missing datagram that arrives later counts as reordered
/// instead of lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LossCounts {
    /// Missing between the lowest and the highest number seen.
    pub(super) lost: u64,
    /// Already seen.
    pub(super) duplicated: u64,
    /// Arrived after a datagram with a higher number; duplicates are not counted here.
    pub(super) reordered: u64,
}

impl LossCounts {
    fn plus(self, other: Self) -> Self {
        Self {
            lost: self.lost.saturating_add(other.lost),
            duplicated: self.duplicated.saturating_add(other.duplicated),
            reordered: self.reordered.saturating_add(other.reordered),
        }
    }
}

/// All streams of a receiver.
#[derive(Debug, Default)]
pub(super) struct Streams {
    live: Vec<(u32, Stream)>,
    last: usize,
    clock: u64,
    opened: u64,
    closed: LossCounts,
}

impl Streams {
    /// Records datagram `sequence` of `stream`; false if it cannot belong to that stream.
    pub(super) fn note(&mut self, stream: u32, sequence: u64) -> bool {
        self.clock += 1;
        let clock = self.clock;
        match self.find(stream) {
            Some(known) => {
                known.heard = clock;
                known.note(sequence)
            }
            None => {
                self.open(stream, Stream::new(sequence, clock));
                true
            }
        }
    }

    /// The counts of all streams, including those no longer tracked.
    pub(super) fn counts(&self) -> LossCounts {
        self.live.iter().fold(self.closed, |sum, (_, stream)| sum.plus(stream.counts))
    }

    /// How many streams were seen: one for each sender and each of its restarts.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    fn find(&mut self, id: u32) -> Option<&mut Stream> {
        // Consecutive datagrams mostly belong to one stream, so the last one is tried first.
        if self.live.get(self.last).is_none_or(|(live, _)| *live != id) {
            self.last = self.live.iter().position(|(live, _)| *live == id)?;
        }
        self.live.get_mut(self.last).map(|(_, stream)| stream)
    }

    fn open(&mut self, id: u32, stream: Stream) {
        self.opened += 1;
        if self.live.len() == MAX_STREAMS
            && let Some(oldest) = (0..MAX_STREAMS).min_by_key(|&at| self.live[at].1.heard)
        {
            let (_, gone) = self.live.swap_remove(oldest);
            self.closed = self.closed.plus(gone.counts);
        }
        self.last = self.live.len();
        self.live.push((id, stream));
    }
}

/// One stream: its highest number, and a bit for each of the `WINDOW` numbers up to it.
#[derive(Debug)]
struct Stream {
    highest: u64,
    /// How far the lowest number seen is below `highest`.
    span: u64,
    seen: Box<[u64; WORDS]>,
    counts: LossCounts,
    heard: u64,
}

const WORDS: usize = 64;
const _: () = assert!(WINDOW == 64 * WORDS as u64);

impl Stream {
    fn new(sequence: u64, heard: u64) -> Self {
        let seen = Box::new([0; WORDS]);
        let mut stream =
            Self { highest: sequence, span: 0, seen, counts: LossCounts::default(), heard };
        stream.mark(sequence);
        stream
    }

    fn note(&mut self, sequence: u64) -> bool {
        let ahead = sequence.wrapping_sub(self.highest);
        let behind = self.highest.wrapping_sub(sequence);
        if ahead.min(behind) > MAX_STEP {
            return false;
        }
        if ahead != 0 && ahead <= MAX_STEP {
            self.advance(ahead);
        } else if behind < WINDOW {
            self.fill(sequence, behind);
        } else {
            self.late(behind);
        }
        true
    }

    /// Records a new highest number; the skipped numbers are missing for now.
    fn advance(&mut self, ahead: u64) {
        if ahead >= WINDOW {
            self.seen.fill(0);
        } else {
            (1..=ahead).for_each(|step| self.clear(self.highest.wrapping_add(step)));
        }
        self.highest = self.highest.wrapping_add(ahead);
        self.span = self.span.saturating_add(ahead);
        self.counts.lost = self.counts.lost.saturating_add(ahead - 1);
        self.mark(self.highest);
    }

    /// Records a number inside the window; its bit says whether it is new.
    fn fill(&mut self, sequence: u64, behind: u64) {
        if self.is_marked(sequence) {
            self.counts.duplicated += 1;
            return;
        }
        self.mark(sequence);
        self.counts.reordered += 1;
        if behind > self.span {
            // Sent before the first one seen: the stream now begins there, and the numbers between
            // are missing.
            self.counts.lost = self.counts.lost.saturating_add(behind - self.span - 1);
            self.span = behind;
        } else {
            self.counts.lost = self.counts.lost.saturating_sub(1);
        }
    }

    /// Records a number below the window, which has no bit any more.
    fn late(&mut self, behind: u64) {
        if behind > self.span {
            self.counts.reordered += 1;
        } else if self.counts.lost > self.missing_in_window() {
            self.counts.lost -= 1;
            self.counts.reordered += 1;
        } else {
            self.counts.duplicated += 1;
        }
    }

    fn missing_in_window(&self) -> u64 {
        let held: u64 = self.seen.iter().map(|word| u64::from(word.count_ones())).sum();
        (self.span.saturating_add(1)).min(WINDOW) - held
    }

    fn mark(&mut self, sequence: u64) {
        self.seen[word(sequence)] |= bit(sequence);
    }

    fn clear(&mut self, sequence: u64) {
        self.seen[word(sequence)] &= !bit(sequence);
    }

    fn is_marked(&self, sequence: u64) -> bool {
        self.seen[word(sequence)] & bit(sequence) != 0
    }
}

fn word(sequence: u64) -> usize {
    usize::from((sequence / 64 % 64).to_le_bytes()[0])
}

fn bit(sequence: u64) -> u64 {
    1 << (sequence % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn counts_of(numbers: impl IntoIterator<Item = u64>) -> LossCounts {
        let mut streams = Streams::default();
        numbers.into_iter().for_each(|number| assert!(streams.note(7, number)));
        streams.counts()
    }

    fn counts(lost: u64, duplicated: u64, reordered: u64) -> LossCounts {
        LossCounts { lost, duplicated, reordered }
    }

    #[test]
    fn a_complete_stream_has_no_losses() {
        assert_eq!(counts_of(0..10_000), counts(0, 0, 0));
        assert_eq!(counts_of(500..10_000), counts(0, 0, 0));
    }

    #[test]
    fn gaps_are_lost_and_late_ones_are_reordered_instead() {
        assert_eq!(counts_of([0, 1, 4]), counts(2, 0, 0));
        assert_eq!(counts_of([0, 1, 4, 2]), counts(1, 0, 1));
        assert_eq!(counts_of([0, 1, 4, 2, 3, 5]), counts(0, 0, 2));
    }

    #[test]
    fn a_second_copy_is_a_duplicate_in_any_position() {
        assert_eq!(counts_of([0, 0, 1, 2, 1, 2]), counts(0, 3, 0));
        assert_eq!(counts_of((0..10_000).chain([3])), counts(0, 1, 0));
    }

    #[test]
    fn behind_the_window_only_missing_numbers_count_as_late() {
        let stream = || (0..10_000).filter(|number| *number != 3);
        assert_eq!(counts_of(stream().chain([3])), counts(0, 0, 1));
        assert_eq!(counts_of(stream().chain([3, 3])), counts(0, 1, 1));
    }

    #[test]
    fn a_stream_may_begin_out_of_order() {
        assert_eq!(counts_of([5, 3, 4, 6]), counts(0, 0, 2));
        assert_eq!(counts_of([5, 2]), counts(2, 0, 1));
        assert_eq!(counts_of([100_000, 2, 100_001]), counts(0, 0, 1));
    }

    #[test]
    fn numbers_wrap() {
        let start = u64::MAX - 2;
        assert_eq!(counts_of((0..10).map(|step| start.wrapping_add(step))), counts(0, 0, 0));
        assert_eq!(counts_of([u64::MAX, 2, 1]), counts(1, 0, 1));
        assert_eq!(counts_of([1, u64::MAX]), counts(1, 0, 1));
    }

    #[test]
    fn a_gap_wider_than_the_window_is_counted_whole() {
        assert_eq!(counts_of([0, 1_000_000]), counts(999_999, 0, 0));
        assert_eq!(counts_of([0, WINDOW, 1]), counts(WINDOW - 2, 0, 1));
        assert_eq!(counts_of([0, WINDOW, 0]), counts(WINDOW - 1, 1, 0));
        assert_eq!(counts_of([0, 2 * WINDOW, 5]), counts(2 * WINDOW - 2, 0, 1));
    }

    #[test]
    fn a_restarted_sender_is_another_stream() {
        let mut streams = Streams::default();
        (0..100).for_each(|number| assert!(streams.note(1, number)));
        (0..50).for_each(|number| assert!(streams.note(2, number)));
        assert_eq!((streams.counts(), streams.opened()), (counts(0, 0, 0), 2));
    }

    #[test]
    fn an_impossible_number_is_refused_and_changes_nothing() {
        let mut streams = Streams::default();
        assert!(streams.note(1, 1 << 50));
        assert!(!streams.note(1, 0));
        assert!(!streams.note(1, 1 << 60));
        assert!(streams.note(1, (1 << 50) + 1));
        assert_eq!(streams.counts(), counts(0, 0, 0));
    }

    #[test]
    fn streams_beyond_the_bound_replace_the_quietest_and_keep_its_counts() {
        let mut streams = Streams::default();
        assert!(streams.note(0, 0));
        assert!(streams.note(0, 3));
        for id in 1..=10_000 {
            assert!(streams.note(id, 0));
            assert!(streams.note(id, 2));
        }
        assert_eq!(streams.live.len(), MAX_STREAMS);
        assert_eq!((streams.counts().lost, streams.opened()), (10_002, 10_001));
    }

    proptest! {
        #[test]
        fn within_the_window_it_agrees_with_a_set(
            base: u64,
            steps in prop::collection::vec(0..WINDOW, 1..300),
        ) {
            let numbers: Vec<u64> = steps.iter().map(|step| base.wrapping_add(*step)).collect();
            let (mut seen, mut expected, mut highest) = (HashSet::new(), counts(0, 0, 0), 0);
            for step in &steps {
                if !seen.insert(*step) {
                    expected.duplicated += 1;
                } else if *step < highest {
                    expected.reordered += 1;
                }
                highest = highest.max(*step);
            }
            let lowest = steps.iter().min().copied().unwrap_or(0);
            expected.lost = highest - lowest + 1 - seen.len() as u64;
            prop_assert_eq!(counts_of(numbers), expected);
        }

        #[test]
        fn any_numbers_are_taken_without_a_panic(notes: Vec<(u32, u64)>) {
            let mut streams = Streams::default();
            for (stream, sequence) in notes {
                streams.note(stream % 3, sequence);
            }
            prop_assert!(streams.opened() <= 3);
        }
    }
}
