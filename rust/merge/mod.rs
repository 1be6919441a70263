//! The merge of several feeds with the same content into one: which datagrams are new.
//!
//! `sequence` follows the numbers in datagrams, `stream` has the window of one numbering, `leg` what
//! is known of one feed, `witness` whether a feed that is ahead has the same datagrams, `payloads`
//! recognises datagrams without numbers, and `failover` chooses one of the feeds. All of it is pure:
//! any bytes are valid input, and the memory is allocated when a merger is made.

mod failover;
#[cfg(test)]
mod gap_tests;
mod leg;
mod payloads;
#[cfg(test)]
mod property_tests;
mod reorder;
mod sequence;
mod stream;
#[cfg(test)]
mod succession_tests;
#[cfg(test)]
mod tests;
mod witness;

use serde::Deserialize;

use crate::stats::merged::{STREAMS, SentStream};
use crate::stats::sent_payloads::PayloadRow;
use crate::stats::sequences::{Format, Units};
use failover::Failover;
use payloads::Payloads;
pub use reorder::{Admission, MOST_HELD, ORDER_BYTES, Reorderer};
pub use sequence::NumberSpan;
use sequence::{NumberedDatagrams, Sequences};

/// The most feeds of a rule.
pub const MAX_LEGS: usize = 4;

/// By what datagrams are known to be the same.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum MergeMode {
    /// The sequence number of RTP (RFC 3550), for each SSRC.
    Rtp,
    /// The session and sequence number of MoldUDP64.
    Mold,
    /// A number at a fixed place.
    Seq {
        /// Bytes before it.
        offset: u16,
        /// Its size: 16, 24, 32, 48 or 64.
        bits: u8,
        /// Whether its least significant byte is the first.
        little_endian: bool,
    },
    /// The whole payload, within a second.
    Hash,
    /// None is: one feed is sent, and the next one while that is silent.
    Failover {
        /// The silence after which another feed is sent, in milliseconds.
        after_ms: u32,
    },
}

/// The longest time for which datagrams are held, in microseconds.
const MOST_HOLD_US: u32 = 500_000;
/// The longest silence of a failover, in milliseconds.
const MOST_AFTER_MS: u32 = 60_000;

/// How a rule merges its inputs.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
pub struct MergeSpec {
    /// By what datagrams are known to be the same.
    pub mode: MergeMode,
    /// Whether datagrams that arrive after later ones are sent.
    pub late: bool,
    /// How long datagrams ahead of a gap are held, in microseconds; 0 for not at all.
    #[serde(default)]
    pub hold_us: u32,
}

impl MergeSpec {
    /// Whether its fields are in their ranges.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        let has_numbers = match self.mode {
            MergeMode::Rtp
            | MergeMode::Mold
            | MergeMode::Seq { bits: 16 | 24 | 32 | 48 | 64, .. } => true,
            MergeMode::Hash => false,
            MergeMode::Failover { after_ms } if 0 < after_ms && after_ms <= MOST_AFTER_MS => false,
            _ => return false,
        };
        self.hold_us == 0 || has_numbers && !self.late && self.hold_us <= MOST_HOLD_US
    }
}

/// The place of a datagram among those of all feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedPlace {
    /// No feed had it before, and none a later one.
    First,
    /// No feed had it before, but one had a later one.
    Late,
    /// A feed had it before.
    Duplicate {
        /// By how much it is behind the first one, if that came from another feed.
        skew_us: Option<u64>,
    },
    /// It has no number, or one that does not continue the feed.
    OutOfSequence,
}

/// Datagrams that arrived together.
#[derive(Clone, Copy)]
pub struct MergedFrame<'a> {
    /// The bytes of all of them.
    pub bytes: &'a [u8],
    /// Bytes of each but the last, which may have fewer.
    pub segment: usize,
    /// Their number.
    pub datagrams: u8,
}

/// The state of the feeds of one rule.
pub struct Merger {
    spec: MergeSpec,
    feeds: FeedState,
    order: Option<Box<Reorderer>>,
}

/// What is known of the feeds, by mode.
enum FeedState {
    Numbers(Format, Box<Sequences>),
    Payloads(Payloads),
    Times(Failover),
}

impl Merger {
    /// Without datagrams. All memory is allocated here.
    #[must_use]
    pub fn new(spec: MergeSpec) -> Self {
        let format = match spec.mode {
            MergeMode::Rtp => Format::Rtp { clock_hz: 0 },
            MergeMode::Mold => Format::Mold,
            MergeMode::Seq { offset, bits, little_endian } => {
                Format::Field { offset, bits, little_endian }
            }
            MergeMode::Hash => {
                return Self { spec, feeds: FeedState::Payloads(Payloads::new()), order: None };
            }
            MergeMode::Failover { after_ms } => {
                let failover = Failover::new(u64::from(after_ms) * 1000);
                return Self { spec, feeds: FeedState::Times(failover), order: None };
            }
        };
        let hold_us = u64::from(spec.hold_us);
        let order = (hold_us > 0).then(|| Box::new(Reorderer::new(hold_us)));
        // How far a feed may be ahead without those behind it getting lost.
        let most_ahead_us = if spec.late { u64::MAX } else { hold_us };
        let sequences = Box::new(Sequences::new(format.bits(), most_ahead_us));
        Self { spec, feeds: FeedState::Numbers(format, sequences), order }
    }

    /// Continues what another process has sent so far.
    pub fn resume(&mut self, sent: &[Option<SentStream>; STREAMS]) {
        let FeedState::Numbers(_, sequences) = &mut self.feeds else { return };
        sequences.resume(sent);
        for (at, sent) in sent.iter().enumerate() {
            if let Some((order, sent)) = self.order.as_deref_mut().zip(*sent) {
                order.resume(at, sequences.epoch(at), sent.next);
            }
        }
    }

    /// Whether it recognises payloads, which it may remember for its successor.
    #[must_use]
    pub const fn has_payloads(&self) -> bool {
        matches!(self.feeds, FeedState::Payloads(_))
    }

    /// Remembers payloads in this row, which may have those of another process.
    pub fn resume_payloads(&mut self, row: PayloadRow) {
        if let FeedState::Payloads(payloads) = &mut self.feeds {
            payloads.resume(row);
        }
    }

    /// A stream with new numbers, and how far it was sent, of one after the other since the last
    /// call. What is held does not count.
    #[inline]
    pub fn take_advanced(&mut self) -> Option<(usize, SentStream)> {
        let FeedState::Numbers(_, sequences) = &mut self.feeds else { return None };
        let Some(order) = &mut self.order else { return sequences.take_advanced() };
        let (at, next) = order.take_advanced()?;
        Some((at, SentStream { next, ..sequences.sent(at) }))
    }

    /// The order of its numbers, if datagrams are held for it.
    pub fn order(&mut self) -> Option<&mut Reorderer> {
        self.order.as_deref_mut()
    }

    /// The same, to look at.
    #[must_use]
    pub fn held_order(&self) -> Option<&Reorderer> {
        self.order.as_deref()
    }

    /// The numbers of the last datagram, if it is new and has a place, with the order that they are
    /// held for.
    pub fn span_in_order(&mut self) -> Option<(NumberSpan, &mut Reorderer)> {
        match &self.feeds {
            FeedState::Numbers(_, sequences) => sequences.span().zip(self.order.as_deref_mut()),
            FeedState::Payloads(_) | FeedState::Times(_) => None,
        }
    }

    /// Finds the place of a datagram that a feed has delivered at this time.
    #[inline]
    pub fn place(&mut self, leg: u8, datagram: &[u8], now_us: u64) -> FeedPlace {
        let mut found = FeedPlace::OutOfSequence;
        let frame = MergedFrame { bytes: datagram, segment: datagram.len(), datagrams: 1 };
        self.place_all(leg, frame, now_us, |place, _| found = place);
        found
    }

    /// Finds the places of the datagrams of a frame that a feed has delivered at this time. `note`
    /// gets them in their order, each with the number of datagrams in a row that share it.
    #[inline]
    pub fn place_all(
        &mut self,
        leg: u8,
        frame: MergedFrame<'_>,
        now_us: u64,
        mut note: impl FnMut(FeedPlace, u8),
    ) {
        let leg = usize::from(leg) % MAX_LEGS;
        match &mut self.feeds {
            FeedState::Numbers(format, sequences) => {
                place_numbered((*format, sequences), leg, frame, now_us, note);
            }
            FeedState::Payloads(payloads) => {
                for at in 0..frame.datagrams {
                    note(payloads.place(leg, frame.datagram(at), now_us), 1);
                }
            }
            FeedState::Times(failover) => note(failover.place(leg, now_us), frame.datagrams),
        }
    }

    /// Whether a datagram with this place is sent.
    #[inline]
    #[must_use]
    pub const fn sends(&self, place: FeedPlace) -> bool {
        match place {
            FeedPlace::First => true,
            FeedPlace::Late => self.spec.late,
            FeedPlace::Duplicate { .. } | FeedPlace::OutOfSequence => false,
        }
    }

    /// Numbers between the first and the last one of a feed that it has not delivered.
    #[must_use]
    pub fn missing(&self, leg: u8) -> u64 {
        match &self.feeds {
            FeedState::Numbers(_, sequences) => sequences.missing(usize::from(leg) % MAX_LEGS),
            FeedState::Payloads(_) | FeedState::Times(_) => 0,
        }
    }

    /// Numbers that no feed has delivered so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        match &self.feeds {
            FeedState::Numbers(_, sequences) => sequences.lost(),
            FeedState::Payloads(_) | FeedState::Times(_) => 0,
        }
    }

    /// The number of the feed that is sent alone; `None` if all are merged.
    #[must_use]
    pub fn active(&self) -> Option<u8> {
        match &self.feeds {
            FeedState::Times(failover) => u8::try_from(failover.active()).ok(),
            FeedState::Numbers(..) | FeedState::Payloads(_) => None,
        }
    }

    /// How often the numbers began anew.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        match &self.feeds {
            FeedState::Numbers(_, sequences) => sequences.restarts(),
            FeedState::Payloads(_) | FeedState::Times(_) => 0,
        }
    }
}

/// Finds the places of numbered datagrams, run by run.
#[inline]
fn place_numbered(
    (format, sequences): (Format, &mut Sequences),
    leg: usize,
    frame: MergedFrame<'_>,
    now_us: u64,
    mut note: impl FnMut(FeedPlace, u8),
) {
    let mut at = 0;
    while at < frame.datagrams {
        let Some(mut units) = frame.units(format, at) else {
            note(FeedPlace::OutOfSequence, 1);
            at += 1;
            continue;
        };
        let end = at + frame.run(format, at, units);
        while at < end {
            let content = frame.datagram(at);
            let run = NumberedDatagrams { units, datagrams: end - at, content };
            let (place, alike) = sequences.place_run(leg, run, now_us);
            note(place, alike);
            units.first = units.first.wrapping_add(u64::from(alike) * units.count);
            at += alike;
        }
    }
}

impl<'a> MergedFrame<'a> {
    /// One of its datagrams.
    #[inline]
    fn datagram(&self, at: u8) -> &'a [u8] {
        let start = (usize::from(at) * self.segment).min(self.bytes.len());
        let end = (start + self.segment).min(self.bytes.len());
        &self.bytes[start..end]
    }

    /// The units of one of its datagrams, at most as many as its bytes can hold: a message of
    /// MoldUDP64 has a length of two bytes.
    #[inline]
    fn units(&self, format: Format, at: u8) -> Option<Units> {
        let datagram = self.datagram(at);
        let units = format.read(datagram)?;
        Some(Units { count: units.count.min(datagram.len() as u64 / 2), ..units })
    }

    /// How many of its datagrams from one with these units on continue the numbers of the one before,
    /// each with as many.
    #[inline]
    fn run(&self, format: Format, at: u8, units: Units) -> u8 {
        let mask = u64::MAX >> (64 - format.bits());
        let mut next = units.first;
        let continues = |at: &u8| {
            next = next.wrapping_add(units.count) & mask;
            units.count > 0
                && self.units(format, *at).is_some_and(|other| {
                    (other.stream, other.first, other.count) == (units.stream, next, units.count)
                })
        };
        let behind = (at + 1..self.datagrams).take_while(continues).count();
        1 + u8::try_from(behind).unwrap_or(0)
    }
}
