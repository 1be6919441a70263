//! What is known of one feed: how even its own numbers are, and how many of them are missing.

/// A number this near to the one before continues a feed.
pub(super) const NEAR: u64 = 64;
/// The credit of a feed whose numbers follow each other.
const FULL_CREDIT: u8 = 32;
/// The credit that a large step needs: numbers at random lose it within three datagrams.
const STEP_CREDIT: u8 = 8;
/// Restarts that a feed may begin in quick succession, and the time until it may begin another.
const MOST_RESTARTS: u8 = 4;
const RESTART_US: u64 = 1_000_000;

/// A number, and the stream that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FeedNumber {
    pub(super) stream: u64,
    pub(super) first: u64,
}

/// Numbers in sequence that continue no stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct StrangeRun {
    pub(super) len: u64,
    pub(super) last: FeedNumber,
    /// The datagrams that were new when it began.
    pub(super) new_before: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Leg {
    last: Option<FeedNumber>,
    credit: u8,
    strange: Option<StrangeRun>,
    restarts: u8,
    restart_us: u64,
    /// The stream of the last datagram with a place.
    pub(super) home: usize,
    /// The first number of the current stream, the one after the last, and how many arrived.
    first: u64,
    end: u64,
    distinct: u64,
    /// What was missing in the streams before.
    missing_before: u64,
    is_started: bool,
}

impl Leg {
    pub(super) const fn new() -> Self {
        Self {
            last: None,
            credit: FULL_CREDIT,
            strange: None,
            restarts: MOST_RESTARTS,
            restart_us: 0,
            home: 0,
            first: 0,
            end: 0,
            distinct: 0,
            missing_before: 0,
            is_started: false,
        }
    }

    /// Compares a number with the one before.
    #[inline]
    pub(super) fn follow(&mut self, number: FeedNumber, mask: u64) {
        let Some(last) = self.last.replace(number) else { return };
        let ahead = number.first.wrapping_sub(last.first) & mask;
        let is_near = ahead <= NEAR || ahead.wrapping_neg() & mask <= NEAR;
        self.credit = match ahead {
            _ if last.stream != number.stream || !is_near => self.credit / 2,
            // A feed that repeats one number has nothing to say.
            0 => self.credit.saturating_sub(1),
            _ => (self.credit + 1).min(FULL_CREDIT),
        };
    }

    /// Whether its numbers are believed.
    #[inline]
    pub(super) const fn is_trusted(&self) -> bool {
        self.credit > 0
    }

    /// Whether a large step of its numbers is believed.
    pub(super) const fn may_step(&self) -> bool {
        self.credit >= STEP_CREDIT
    }

    /// Adds a number that continues no stream to the run of such numbers, and returns that.
    pub(super) fn extend_run(&mut self, number: FeedNumber, mask: u64, new: u64) -> StrangeRun {
        let follows = |run: &StrangeRun| {
            let ahead = number.first.wrapping_sub(run.last.first) & mask;
            run.last.stream == number.stream && (1..=NEAR).contains(&ahead)
        };
        let run = match self.strange.filter(follows) {
            Some(run) => StrangeRun { len: run.len + 1, last: number, ..run },
            None => StrangeRun { len: 1, last: number, new_before: new },
        };
        self.strange = Some(run);
        run
    }

    /// Ends the run of strange numbers.
    #[inline]
    pub(super) fn end_run(&mut self) {
        self.strange = None;
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
        let end = first.wrapping_add(count);
        if !self.is_started || stream != self.home {
            self.missing_before = self.missing();
            (self.first, self.end, self.distinct) = (first, end, 0);
            (self.is_started, self.home) = (true, stream);
        }
        if first.wrapping_sub(self.first).cast_signed() < 0 {
            self.first = first;
        }
        if end.wrapping_sub(self.end).cast_signed() > 0 {
            self.end = end;
        }
        self.distinct += fresh;
    }

    /// Begins to count anew when its stream is used for other numbers.
    pub(super) fn leave(&mut self, stream: usize) {
        if self.is_started && self.home == stream {
            self.missing_before = self.missing();
            self.is_started = false;
        }
    }

    /// Numbers between its first and its last one that it has not delivered.
    pub(super) fn missing(&self) -> u64 {
        let own = if self.is_started { self.end.wrapping_sub(self.first) } else { 0 };
        let own = if self.is_started { own.saturating_sub(self.distinct) } else { 0 };
        self.missing_before + own
    }
}
