//! The numbers of all feeds of a rule: two streams, so that one feed may begin anew while another is
//! still behind, and so that a feed which replays old numbers cannot stop the others.

use super::leg::{FeedNumber, Leg, StrangeRun};
use super::stream::{Marked, NumberWindow, Position};
use super::{FeedPlace, MAX_LEGS};
use crate::stats::sequences::Units;

/// Numbers in the window of RTP: a quarter of all, so that old and new ones differ.
const SHORT_WINDOW: usize = 1 << 14;
/// Numbers in the window of longer numbers.
const LONG_WINDOW: usize = 1 << 16;
/// Strange numbers in sequence that begin a stream, while no feed delivers anything new.
const RESTART_RUN: u64 = 4;
/// The same while other feeds do, if they deliver less than a quarter as much.
const DOUBTFUL_RUN: u64 = 64;

pub(super) struct Sequences {
    legs: [Leg; MAX_LEGS],
    streams: [NumberWindow; 2],
    mask: u64,
    lost: u64,
    restarts: u64,
    /// Datagrams that were new.
    new: u64,
    /// The last heartbeat, the feed that it came from, and when.
    heartbeat: Option<(u64, usize, u64)>,
}

impl Sequences {
    pub(super) fn new(bits: u32) -> Self {
        let window = if bits <= 16 { SHORT_WINDOW } else { LONG_WINDOW };
        Self {
            legs: [const { Leg::new() }; MAX_LEGS],
            streams: [NumberWindow::new(window), NumberWindow::new(window)],
            mask: u64::MAX >> (64 - bits.clamp(1, 64)),
            lost: 0,
            restarts: 0,
            new: 0,
            heartbeat: None,
        }
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

    /// Finds the place of these units.
    #[inline]
    pub(super) fn place(&mut self, leg: usize, units: Units, now_us: u64) -> FeedPlace {
        if units.count == 0 {
            return self.place_heartbeat(leg, units, now_us);
        }
        let number = FeedNumber { stream: units.stream, first: units.first };
        self.legs[leg].follow(number, self.mask);
        if !self.streams.iter().any(NumberWindow::is_started) {
            self.streams[0].begin(units.stream, units.first);
        }
        let home = self.legs[leg].home;
        for at in [home, 1 - home] {
            let position = self.streams[at].find(units.stream, units.first, self.mask);
            if let Some(place) = self.place_in(at, position, leg, units, now_us) {
                self.legs[leg].end_run();
                return place;
            }
        }
        self.place_strange(leg, units, now_us)
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
        if !self.legs[leg].is_trusted() {
            return None;
        }
        let stream = &self.streams[at];
        match position {
            Position::Elsewhere => None,
            Position::Near(by) => {
                let first = stream.ahead(by);
                Some(self.place_marked(at, leg, Units { first, ..units }, now_us))
            }
            Position::Behind(by) => {
                let first = stream.behind(by);
                Some(self.place_marked(at, leg, Units { first, ..units }, now_us))
            }
            Position::Far(by) => {
                let first = stream.ahead(by);
                self.place_far(at, leg, Units { first, ..units }, now_us)
            }
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
        let Marked { new, fresh, before_us } = stream.mark(leg, first, count, now_us);
        // What is below the beginning was never missing.
        let was_missing = if is_next || stream.is_above_floor(first) { new } else { 0 };
        self.lost = self.lost.saturating_sub(was_missing);
        self.legs[leg].count(at, first, count, fresh);
        if new == 0 {
            let skew_us = before_us.map(|before_us| now_us.saturating_sub(before_us));
            return FeedPlace::Duplicate { skew_us };
        }
        self.new += 1;
        self.streams[at].last_new = self.new;
        if is_next { FeedPlace::First } else { FeedPlace::Late }
    }

    /// The place of a number far ahead: all feeds may have missed those between.
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
        if !self.legs[leg].may_step() {
            return None;
        }
        stream.set_step(units.first, leg);
        self.new += 1;
        stream.last_new = self.new;
        Some(FeedPlace::First)
    }

    /// The place of a number of no stream: the sender may have begun anew.
    #[cold]
    fn place_strange(&mut self, leg: usize, units: Units, now_us: u64) -> FeedPlace {
        let number = FeedNumber { stream: units.stream, first: units.first };
        let run = self.legs[leg].extend_run(number, self.mask, self.new);
        let StrangeRun { len, new_before, .. } = run;
        let others = self.new - new_before;
        let needed = if others == 0 { RESTART_RUN } else { DOUBTFUL_RUN };
        let is_restart = len >= needed && others < len.div_ceil(4);
        if !is_restart || !self.legs[leg].take_restart(now_us) {
            return FeedPlace::OutOfSequence;
        }
        // The stream that was idle for longer gives way.
        let at = usize::from(self.streams[1].last_new < self.streams[0].last_new);
        self.legs.iter_mut().for_each(|leg| leg.leave(at));
        self.streams[at].begin(units.stream, units.first);
        self.restarts += 1;
        self.legs[leg].end_run();
        self.place_marked(at, leg, units, now_us)
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
