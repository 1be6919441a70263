//! What is known of one feed: how even its numbers of each stream are, how many of them are missing,
//! and which of its numbers may be a beginning.

pub(super) use crate::stats::merged::STREAMS;

/// A number this near to the one before continues a feed.
pub(super) const NEAR: u64 = 64;
/// Numbers that a feed may lose in a row and still be believed: those of 41 ms at 100,000 a second.
const MOST_LOST: u64 = 4096;
/// The credit of a feed whose numbers follow each other.
const FULL_CREDIT: u8 = 32;
/// The credit that a large step needs: numbers at random lose it within three datagrams.
const STEP_CREDIT: u8 = 8;
/// Beginnings that a feed may have in quick succession, and the time until it may have another.
const MOST_RESTARTS: u8 = 8;
const RESTART_US: u64 = 1_000_000;
/// Runs of strange numbers that a feed may have at once: senders that begin together interleave.
const RUNS: usize = 4;

/// The numbers of a datagram, and the stream that they are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FeedNumbers {
    pub(super) stream: u64,
    pub(super) first: u64,
    /// The number after the last one.
    pub(super) end: u64,
}

/// Numbers that do not wrap, of datagrams that follow one another.
#[derive(Clone, Copy, Debug)]
pub(super) struct DatagramSpan {
    pub(super) first: u64,
    /// The number after the last one.
    pub(super) end: u64,
    pub(super) datagrams: u8,
}

/// Ascending numbers of a feed, none of which were sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct NumberRun {
    pub(super) len: u64,
    last: FeedNumbers,
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
    const fn new(numbers: FeedNumbers, begin: FeedMoment) -> Self {
        Self { len: 1, last: numbers, begin }
    }

    /// This run with another datagram; it begins anew if that does not follow.
    const fn extend(self, numbers: FeedNumbers, mask: u64, now: FeedMoment) -> Self {
        if self.is_followed_by(numbers, mask) {
            Self { len: self.len + 1, last: numbers, ..self }
        } else {
            Self::new(numbers, now)
        }
    }

    const fn is_followed_by(&self, numbers: FeedNumbers, mask: u64) -> bool {
        let ahead = numbers.first.wrapping_sub(self.last.end) & mask;
        self.last.stream == numbers.stream && ahead < NEAR
    }
}

/// The numbers of one stream that a feed has delivered.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    /// The number after those of the datagram before.
    next: u64,
    credit: u8,
    /// Whether another feed has delivered later what this one had delivered ahead of all.
    is_confirmed: bool,
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

    /// Compares the numbers of datagrams that follow one another with those before of the same
    /// stream, and says whether its numbers there are believed.
    #[inline]
    pub(super) fn follow(&mut self, stream: usize, span: DatagramSpan) -> bool {
        let DatagramSpan { first, end, datagrams } = span;
        let Some(known) = &mut self.streams[stream] else {
            self.streams[stream] = Some(Delivered {
                next: end,
                credit: FULL_CREDIT,
                is_confirmed: false,
                first,
                end: first,
                distinct: 0,
            });
            return true;
        };
        let ahead = first.wrapping_sub(known.next);
        // A feed that repeats one number has nothing to say.
        let is_same = end == known.next;
        known.next = end;
        let credit = match ahead {
            _ if is_same => known.credit.saturating_sub(1),
            _ if ahead <= NEAR || ahead.wrapping_neg() <= NEAR => known.credit + 1,
            _ if ahead <= MOST_LOST => known.credit.saturating_sub(1),
            _ => known.credit / 2,
        };
        known.credit = credit.saturating_add(datagrams - 1).min(FULL_CREDIT);
        known.credit > 0
    }

    /// Whether a large step of its numbers is believed, in a pause of the others.
    #[inline]
    pub(super) fn may_step(&self, stream: usize) -> bool {
        self.streams[stream].is_some_and(|known| known.credit >= STEP_CREDIT)
    }

    /// Whether a large step to this number is believed while others deliver: it has followed the
    /// stream and lost what is between, or another feed has confirmed that it is ahead of all.
    #[inline]
    pub(super) fn may_leap(&self, stream: usize, first: u64) -> bool {
        self.streams[stream].is_some_and(|known| {
            let has_followed = known.distinct >= u64::from(FULL_CREDIT);
            let has_lost = has_followed && first.wrapping_sub(known.end) <= MOST_LOST;
            known.credit >= STEP_CREDIT && (has_lost || known.is_confirmed)
        })
    }

    /// Notes that another feed has delivered what this one had delivered ahead of all.
    pub(super) fn confirm(&mut self, stream: usize) {
        if let Some(known) = &mut self.streams[stream] {
            known.is_confirmed = true;
        }
    }

    /// Whether these numbers follow one of the runs of strange ones.
    pub(super) fn continues_strange(&self, numbers: FeedNumbers, mask: u64) -> bool {
        self.strange.iter().flatten().any(|run| run.is_followed_by(numbers, mask))
    }

    /// Whether it has delivered strange numbers near these.
    pub(super) fn has_strange_near(&self, numbers: FeedNumbers, mask: u64) -> bool {
        self.strange.iter().flatten().any(|NumberRun { last, .. }| {
            let ahead = numbers.first.wrapping_sub(last.first) & mask;
            let behind = last.first.wrapping_sub(numbers.first) & mask;
            last.stream == numbers.stream && ahead.min(behind) <= NEAR
        })
    }

    /// Adds numbers that continue no stream to the run of such numbers, and returns that.
    pub(super) fn extend_strange(
        &mut self,
        numbers: FeedNumbers,
        mask: u64,
        now: FeedMoment,
    ) -> NumberRun {
        let is_same =
            |run: &Option<NumberRun>| run.is_some_and(|run| run.last.stream == numbers.stream);
        let len = |at: &usize| self.strange[*at].map_or(0, |run| run.len);
        let known = self.strange.iter().position(is_same);
        let at = known.or_else(|| (0..RUNS).min_by_key(len)).unwrap_or(0);
        let run = match self.strange[at].filter(|_| known.is_some()) {
            Some(run) => run.extend(numbers, mask, now),
            None => NumberRun::new(numbers, now),
        };
        self.strange[at] = Some(run);
        run
    }

    /// Adds numbers that it had delivered before to the run of such numbers, and returns that.
    pub(super) fn extend_repeats(&mut self, numbers: FeedNumbers, now: FeedMoment) -> NumberRun {
        let run = match self.repeats {
            Some(run) if run.begin.new == now.new => run.extend(numbers, u64::MAX, now),
            _ => NumberRun::new(numbers, now),
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
    pub(super) fn count(&mut self, stream: usize, span: DatagramSpan, fresh: u64) {
        self.home = stream;
        let Some(known) = &mut self.streams[stream] else { return };
        let DatagramSpan { first, end, .. } = span;
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
