//! The numbers of all feeds of a rule: several streams, since senders may share a port, one feed may
//! begin anew while another is still behind, and a feed which replays old numbers must not stop the
//! others.

use super::leg::{FeedMoment, FeedNumber, Leg, NumberRun, STREAMS};
use super::stream::{Marked, NumberWindow, Position};
use super::{FeedPlace, MAX_LEGS};
use crate::stats::merged::SentStream;
use crate::stats::sequences::Units;

/// Numbers in the window of RTP: a quarter of all, so that old and new ones differ.
const SHORT_WINDOW: usize = 1 << 14;
/// Numbers in the window of longer numbers.
const LONG_WINDOW: usize = 1 << 16;
/// Strange numbers in sequence that begin a stream, in a pause of the others.
const RESTART_RUN: u64 = 4;
/// The same without a pause, if no others are new in as long, or few of them.
const DOUBTFUL_RUN: u64 = 64;
/// Numbers in sequence that a feed has to repeat to begin a stream in a pause: networks repeat a few.
const REPEATED_RUN: u64 = 32;
/// Repeated numbers in sequence that are looked for in another stream.
const DOUBTED_REPEATS: u64 = 4;
/// A feed behind by more than this is taken for one that repeats. A stream without anything new for
/// as long is free.
const IDLE_US: u64 = 3_000_000;

/// New numbers of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberSpan {
    /// The place of their stream among those that are known.
    pub(super) at: usize,
    /// How often streams had begun when that one did.
    pub(super) epoch: u64,
    /// The first number, which does not wrap.
    pub(super) first: u64,
    pub(super) count: u64,
}

pub(super) struct Sequences {
    legs: [Leg; MAX_LEGS],
    streams: [NumberWindow; STREAMS],
    mask: u64,
    lost: u64,
    restarts: u64,
    /// Datagrams that were new.
    new: u64,
    /// The streams of which a process before this one may have sent numbers, one bit for each: the
    /// one that began with the first datagram, and those that continue.
    opening: u8,
    /// The streams with new numbers since [`Sequences::take_advanced`], one bit for each.
    advanced: u8,
    /// How often streams have begun, and when each of them did by that count.
    begun: u64,
    epochs: [u64; STREAMS],
    /// The numbers of the last datagram, if it is new and has a place.
    span: Option<NumberSpan>,
    /// The last heartbeat, the feed that it came from, and when.
    heartbeat: Option<(u64, usize, u64)>,
}

impl Sequences {
    pub(super) fn new(bits: u32) -> Self {
        let window = if bits <= 16 { SHORT_WINDOW } else { LONG_WINDOW };
        Self {
            legs: [const { Leg::new() }; MAX_LEGS],
            streams: std::array::from_fn(|_| NumberWindow::new(window)),
            mask: u64::MAX >> (64 - bits.clamp(1, 64)),
            lost: 0,
            restarts: 0,
            new: 0,
            opening: 0,
            advanced: 0,
            begun: 0,
            epochs: [0; STREAMS],
            span: None,
            heartbeat: None,
        }
    }

    /// Continues streams that another process has sent so far.
    pub(super) fn resume(&mut self, sent: &[Option<SentStream>; STREAMS]) {
        for (at, sent) in sent.iter().enumerate() {
            if let Some(SentStream { id, next }) = *sent {
                self.streams[at].begin(id, next, 0);
                self.begun += 1;
                self.epochs[at] = self.begun;
                self.opening |= 1 << at;
            }
        }
    }

    /// The stream that has new numbers, and how far it was sent, of one after the other since the
    /// last call.
    pub(super) fn take_advanced(&mut self) -> Option<(usize, SentStream)> {
        if self.advanced == 0 {
            return None;
        }
        let at = self.advanced.trailing_zeros() as usize;
        self.advanced &= self.advanced - 1;
        Some((at, self.sent(at)))
    }

    /// How far a stream was sent.
    pub(super) const fn sent(&self, at: usize) -> SentStream {
        self.streams[at].sent()
    }

    /// The number of times that streams had begun when this one did.
    pub(super) const fn epoch(&self, at: usize) -> u64 {
        self.epochs[at]
    }

    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) const fn restarts(&self) -> u64 {
        self.restarts
    }

    pub(super) fn missing(&self, leg: usize) -> u64 {
        self.legs[leg].missing()
    }

    /// The numbers of the last datagram, if it is new and has a place.
    pub(super) const fn span(&self) -> Option<NumberSpan> {
        self.span
    }

    /// Finds the place of these units.
    #[inline]
    pub(super) fn place(&mut self, leg: usize, units: Units, now_us: u64) -> FeedPlace {
        self.span = None;
        if units.count == 0 {
            return self.place_heartbeat(leg, units, now_us);
        }
        let found = self.find(leg, units);
        let place =
            found.and_then(|(at, position)| self.place_in(at, position, leg, units, now_us));
        place.unwrap_or_else(|| self.place_strange(leg, units, now_us))
    }

    /// The stream that has a place for these units: the one of the datagram before, unless the feed
    /// only repeats there.
    #[inline]
    fn find(&self, leg: usize, units: Units) -> Option<(usize, Position)> {
        let home = self.legs[leg].home;
        let position = |at: usize| self.streams[at].find(units.stream, units.first, self.mask);
        match position(home) {
            Position::Elsewhere => self.find_other(leg, units, &position),
            found if self.legs[leg].repeated() >= DOUBTED_REPEATS => {
                self.find_other(leg, units, &position).or(Some((home, found)))
            }
            found => Some((home, found)),
        }
    }

    /// The latest of the other streams that has a place for these units, where this feed has not
    /// delivered them.
    #[cold]
    fn find_other(
        &self,
        leg: usize,
        units: Units,
        position: &dyn Fn(usize) -> Position,
    ) -> Option<(usize, Position)> {
        let home = self.legs[leg].home;
        let is_repeat = |at: usize| match position(at) {
            Position::Behind(by) => self.streams[at].has(leg, self.streams[at].behind(by)),
            _ => false,
        };
        let others = (0..STREAMS).filter(|&at| at != home && self.streams[at].is_of(units.stream));
        let places = others.map(|at| (at, position(at)));
        let places = places.filter(|&(at, place)| place != Position::Elsewhere && !is_repeat(at));
        places.max_by_key(|&(at, _)| self.streams[at].last_new_us)
    }

    /// The place in a stream; `None` if it has none there.
    #[inline]
    fn place_in(
        &mut self,
        at: usize,
        position: Position,
        leg: usize,
        units: Units,
        now_us: u64,
    ) -> Option<FeedPlace> {
        let stream = &self.streams[at];
        let (first, is_far) = match position {
            Position::Elsewhere => return None,
            Position::Near(by) => (stream.ahead(by), false),
            Position::Behind(by) => (stream.behind(by), false),
            Position::Far(by) => (stream.ahead(by), true),
        };
        let units = Units { first, ..units };
        if !self.legs[leg].follow(at, first) {
            None
        } else if is_far {
            self.place_far(at, leg, units, now_us)
        } else {
            Some(self.place_marked(at, leg, units, now_us))
        }
    }

    /// Marks units near the next number, or behind it.
    #[inline]
    fn place_marked(&mut self, at: usize, leg: usize, units: Units, now_us: u64) -> FeedPlace {
        let Units { first, count, .. } = units;
        let stream = &mut self.streams[at];
        let end = first.wrapping_add(count);
        let is_next = end.wrapping_sub(stream.ahead(0)).cast_signed() > 0;
        if is_next {
            self.lost += stream.advance(end);
        }
        let Marked { new, fresh, since_us, is_others } = stream.mark(leg, first, count, now_us);
        // What is below the beginning was never missing.
        let was_missing = if is_next || stream.is_above_floor(first) { new } else { 0 };
        self.lost = self.lost.saturating_sub(was_missing);
        self.legs[leg].count(at, first, count, fresh);
        let is_opening = self.opening & 1 << at != 0;
        if !is_next && is_opening && !self.streams[at].is_above_floor(first) {
            // A process before this one may have sent it.
            return FeedPlace::Duplicate { skew_us: None };
        }
        if new > 0 {
            self.new += 1;
            self.advanced |= 1 << at;
            self.span = Some(NumberSpan { at, epoch: self.epochs[at], first, count });
            self.streams[at].note_new(now_us);
            self.legs[leg].end_repeats();
            return if is_next { FeedPlace::First } else { FeedPlace::Late };
        }
        let behind_us = now_us.saturating_sub(since_us);
        if fresh == 0 || behind_us > IDLE_US {
            return self.place_repeat(leg, units, now_us);
        }
        self.legs[leg].end_repeats();
        FeedPlace::Duplicate { skew_us: is_others.then_some(behind_us) }
    }

    /// The place of units that the feed has delivered before, or another one long ago: the sender
    /// may have begun anew, not far back.
    #[cold]
    fn place_repeat(&mut self, leg: usize, units: Units, now_us: u64) -> FeedPlace {
        let number = FeedNumber { stream: units.stream, first: units.first };
        let run = self.legs[leg].extend_repeats(number, FeedMoment { now_us, new: self.new });
        if run.len < REPEATED_RUN
            || !self.is_beginning(&run, number.stream, now_us)
            || !self.legs[leg].take_restart(now_us)
        {
            return FeedPlace::Duplicate { skew_us: None };
        }
        self.begin_anew(leg, units, now_us)
    }

    /// The place of a number far ahead: in a pause, all feeds may have missed those between.
    #[cold]
    fn place_far(&mut self, at: usize, leg: usize, units: Units, now_us: u64) -> Option<FeedPlace> {
        let stream = &mut self.streams[at];
        if let Some((step, by)) = stream.confirm_step(units.first) {
            self.place_marked(at, by, Units { first: step, count: 1, ..units }, now_us);
            return Some(self.place_marked(at, leg, units, now_us));
        }
        if stream.has_step(units.first) {
            return Some(FeedPlace::Duplicate { skew_us: None });
        }
        if !self.legs[leg].may_step(at) || !stream.is_paused(now_us) {
            return None;
        }
        stream.set_step(units.first, leg);
        stream.note_new(now_us);
        self.new += 1;
        Some(FeedPlace::First)
    }

    /// The place of a number of no stream: another sender, or one that has begun anew.
    #[cold]
    fn place_strange(&mut self, leg: usize, units: Units, now_us: u64) -> FeedPlace {
        if !self.streams.iter().any(NumberWindow::is_started) {
            let place = self.begin(0, leg, units, now_us);
            self.opening = 1;
            return place;
        }
        let number = FeedNumber { stream: units.stream, first: units.first };
        let now = FeedMoment { now_us, new: self.new };
        let run = self.legs[leg].extend_strange(number, self.mask, now);
        let is_known = self.streams.iter().any(|stream| stream.is_of(units.stream));
        let is_beside = !is_known && self.free_stream(now_us).is_some();
        let is_begin = is_beside || self.is_beginning(&run, units.stream, now_us);
        if run.len < RESTART_RUN || !is_begin || !self.legs[leg].take_restart(now_us) {
            return FeedPlace::OutOfSequence;
        }
        self.begin_anew(leg, units, now_us)
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

    /// Begins another stream with these units.
    fn begin_anew(&mut self, leg: usize, units: Units, now_us: u64) -> FeedPlace {
        self.restarts += 1;
        let at = self.free_stream(now_us).unwrap_or_else(|| self.longest_idle());
        self.begin(at, leg, units, now_us)
    }

    /// Begins a stream with these units.
    fn begin(&mut self, at: usize, leg: usize, units: Units, now_us: u64) -> FeedPlace {
        self.legs.iter_mut().for_each(|leg| leg.leave(at));
        self.opening &= !(1 << at);
        self.streams[at].begin(units.stream, units.first, now_us);
        self.begun += 1;
        self.epochs[at] = self.begun;
        self.legs[leg].end_strange(units.stream);
        self.legs[leg].follow(at, units.first);
        self.place_marked(at, leg, units, now_us)
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

    /// The place of a heartbeat, or of the end of a session: those of one feed are sent, and those
    /// of another once that feed is silent.
    #[cold]
    fn place_heartbeat(&mut self, leg: usize, units: Units, now_us: u64) -> FeedPlace {
        /// MoldUDP64 has one every second.
        const SILENCE_US: u64 = 3_000_000;
        let is_known = |(number, from, at_us): &(u64, usize, u64)| {
            *number == units.first && *from != leg && now_us.saturating_sub(*at_us) < SILENCE_US
        };
        if self.heartbeat.as_ref().is_some_and(is_known) {
            return FeedPlace::Duplicate { skew_us: None };
        }
        self.heartbeat = Some((units.first, leg, now_us));
        FeedPlace::First
    }
}
