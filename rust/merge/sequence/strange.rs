//! Numbers that continue no stream: the feed has lost many, or is ahead of all others; the sender has
//! begun anew, or is another one; or the feed is not to be believed.

use super::super::FeedPlace;
use super::super::leg::{DatagramSpan, FeedMoment, FeedNumbers, NumberRun, STREAMS};
use super::super::stream::{FarStep, NumberWindow};
use super::{IDLE_US, NumberedDatagrams, Sequences};
use crate::stats::sequences::Units;

/// Strange numbers in sequence that begin a stream, in a pause of the others.
const RESTART_RUN: u64 = 4;
/// The same without a pause, if no others are new in as long, or few of them.
const DOUBTFUL_RUN: u64 = 64;
/// Numbers in sequence that a feed has to repeat to begin a stream in a pause: networks repeat a few.
const REPEATED_RUN: u64 = 32;

impl Sequences {
    /// The place of numbers that the feed has delivered before, or another one long ago: the sender
    /// may have begun anew, not far back.
    #[cold]
    pub(super) fn place_repeat(
        &mut self,
        leg: usize,
        numbers: FeedNumbers,
        now_us: u64,
    ) -> FeedPlace {
        let now = FeedMoment { now_us, new: self.new };
        let run = self.legs[leg].extend_repeats(numbers, now);
        if run.len < REPEATED_RUN
            || !self.is_beginning(&run, numbers.stream, now_us)
            || !self.legs[leg].take_restart(now_us)
        {
            return FeedPlace::Duplicate { skew_us: None };
        }
        self.begin_anew(leg, numbers, now_us)
    }

    /// The place of a number far ahead: the feed may have lost those between, or is ahead of all
    /// others, or in a pause all feeds may have missed them.
    #[cold]
    pub(super) fn place_far(
        &mut self,
        at: usize,
        leg: usize,
        (span, datagram): (DatagramSpan, NumberedDatagrams<'_>),
        now_us: u64,
    ) -> Option<FeedPlace> {
        let (units, first) = (datagram.units, span.first);
        let stream = &mut self.streams[at];
        if let Some(FarStep { first, count, leg: by }) = stream.confirm_step(first) {
            let step = DatagramSpan { first, end: first.wrapping_add(count), datagrams: 1 };
            self.place_marked(at, by, (step, units.stream), now_us);
            return Some(self.place_marked(at, leg, (span, units.stream), now_us));
        }
        if stream.has_step(first) {
            return Some(FeedPlace::Duplicate { skew_us: None });
        }
        let may_step = stream.is_paused(now_us) && self.legs[leg].may_step(at);
        // What is sent beside those that are held would break their order.
        let has_order = 0 < self.most_ahead_us && self.most_ahead_us < u64::MAX;
        let may_leap = self.legs[leg].may_leap(at, first) || has_order && may_step;
        if may_leap && self.is_sure(leg, numbers_of(units)) {
            self.legs[leg].end_strange(units.stream);
            return Some(self.place_marked(at, leg, (span, units.stream), now_us));
        }
        if has_order || !may_step {
            self.witness.watch(at, leg, (first, datagram.content), now_us);
            return None;
        }
        let stream = &mut self.streams[at];
        stream.set_step(FarStep { first, count: units.count, leg });
        stream.note_new(1, now_us);
        self.new += 1;
        Some(FeedPlace::First)
    }

    /// The place of numbers of no stream: another sender, or one that has begun anew.
    #[cold]
    pub(super) fn place_strange(&mut self, leg: usize, units: Units, now_us: u64) -> FeedPlace {
        let numbers = numbers_of(units);
        if !self.streams.iter().any(NumberWindow::is_started) {
            let place = self.begin(0, leg, numbers, now_us);
            self.opening = 1;
            return place;
        }
        let now = FeedMoment { now_us, new: self.new };
        let run = self.legs[leg].extend_strange(numbers, self.mask, now);
        let is_known = self.streams.iter().any(|stream| stream.is_of(units.stream));
        let is_beside = !is_known && self.free_stream(now_us).is_some();
        let is_begin = if run.len >= RESTART_RUN {
            is_beside || self.is_beginning(&run, units.stream, now_us)
        } else {
            is_beside && self.is_of_others(leg, numbers)
        };
        if !is_begin || !self.legs[leg].take_restart(now_us) {
            return FeedPlace::OutOfSequence;
        }
        self.begin_anew(leg, numbers, now_us)
    }

    /// Whether numbers far ahead are no mistake, or would do no harm: a single wrong number must not
    /// make all others late.
    fn is_sure(&self, leg: usize, numbers: FeedNumbers) -> bool {
        self.most_ahead_us == u64::MAX
            || self.legs[leg].continues_strange(numbers, self.mask)
            || self.is_of_others(leg, numbers)
    }

    /// Whether another feed has delivered the same sender's numbers near these.
    fn is_of_others(&self, leg: usize, numbers: FeedNumbers) -> bool {
        let mut others = self.legs.iter().enumerate().filter(|(other, _)| *other != leg);
        others.any(|(_, other)| other.has_strange_near(numbers, self.mask))
    }

    /// Whether a run of numbers is believed to be a beginning: what else is new in the same time is
    /// nothing after a pause, or little.
    fn is_beginning(&self, run: &NumberRun, stream: u64, now_us: u64) -> bool {
        let others = self.new - run.begin.new;
        let is_of = |known: &&NumberWindow| known.is_of(stream);
        let known = self.streams.iter().filter(is_of).max_by_key(|known| known.last_new_us);
        let Some(known) = known.or(self.streams.iter().max_by_key(|known| known.last_new_us))
        else {
            return true;
        };
        let lasted_us = now_us.saturating_sub(run.begin.now_us);
        let is_long = run.len >= DOUBTFUL_RUN && lasted_us >= known.pause_us();
        others == 0 && known.is_paused(now_us) || is_long && others < run.len.div_ceil(4)
    }

    /// Begins another stream with these numbers.
    fn begin_anew(&mut self, leg: usize, numbers: FeedNumbers, now_us: u64) -> FeedPlace {
        self.restarts += 1;
        let at = self.free_stream(now_us).unwrap_or_else(|| self.longest_idle());
        self.begin(at, leg, numbers, now_us)
    }

    /// Begins a stream with these numbers.
    fn begin(&mut self, at: usize, leg: usize, numbers: FeedNumbers, now_us: u64) -> FeedPlace {
        let FeedNumbers { stream, first, end } = numbers;
        self.legs.iter_mut().for_each(|leg| leg.leave(at));
        self.opening &= !(1 << at);
        self.witness.leave(at);
        self.streams[at].begin(stream, first, now_us);
        self.begun += 1;
        self.epochs[at] = self.begun;
        self.legs[leg].end_strange(stream);
        let span = DatagramSpan { first, end, datagrams: 1 };
        self.legs[leg].follow(at, span);
        self.place_marked(at, leg, (span, stream), now_us)
    }

    /// A stream that is not in use.
    fn free_stream(&self, now_us: u64) -> Option<usize> {
        let unused = self.streams.iter().position(|stream| !stream.is_started());
        let idle = self.longest_idle();
        let is_idle = now_us.saturating_sub(self.streams[idle].last_new_us) > IDLE_US;
        unused.or(is_idle.then_some(idle))
    }

    /// The stream that has had nothing new for the longest time.
    fn longest_idle(&self) -> usize {
        (0..STREAMS).min_by_key(|&at| self.streams[at].last_new_us).unwrap_or(0)
    }
}

/// The numbers of a datagram as it has them.
const fn numbers_of(units: Units) -> FeedNumbers {
    let Units { stream, first, count, .. } = units;
    FeedNumbers { stream, first, end: first.wrapping_add(count) }
}
