//! The window of one numbering: which feeds have delivered each of the last numbers, and when the
//! first of them did.

use std::ops::Range;

use super::MAX_LEGS;
use super::leg::NEAR;
use crate::stats::merged::SentStream;

/// Where a number is in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// This far behind the next number, within the window.
    Behind(u64),
    /// The next number, or one shortly after it, this far ahead.
    Near(u64),
    /// Further ahead, but possible.
    Far(u64),
    /// Not of this stream.
    Elsewhere,
}

/// What a stream knew of the numbers of a datagram before they were marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marked {
    /// Numbers that no feed had delivered.
    pub(super) new: u64,
    /// Numbers that this feed had not delivered.
    pub(super) fresh: u64,
    /// When the first of them arrived, and whether only from other feeds.
    pub(super) since_us: u64,
    pub(super) is_others: bool,
}

/// The numbers of a datagram far ahead that was sent, and the feed that delivered it.
#[derive(Clone, Copy)]
pub(super) struct FarStep {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) leg: usize,
}

/// The datagrams that a mean of intervals follows.
const INTERVAL_UNITS: u64 = 64;
/// The mean intervals of a pause, and its least duration.
const PAUSE_INTERVALS: u64 = 16;
const LEAST_PAUSE_US: u64 = 500;
/// Longer times between new datagrams are pauses, not intervals.
const MOST_INTERVAL_US: u64 = 20_000;

pub(super) struct NumberWindow {
    id: u64,
    next: u64,
    /// The first number: those before it are not missing.
    floor: u64,
    is_started: bool,
    /// Numbers far ahead that were sent, until those after them confirm them; and who sent them.
    step: Option<FarStep>,
    /// The feeds that have delivered each number, one bit for each.
    feeds: Box<[u8]>,
    arrivals_us: Box<[u64]>,
    /// When the last new datagram arrived.
    pub(super) last_new_us: u64,
    /// The mean time between new datagrams, in [`INTERVAL_UNITS`]ths of a microsecond.
    interval: u64,
}

const _: () = assert!(MAX_LEGS <= 8);

impl NumberWindow {
    pub(super) fn new(window: usize) -> Self {
        let (feeds, arrivals_us) = (vec![0; window].into(), vec![0; window].into());
        let (id, next, floor, is_started) = (0, 0, 0, false);
        Self {
            id,
            next,
            floor,
            is_started,
            step: None,
            feeds,
            arrivals_us,
            last_new_us: 0,
            interval: 0,
        }
    }

    /// Begins with this number.
    pub(super) fn begin(&mut self, id: u64, first: u64, now_us: u64) {
        self.feeds.fill(0);
        (self.last_new_us, self.interval) = (now_us, 0);
        (self.id, self.next, self.floor, self.is_started) = (id, first, first, true);
        self.step = None;
    }

    /// How far it was sent.
    pub(super) const fn sent(&self) -> SentStream {
        SentStream { id: self.id, next: self.next }
    }

    pub(super) const fn is_started(&self) -> bool {
        self.is_started
    }

    /// Notes that new datagrams arrived, all of them now.
    #[inline]
    pub(super) fn note_new(&mut self, datagrams: u8, now_us: u64) {
        let since_us = now_us.saturating_sub(self.last_new_us).min(MOST_INTERVAL_US);
        self.interval = self.interval - self.interval / INTERVAL_UNITS + since_us;
        for _ in 1..datagrams {
            self.interval -= self.interval / INTERVAL_UNITS;
        }
        self.last_new_us = now_us;
    }

    /// A time without anything new that is long for this stream.
    pub(super) fn pause_us(&self) -> u64 {
        (self.interval * PAUSE_INTERVALS / INTERVAL_UNITS).max(LEAST_PAUSE_US)
    }

    /// Whether nothing new has arrived for that time.
    pub(super) fn is_paused(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.last_new_us) >= self.pause_us()
    }

    /// Whether it has numbers of this sender.
    pub(super) const fn is_of(&self, id: u64) -> bool {
        self.is_started && self.id == id
    }

    /// Whether a feed has delivered this number, which is in the window.
    pub(super) fn has(&self, leg: usize, number: u64) -> bool {
        self.feeds[self.slot(number)] & 1 << leg != 0
    }

    /// Finds the place of a number of this many bits.
    #[inline]
    pub(super) fn find(&self, id: u64, first: u64, mask: u64) -> Position {
        if !self.is_of(id) {
            return Position::Elsewhere;
        }
        let window = self.feeds.len() as u64;
        let ahead = first.wrapping_sub(self.next) & mask;
        let behind = self.next.wrapping_sub(first) & mask;
        match () {
            () if ahead <= NEAR => Position::Near(ahead),
            () if behind <= window => Position::Behind(behind),
            () if ahead <= window => Position::Far(ahead),
            () => Position::Elsewhere,
        }
    }

    /// The number at a position.
    #[inline]
    pub(super) const fn number_at(&self, position: Position) -> u64 {
        match position {
            Position::Near(by) | Position::Far(by) => self.next.wrapping_add(by),
            Position::Behind(by) => self.next.wrapping_sub(by),
            Position::Elsewhere => self.next,
        }
    }

    /// Makes `end` the next number; returns how many are passed over, which are missing for now.
    #[inline]
    pub(super) fn advance(&mut self, end: u64) -> u64 {
        let passed = end.wrapping_sub(self.next);
        for range in self.places(self.next, passed) {
            self.feeds[range].fill(0);
        }
        self.next = end;
        passed
    }

    /// How many of these numbers below the next one are as the first: no feed has delivered them, or
    /// the same other ones have, at the same time. 0 if this feed has, or all others long ago.
    #[inline]
    pub(super) fn alike(&self, leg: usize, first: u64, count: u64, since_us: u64) -> u64 {
        let at = self.slot(first);
        let (feeds, arrival_us) = (self.feeds[at], self.arrivals_us[at]);
        if feeds & 1 << leg != 0 || feeds != 0 && arrival_us < since_us {
            return 0;
        }
        let mut alike = 0;
        for range in self.places(first, count) {
            let len = range.len();
            let places = self.feeds[range.clone()].iter().zip(&self.arrivals_us[range]);
            let is_alike =
                |place: &(&u8, &u64)| *place.0 == feeds && (feeds == 0 || *place.1 == arrival_us);
            let found = places.take_while(is_alike).count();
            alike += found as u64;
            if found < len {
                break;
            }
        }
        alike
    }

    /// Marks numbers below the next one as delivered by a feed.
    #[inline]
    pub(super) fn mark(&mut self, leg: usize, first: u64, count: u64, now_us: u64) -> Marked {
        let own = 1_u8 << leg;
        let at = self.slot(first);
        let is_others = self.feeds[at] & !own != 0 && self.feeds[at] & own == 0;
        let since_us = self.arrivals_us[at];
        let (mut new, mut fresh) = (0, 0);
        for range in self.places(first, count) {
            let places = self.feeds[range.clone()].iter_mut().zip(&mut self.arrivals_us[range]);
            for (feeds, arrival_us) in places {
                if *feeds == 0 {
                    new += 1;
                    *arrival_us = now_us;
                }
                fresh += u64::from(*feeds & own == 0);
                *feeds |= own;
            }
        }
        Marked { new, fresh, since_us, is_others }
    }

    /// How many of the numbers from here to the next one were missing, as the stream began before.
    #[inline]
    pub(super) const fn is_above_floor(&self, number: u64) -> bool {
        number.wrapping_sub(self.floor).cast_signed() >= 0
    }

    /// Handles numbers far ahead, which are sent, but believed only if others follow them. Returns
    /// the step that these confirm.
    pub(super) fn confirm_step(&mut self, first: u64) -> Option<FarStep> {
        let step = self.step?;
        let ahead = first.wrapping_sub(step.first.wrapping_add(step.count));
        if ahead < NEAR { self.step.take() } else { None }
    }

    /// Whether numbers far ahead were sent and not confirmed.
    #[inline]
    pub(super) const fn awaits_step(&self) -> bool {
        self.step.is_some()
    }

    /// Whether this number far ahead was sent.
    pub(super) fn has_step(&self, number: u64) -> bool {
        self.step.is_some_and(|step| number.wrapping_sub(step.first) < step.count)
    }

    /// Remembers numbers far ahead.
    pub(super) fn set_step(&mut self, step: FarStep) {
        self.step = Some(step);
    }

    /// The places of numbers, which may go on at the start; at most all.
    #[inline]
    fn places(&self, first: u64, count: u64) -> [Range<usize>; 2] {
        let window = self.feeds.len();
        let count = usize::try_from(count).unwrap_or(window).min(window);
        let start = self.slot(first);
        let end = (start + count).min(window);
        [start..end, 0..start + count - end]
    }

    #[inline]
    fn slot(&self, number: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "the window is far smaller")]
        let at = number as usize;
        at & (self.feeds.len() - 1)
    }
}
