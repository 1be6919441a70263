//! The numbers of all feeds of a rule: several streams, since senders may share a port, one feed may
//! begin anew while another is still behind, and a feed which replays old numbers must not stop the
//! others. `strange` handles numbers that continue none.

mod strange;

use super::leg::{DatagramSpan, FeedNumbers, Leg, STREAMS};
use super::stream::{Marked, NumberWindow, Position};
use super::witness::Witness;
use super::{FeedPlace, MAX_LEGS};
use crate::stats::merged::SentStream;
use crate::stats::sequences::Units;

/// Numbers in the window of RTP: a quarter of all, so that old and new ones differ.
const SHORT_WINDOW: usize = 1 << 14;
/// Numbers in the window of longer numbers.
const LONG_WINDOW: usize = 1 << 16;
/// Repeated numbers in sequence that are looked for in another stream.
const DOUBTED_REPEATS: u64 = 4;
/// A feed behind by more than this is taken for one that repeats. A stream without anything new for
/// as long is free.
const IDLE_US: u64 = 3_000_000;

/// A datagram, or the first of several that follow one another: each has as many numbers, which
/// continue those of the one before.
#[derive(Clone, Copy)]
pub(super) struct NumberedDatagrams<'a> {
    pub(super) units: Units,
    pub(super) datagrams: u8,
    /// The bytes of the first one.
    pub(super) content: &'a [u8],
}

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

/// The last heartbeat that was sent, or end of a session.
struct Heartbeat {
    stream: u64,
    /// Whether it was an end, and the number of the next message.
    state: (bool, u64),
    leg: usize,
    at_us: u64,
}

pub(super) struct Sequences {
    legs: [Leg; MAX_LEGS],
    streams: [NumberWindow; STREAMS],
    mask: u64,
    /// How far a feed may be ahead of another, in microseconds, so that what that one delivers behind
    /// it is sent.
    most_ahead_us: u64,
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
    heartbeat: Option<Heartbeat>,
    witness: Witness,
}

impl Sequences {
    pub(super) fn new(bits: u32, most_ahead_us: u64) -> Self {
        let window = if bits <= 16 { SHORT_WINDOW } else { LONG_WINDOW };
        Self {
            legs: [const { Leg::new() }; MAX_LEGS],
            streams: std::array::from_fn(|_| NumberWindow::new(window)),
            mask: u64::MAX >> (64 - bits.clamp(1, 64)),
            most_ahead_us,
            lost: 0,
            restarts: 0,
            new: 0,
            opening: 0,
            advanced: 0,
            begun: 0,
            epochs: [0; STREAMS],
            span: None,
            heartbeat: None,
            witness: Witness::default(),
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

    /// Finds the place of the first of some datagrams, and how many of them share it.
    #[inline]
    pub(super) fn place_run(
        &mut self,
        leg: usize,
        run: NumberedDatagrams<'_>,
        now_us: u64,
    ) -> (FeedPlace, u8) {
        if run.datagrams > 1
            && let Some((at, position, alike)) = self.alike(leg, run, now_us)
        {
            let (stream, count) = (run.units.stream, u64::from(alike) * run.units.count);
            let first = self.streams[at].number_at(position);
            let span = DatagramSpan { first, end: first.wrapping_add(count), datagrams: alike };
            self.span = None;
            self.legs[leg].follow(at, span);
            if matches!(position, Position::Far(_)) {
                self.legs[leg].end_strange(stream);
            }
            return (self.place_marked(at, leg, (span, stream), now_us), alike);
        }
        (self.place(leg, run, now_us), 1)
    }

    /// How many of some datagrams are alike to the stream of the datagram before, with that and
    /// their position in it; `None` if each needs a look of its own.
    #[inline]
    fn alike(
        &self,
        leg: usize,
        run: NumberedDatagrams<'_>,
        now_us: u64,
    ) -> Option<(usize, Position, u8)> {
        let (units, own) = (run.units, &self.legs[leg]);
        let at = own.home;
        if !own.may_step(at) || own.repeated() > 0 {
            return None;
        }
        let (stream, numbers) = (&self.streams[at], u64::from(run.datagrams) * units.count);
        let position = stream.find(units.stream, units.first, self.mask);
        let first = stream.number_at(position);
        let alike = match position {
            Position::Near(_) => numbers,
            Position::Far(_) if own.may_leap(at, first) && !stream.awaits_step() => numbers,
            Position::Behind(by) if !self.may_be_sent(at, first) => {
                let since_us = now_us.saturating_sub(IDLE_US);
                stream.alike(leg, first, numbers.min(by), since_us)
            }
            _ => return None,
        };
        let alike = self.witness.numbers_before(at, leg, first).min(alike);
        let alike = u8::try_from(alike.checked_div(units.count)?).ok()?;
        (alike > 1).then_some((at, position, alike))
    }

    /// Whether a process before this one may have sent this number, which is below the next one.
    #[inline]
    fn may_be_sent(&self, at: usize, number: u64) -> bool {
        self.opening & 1 << at != 0 && !self.streams[at].is_above_floor(number)
    }

    /// Finds the place of a datagram.
    #[inline]
    pub(super) fn place(
        &mut self,
        leg: usize,
        datagram: NumberedDatagrams<'_>,
        now_us: u64,
    ) -> FeedPlace {
        let units = datagram.units;
        self.span = None;
        if units.count == 0 {
            return self.place_heartbeat(leg, units, now_us);
        }
        let found = self.find(leg, units);
        let place =
            found.and_then(|(at, position)| self.place_in(at, position, leg, datagram, now_us));
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
            place @ Position::Behind(_) => {
                self.streams[at].has(leg, self.streams[at].number_at(place))
            }
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
        datagram: NumberedDatagrams<'_>,
        now_us: u64,
    ) -> Option<FeedPlace> {
        if position == Position::Elsewhere {
            return None;
        }
        let (units, first) = (datagram.units, self.streams[at].number_at(position));
        let span = DatagramSpan { first, end: first.wrapping_add(units.count), datagrams: 1 };
        if !self.legs[leg].follow(at, span) {
            None
        } else if matches!(position, Position::Far(_)) {
            self.place_far(at, leg, (span, datagram), now_us)
        } else {
            let seen = self.witness.confirms(at, leg, (first, datagram.content), now_us);
            if let Some((leg, _)) = seen.filter(|(_, ahead_us)| *ahead_us <= self.most_ahead_us) {
                self.legs[leg].confirm(at);
            }
            Some(self.place_marked(at, leg, (span, units.stream), now_us))
        }
    }

    /// Marks the numbers of datagrams near the next one, or behind it; all of these share a place.
    #[inline]
    fn place_marked(
        &mut self,
        at: usize,
        leg: usize,
        (span, stream): (DatagramSpan, u64),
        now_us: u64,
    ) -> FeedPlace {
        let DatagramSpan { first, end, datagrams } = span;
        let count = end.wrapping_sub(first);
        let known = &mut self.streams[at];
        let is_next = end.wrapping_sub(known.sent().next).cast_signed() > 0;
        if is_next {
            self.lost += known.advance(end);
        }
        let Marked { new, fresh, since_us, is_others } = known.mark(leg, first, count, now_us);
        // What is below the beginning was never missing.
        let was_missing = if is_next || known.is_above_floor(first) { new } else { 0 };
        self.lost = self.lost.saturating_sub(was_missing);
        self.legs[leg].count(at, span, fresh);
        if !is_next && self.may_be_sent(at, first) {
            return FeedPlace::Duplicate { skew_us: None };
        }
        if new > 0 {
            self.new += u64::from(datagrams);
            self.advanced |= 1 << at;
            self.span = Some(NumberSpan { at, epoch: self.epochs[at], first, count });
            self.streams[at].note_new(datagrams, now_us);
            self.legs[leg].end_repeats();
            return if is_next { FeedPlace::First } else { FeedPlace::Late };
        }
        let behind_us = now_us.saturating_sub(since_us);
        if fresh == 0 || behind_us > IDLE_US {
            return self.place_repeat(leg, FeedNumbers { stream, first, end }, now_us);
        }
        self.legs[leg].end_repeats();
        FeedPlace::Duplicate { skew_us: is_others.then_some(behind_us) }
    }

    /// The place of a heartbeat, or of the end of a session: those of one feed are sent, and those
    /// of another if they say more, or once that feed is silent.
    #[cold]
    fn place_heartbeat(&mut self, leg: usize, units: Units, now_us: u64) -> FeedPlace {
        /// MoldUDP64 has one every second.
        const SILENCE_US: u64 = 3_000_000;
        let state = (units.is_end, units.first);
        let is_known = self.heartbeat.as_ref().is_some_and(|known| {
            (known.stream, known.leg != leg) == (units.stream, true)
                && state <= known.state
                && now_us.saturating_sub(known.at_us) < SILENCE_US
        });
        if is_known {
            return FeedPlace::Duplicate { skew_us: None };
        }
        self.heartbeat = Some(Heartbeat { stream: units.stream, state, leg, at_us: now_us });
        FeedPlace::First
    }
}
