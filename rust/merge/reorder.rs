//! The order of merged numbers: what is ahead of a gap is held for a time, until another feed fills
//! the gap.
//!
//! Each datagram that is held has a ticket, a number that ascends in the order of arrival. Its bytes
//! are elsewhere.

use std::collections::VecDeque;

use super::leg::STREAMS;
use super::sequence::NumberSpan;

/// The most datagrams that are held: those of 80 ms at 100,000 a second.
pub const MOST_HELD: usize = 1 << 13;
/// The memory for the order of so many.
pub const ORDER_BYTES: usize = MOST_HELD * (STREAMS * size_of::<HeldSpan>() + size_of::<Ticket>());

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is the next one, or has no place: it is sent.
    Sent,
    /// It is ahead of a gap, and held under this ticket.
    Held(u64),
    /// The gap that it belongs to was given up.
    Late,
}

/// The datagrams of one stream that are held, and the number that is next.
#[derive(Default)]
struct HeldStream {
    epoch: u64,
    next: u64,
    /// In order.
    held: VecDeque<HeldSpan>,
}

#[derive(Clone, Copy)]
struct HeldSpan {
    first: u64,
    end: u64,
    ticket: u64,
}

#[derive(Clone, Copy)]
struct Ticket {
    due_us: u64,
    stream: usize,
    is_held: bool,
}

/// The datagrams of a rule that are held.
pub struct Reorderer {
    hold_us: u64,
    streams: [HeldStream; STREAMS],
    /// In the order of arrival; the first one is held.
    tickets: VecDeque<Ticket>,
    first_ticket: u64,
    /// The streams of which more may leave, one bit for each.
    open: u8,
    /// The streams of which all that is held leaves.
    flushed: u8,
    /// The streams of which something has left since [`Reorderer::take_advanced`].
    advanced: u8,
}

const _: () = assert!(STREAMS <= 8);

impl Reorderer {
    /// Holds nothing yet; each datagram for so long at most.
    pub(super) fn new(hold_us: u64) -> Self {
        let stream =
            || HeldStream { held: VecDeque::with_capacity(MOST_HELD), ..HeldStream::default() };
        Self {
            hold_us,
            streams: std::array::from_fn(|_| stream()),
            tickets: VecDeque::with_capacity(MOST_HELD),
            first_ticket: 0,
            open: 0,
            flushed: 0,
            advanced: 0,
        }
    }

    /// How many more may be held.
    #[must_use]
    pub fn room(&self) -> usize {
        MOST_HELD - self.tickets.len()
    }

    /// Whether something is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// When the next one leaves at the latest.
    #[must_use]
    pub fn due_us(&self) -> Option<u64> {
        let first = self.tickets.front()?;
        Some(if self.open == 0 { first.due_us } else { 0 })
    }

    /// Opens a stream that another process has sent up to a number.
    pub(super) fn resume(&mut self, at: usize, epoch: u64, next: u64) {
        (self.streams[at].epoch, self.streams[at].next) = (epoch, next);
    }

    /// A stream of which more has left, and the number after that, of one after the other since the
    /// last call.
    pub(super) fn take_advanced(&mut self) -> Option<(usize, u64)> {
        if self.advanced == 0 {
            return None;
        }
        let at = self.advanced.trailing_zeros() as usize;
        self.advanced &= self.advanced - 1;
        Some((at, self.streams[at].next))
    }

    /// Opens a stream that begins anew, of which all that is held leaves before anything else.
    /// Returns whether something does.
    pub fn begin(&mut self, span: NumberSpan) -> bool {
        let stream = &mut self.streams[span.at];
        if stream.epoch == span.epoch {
            return false;
        }
        if !stream.held.is_empty() {
            self.flushed |= 1 << span.at;
            self.open |= 1 << span.at;
            return true;
        }
        (stream.epoch, stream.next) = (span.epoch, span.first);
        false
    }

    /// Finds out what becomes of new numbers. There is room, and their stream was begun; if they are
    /// sent, [`Reorderer::pop`] returns what follows.
    pub fn admit(&mut self, span: NumberSpan, now_us: u64) -> Admission {
        let NumberSpan { at, first, count, .. } = span;
        let stream = &mut self.streams[at];
        let end = first.wrapping_add(count);
        if is_before(stream.next, first) {
            let ticket = self.first_ticket + self.tickets.len() as u64;
            let behind = stream.held.iter().rev().take_while(|held| is_before(first, held.first));
            let place = stream.held.len() - behind.count();
            stream.held.insert(place, HeldSpan { first, end, ticket });
            let due_us = now_us + self.hold_us;
            self.tickets.push_back(Ticket { due_us, stream: at, is_held: true });
            return Admission::Held(ticket);
        }
        if !is_before(stream.next, end) {
            return Admission::Late;
        }
        stream.next = end;
        self.open |= 1 << at;
        self.advanced |= 1 << at;
        Admission::Sent
    }

    /// Whether something is held that follows what was sent of this stream.
    #[must_use]
    pub fn is_next(&self, span: NumberSpan) -> bool {
        let stream = &self.streams[span.at];
        stream.held.front().is_some_and(|held| !is_before(stream.next, held.first))
    }

    /// The ticket of the next datagram that leaves now, if one does. It need not be called until
    /// there is none.
    pub fn pop(&mut self, now_us: u64) -> Option<u64> {
        loop {
            while self.open != 0 {
                let at = self.open.trailing_zeros() as usize;
                let is_flushed = self.flushed & 1 << at != 0;
                let stream = &mut self.streams[at];
                let is_next = |held: &&HeldSpan| is_flushed || !is_before(stream.next, held.first);
                if let Some(&held) = stream.held.front().filter(is_next) {
                    stream.held.pop_front();
                    if is_before(stream.next, held.end) {
                        stream.next = held.end;
                    }
                    self.advanced |= 1 << at;
                    self.release(held.ticket);
                    return Some(held.ticket);
                }
                self.open &= !(1 << at);
                self.flushed &= !(1 << at);
            }
            let first = self.tickets.front().filter(|first| first.due_us <= now_us)?;
            let stream = &mut self.streams[first.stream];
            // The ticket is held, so its stream holds something.
            stream.next = stream.held.front().map_or(stream.next, |lowest| lowest.first);
            self.open |= 1 << first.stream;
        }
    }

    /// Lets all that is held leave.
    pub fn expire(&mut self) {
        self.tickets.iter_mut().for_each(|ticket| ticket.due_us = 0);
    }

    /// The oldest ticket that is held, or the next one.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.first_ticket
    }

    fn release(&mut self, ticket: u64) {
        let place = usize::try_from(ticket - self.first_ticket).unwrap_or(usize::MAX);
        if let Some(known) = self.tickets.get_mut(place) {
            known.is_held = false;
        }
        while self.tickets.front().is_some_and(|first| !first.is_held) {
            self.tickets.pop_front();
            self.first_ticket += 1;
        }
    }
}

/// Whether a number is before another one; both are far nearer than half of all.
const fn is_before(one: u64, other: u64) -> bool {
    other.wrapping_sub(one).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(at: usize, epoch: u64, first: u64, count: u64) -> NumberSpan {
        NumberSpan { at, epoch, first, count }
    }

    /// What leaves, by first number.
    struct Line {
        reorderer: Reorderer,
        held: Vec<u64>,
        out: Vec<u64>,
    }

    impl Line {
        fn new(hold_us: u64) -> Self {
            Self { reorderer: Reorderer::new(hold_us), held: Vec::new(), out: Vec::new() }
        }

        fn pop(&mut self, now_us: u64) {
            while let Some(ticket) = self.reorderer.pop(now_us) {
                self.out.push(self.held[usize::try_from(ticket).unwrap()]);
            }
        }

        fn arrive(&mut self, span: NumberSpan, now_us: u64) -> Admission {
            self.pop(now_us);
            if self.reorderer.begin(span) {
                self.pop(now_us);
                assert!(!self.reorderer.begin(span));
            }
            let admission = self.reorderer.admit(span, now_us);
            match admission {
                Admission::Sent => {
                    self.out.push(span.first);
                    self.pop(now_us);
                }
                Admission::Held(ticket) => {
                    assert_eq!(ticket, self.held.len() as u64);
                    self.held.push(span.first);
                }
                Admission::Late => {}
            }
            admission
        }
    }

    #[test]
    fn a_gap_is_held_open_and_given_up() {
        let mut line = Line::new(5000);
        for (first, now_us) in [(1, 0), (3, 100), (4, 200), (2, 300)] {
            line.arrive(span(0, 1, first, 1), now_us);
        }
        assert_eq!(line.out, [1, 2, 3, 4]);
        line.arrive(span(0, 1, 7, 1), 1000);
        line.arrive(span(0, 1, 9, 1), 2000);
        assert_eq!(line.reorderer.due_us(), Some(6000));
        line.pop(5999);
        assert_eq!(line.out.len(), 4);
        line.pop(6000);
        assert_eq!(line.out, [1, 2, 3, 4, 7]);
        assert_eq!(line.arrive(span(0, 1, 6, 1), 6100), Admission::Late);
        assert_eq!(line.arrive(span(0, 1, 8, 1), 6200), Admission::Sent);
        assert_eq!(line.out, [1, 2, 3, 4, 7, 8, 9]);
        assert!(line.reorderer.is_empty());
    }

    #[test]
    fn a_stream_that_begins_anew_leaves_nothing_behind() {
        let mut line = Line::new(5000);
        for (at, epoch, first) in [(0, 1, 10), (1, 1, 50), (0, 1, 12), (0, 1, 14), (1, 1, 52)] {
            line.arrive(span(at, epoch, first, 1), 0);
        }
        line.arrive(span(0, 2, 3, 1), 100);
        assert_eq!(line.out, [10, 50, 12, 14, 3]);
        line.pop(5000);
        assert_eq!(line.out, [10, 50, 12, 14, 3, 52]);
    }

    #[test]
    fn messages_that_overlap_leave_in_the_order_of_their_first() {
        let mut line = Line::new(5000);
        for (first, count) in [(0, 2), (5, 2), (3, 3), (2, 1)] {
            line.arrive(span(0, 1, first, count), 0);
        }
        assert_eq!(line.out, [0, 2, 3, 5]);
    }

    proptest! {
        /// A model that looks at all that it has each time: what is next leaves, and what has waited
        /// for long enough leaves with all before it.
        #[test]
        fn it_equals_a_plain_model(
            start in prop_oneof![Just(0_u64), Just(u64::MAX - 20)],
            steps in prop::collection::vec((0..60_u64, 0..3000_u64), 1..200),
        ) {
            let mut line = Line::new(5000);
            let (mut next, mut waiting, mut out) = (None, Vec::<(u64, u64)>::new(), Vec::new());
            let (mut now_us, mut seen) = (0, Vec::new());
            for (number, (ahead, step_us)) in (0..).zip(steps) {
                now_us += step_us;
                let first = number / 2 + ahead;
                if seen.contains(&first) {
                    continue;
                }
                seen.push(first);
                line.arrive(span(0, 1, start.wrapping_add(first), 1), now_us);
                let mut due: Vec<_> =
                    waiting.iter().filter(|each| each.1 + 5000 <= now_us).copied().collect();
                due.sort_by_key(|each| each.1);
                let next_number = next.get_or_insert(first);
                let mut leave = |waiting: &mut Vec<(u64, u64)>, next: &mut u64, to: Option<u64>| {
                    waiting.sort_unstable();
                    while let Some(&(lowest, _)) = waiting.first() {
                        if lowest > *next && to.is_none_or(|to| lowest > to) {
                            break;
                        }
                        out.push(lowest);
                        *next = lowest + 1;
                        waiting.remove(0);
                    }
                };
                for (number, _) in due {
                    leave(&mut waiting, next_number, Some(number));
                }
                if first >= *next_number {
                    waiting.push((first, now_us));
                    leave(&mut waiting, next_number, None);
                }
            }
            let expected: Vec<_> = out.iter().map(|number| start.wrapping_add(*number)).collect();
            prop_assert_eq!(&line.out, &expected);
            prop_assert!(out.is_sorted());
            prop_assert_eq!(MOST_HELD - line.reorderer.room() >= waiting.len(), true);
            line.reorderer.expire();
            line.pop(0);
            prop_assert!(line.reorderer.is_empty());
            prop_assert_eq!(line.out.len(), out.len() + waiting.len());
        }
    }
}
