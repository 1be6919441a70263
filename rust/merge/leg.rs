//! What is known of one feed: how even its numbers of each stream are, how many of them are missing,
//! and which of its numbers may be a beginning.

pub(super) use crate::stats::merged::STREAMS;

/// A number this near to the one before continues a feed.
pub(super) const NEAR: u64 = 64;
/// The credit of a feed whose numbers follow each other.
const FULL_CREDIT: u8 = 32;
/// The credit that a large step needs: numbers at random lose it within three datagrams.
const STEP_CREDIT: u8 = 8;
/// Beginnings that a feed may have in quick succession, and the time until it may have another.
const MOST_RESTARTS: u8 = 8;
const RESTART_US: u64 = 1_000_000;
/// Runs of strange numbers that a feed may have at once: senders that begin together interleave.
const RUNS: usize = 4;

/// A number, and the stream that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FeedNumber {
    pub(super) stream: u64,
    pub(super) first: u64,
}

/// Ascending numbers of a feed, none of which were sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct NumberRun {
    pub(super) len: u64,
    last: FeedNumber,
    /// When it began, and how many datagrams of all feeds had been new.
    pub(super) begin: FeedMoment,
}

/// A time, and how many datagrams of all feeds have been new until then.
#[derive(Clone, Copy, Debug)]
pub(super) struct FeedMoment {
    pub(super) now_us: u64,
    pub(super) new: u64,
}

impl NumberRun {
    const fn new(number: FeedNumber, begin: FeedMoment) -> Self {
        Self { len: 1, last: number, begin }
    }

    /// This run with another number; it begins anew if that does not follow.
    const fn extend(self, number: FeedNumber, mask: u64, now: FeedMoment) -> Self {
        let ahead = number.first.wrapping_sub(self.last.first) & mask;
        if self.last.stream == number.stream && 1 <= ahead && ahead <= NEAR {
            Self { len: self.len + 1, last: number, ..self }
        } else {
            Self::new(number, now)
        }
    }
}

/// The numbers of one stream that a feed has delivered.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    last: u64,
    credit: u8,
    /// The first number, the one after the last, and how many arrived.
    first: u64,
    end: u64,
    distinct: u64,
}

impl Delivered {
    const fn missing(&self) -> u64 {
        self.end.wrapping_sub(self.first).saturating_sub(self.distinct)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Leg {
    streams: [Option<Delivered>; STREAMS],
    /// The stream of the last datagram with a place.
    pub(super) home: usize,
    strange: [Option<NumberRun>; RUNS],
    /// Numbers that it had delivered before.
    repeats: Option<NumberRun>,
    restarts: u8,
    restart_us: u64,
    /// What was missing in streams that have ended.
    missing_before: u64,
}

impl Leg {
    pub(super) const fn new() -> Self {
        Self {
            streams: [None; STREAMS],
            home: 0,
            strange: [None; RUNS],
            repeats: None,
            restarts: MOST_RESTARTS,
            restart_us: 0,
            missing_before: 0,
        }
    }

    /// Compares a number with the one before of the same stream, and says whether its numbers there
    /// are believed.
    #[inline]
    pub(super) fn follow(&mut self, stream: usize, first: u64) -> bool {
        let Some(known) = &mut self.streams[stream] else {
            let (last, end, distinct) = (first, first, 0);
            let known = Delivered { last, credit: FULL_CREDIT, first, end, distinct };
            self.streams[stream] = Some(known);
            return true;
        };
        let ahead = first.wrapping_sub(known.last);
        known.last = first;
        known.credit = match ahead {
            // A feed that repeats one number has nothing to say.
            0 => known.credit.saturating_sub(1),
            _ if ahead <= NEAR || ahead.wrapping_neg() <= NEAR => known.credit + 1,
            _ => known.credit / 2,
        }
        .min(FULL_CREDIT);
        known.credit > 0
    }

    /// Whether a large step of its numbers is believed.
    pub(super) fn may_step(&self, stream: usize) -> bool {
        self.streams[stream].is_some_and(|known| known.credit >= STEP_CREDIT)
    }

    /// Adds a number that continues no stream to the run of such numbers, and returns that.
    pub(super) fn extend_strange(
        &mut self,
        number: FeedNumber,
        mask: u64,
        now: FeedMoment,
    ) -> NumberRun {
        let is_same =
            |run: &Option<NumberRun>| run.is_some_and(|run| run.last.stream == number.stream);
        let len = |at: &usize| self.strange[*at].map_or(0, |run| run.len);
        let known = self.strange.iter().position(is_same);
        let at = known.or_else(|| (0..RUNS).min_by_key(len)).unwrap_or(0);
        let run = match self.strange[at].filter(|_| known.is_some()) {
            Some(run) => run.extend(number, mask, now),
            None => NumberRun::new(number, now),
        };
        self.strange[at] = Some(run);
        run
    }

    /// Adds a number that it had delivered before to the run of such numbers, and returns that.
    pub(super) fn extend_repeats(&mut self, number: FeedNumber, now: FeedMoment) -> NumberRun {
        let run = match self.repeats {
            Some(run) if run.begin.new == now.new => run.extend(number, u64::MAX, now),
            _ => NumberRun::new(number, now),
        };
        self.repeats = Some(run);
        run
    }

    /// How many ascending numbers it has just repeated.
    #[inline]
    pub(super) fn repeated(&self) -> u64 {
        self.repeats.map_or(0, |run| run.len)
    }

    #[inline]
    pub(super) fn end_repeats(&mut self) {
        self.repeats = None;
    }

    /// Ends the run of strange numbers of a stream.
    pub(super) fn end_strange(&mut self, stream: u64) {
        let others = self.strange.map(|run| run.filter(|run| run.last.stream != stream));
        self.strange = others;
    }

    /// Whether it may begin a stream now; it may do so only a few times within a second.
    pub(super) fn take_restart(&mut self, now_us: u64) -> bool {
        let rested = now_us.saturating_sub(self.restart_us) / RESTART_US;
        if rested > 0 {
            let rested = u8::try_from(rested).unwrap_or(u8::MAX);
            self.restarts = self.restarts.saturating_add(rested).min(MOST_RESTARTS);
            self.restart_us = now_us;
        }
        let may = self.restarts > 0;
        self.restarts = self.restarts.saturating_sub(1);
        may
    }

    /// Counts these numbers of a stream, `fresh` of which it had not delivered before.
    #[inline]
    pub(super) fn count(&mut self, stream: usize, first: u64, count: u64, fresh: u64) {
        self.home = stream;
        let Some(known) = &mut self.streams[stream] else { return };
        let end = first.wrapping_add(count);
        if first.wrapping_sub(known.first).cast_signed() < 0 {
            known.first = first;
        }
        if end.wrapping_sub(known.end).cast_signed() > 0 {
            known.end = end;
        }
        known.distinct += fresh;
    }

    /// Forgets a stream, which is used for other numbers from now on.
    pub(super) fn leave(&mut self, stream: usize) {
        if let Some(known) = self.streams[stream].take() {
            self.missing_before += known.missing();
        }
    }

    /// Numbers between its first and its last one that it has not delivered.
    pub(super) fn missing(&self) -> u64 {
        let known = self.streams.iter().flatten().map(Delivered::missing);
        self.missing_before + known.sum::<u64>()
    }
}
