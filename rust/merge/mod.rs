//! The merge of several feeds with the same content into one: which datagrams are new.
//!
//! `sequence` follows the numbers in datagrams, `stream` has the window of one numbering, `leg` what
//! is known of one feed, `payloads` recognises datagrams without numbers, and `failover` chooses one
//! of the feeds. All of it is pure: any bytes are valid input, and the memory is allocated when a
//! merger is made.

mod failover;
mod leg;
mod payloads;
mod reorder;
mod sequence;
mod stream;
#[cfg(test)]
mod succession_tests;
#[cfg(test)]
mod tests;

use serde::Deserialize;

use crate::stats::merged::{STREAMS, SentStream};
use crate::stats::sequences::{Format, Units};
use failover::Failover;
use payloads::Payloads;
pub use reorder::{Admission, MOST_HELD, Reorderer};
pub use sequence::NumberSpan;
use sequence::Sequences;

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

/// The state of the feeds of one rule.
pub struct Merger {
    spec: MergeSpec,
    rule: Known,
    order: Option<Box<Reorderer>>,
}

enum Known {
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
                return Self { spec, rule: Known::Payloads(Payloads::new()), order: None };
            }
            MergeMode::Failover { after_ms } => {
                let failover = Failover::new(u64::from(after_ms) * 1000);
                return Self { spec, rule: Known::Times(failover), order: None };
            }
        };
        let hold_us = u64::from(spec.hold_us);
        let order = (hold_us > 0).then(|| Box::new(Reorderer::new(hold_us)));
        let rule = Known::Numbers(format, Box::new(Sequences::new(format.bits())));
        Self { spec, rule, order }
    }

    /// Continues what another process has sent so far.
    pub fn resume(&mut self, sent: &[Option<SentStream>; STREAMS]) {
        let Known::Numbers(_, sequences) = &mut self.rule else { return };
        sequences.resume(sent);
        for (at, sent) in sent.iter().enumerate() {
            if let Some((order, sent)) = self.order.as_deref_mut().zip(*sent) {
                order.resume(at, sequences.epoch(at), sent.next);
            }
        }
    }

    /// A stream with new numbers, and how far it was sent, of one after the other since the last
    /// call. What is held does not count.
    #[inline]
    pub fn take_advanced(&mut self) -> Option<(usize, SentStream)> {
        let Known::Numbers(_, sequences) = &mut self.rule else { return None };
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
        match &self.rule {
            Known::Numbers(_, sequences) => sequences.span().zip(self.order.as_deref_mut()),
            Known::Payloads(_) | Known::Times(_) => None,
        }
    }

    /// Finds the place of a datagram that a feed has delivered at this time.
    #[inline]
    pub fn place(&mut self, leg: u8, datagram: &[u8], now_us: u64) -> FeedPlace {
        let leg = usize::from(leg) % MAX_LEGS;
        match &mut self.rule {
            Known::Payloads(payloads) => payloads.place(leg, datagram, now_us),
            Known::Times(failover) => failover.place(leg, now_us),
            Known::Numbers(format, sequences) => match format.read(datagram) {
                Some(units) => sequences.place(leg, bounded(units, datagram), now_us),
                None => FeedPlace::OutOfSequence,
            },
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
        match &self.rule {
            Known::Numbers(_, sequences) => sequences.missing(usize::from(leg) % MAX_LEGS),
            Known::Payloads(_) | Known::Times(_) => 0,
        }
    }

    /// Numbers that no feed has delivered so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        match &self.rule {
            Known::Numbers(_, sequences) => sequences.lost(),
            Known::Payloads(_) | Known::Times(_) => 0,
        }
    }

    /// The number of the feed that is sent alone; `None` if all are merged.
    #[must_use]
    pub fn active(&self) -> Option<u8> {
        match &self.rule {
            Known::Times(failover) => u8::try_from(failover.active()).ok(),
            Known::Numbers(..) | Known::Payloads(_) => None,
        }
    }

    /// How often the numbers began anew.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        match &self.rule {
            Known::Numbers(_, sequences) => sequences.restarts(),
            Known::Payloads(_) | Known::Times(_) => 0,
        }
    }
}

/// These units, but at most as many as the bytes of the datagram can hold: a message of MoldUDP64
/// has a length of two bytes.
fn bounded(units: Units, datagram: &[u8]) -> Units {
    Units { count: units.count.min(datagram.len() as u64 / 2), ..units }
}
