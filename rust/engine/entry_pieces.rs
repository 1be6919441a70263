//! Pieces of entries of the window: datagrams that a merging rule places one by one, and what becomes
//! of each.

use std::io;

use crate::engine::ingress::Arrival;
use crate::engine::lanes::Lanes;
use crate::engine::plan::Source;
use crate::engine::window::WindowEntry;
use crate::merge::FeedPlace;
use crate::packet::Discard;
use crate::stats::{SlotWords, rule, skew};

/// The most parts of one super-frame: the kernel forms none with more than 128 datagrams, and of
/// two neighbours only one begins a part. Several rules may each have theirs.
pub(super) const MAX_PARTS: usize = 512;
/// Datagrams that are placed at once, one bit each.
pub(super) const PIECE: u32 = u128::BITS;

const _: () = assert!(PIECE <= u8::MAX as u32);

/// Some datagrams of an entry of the window.
#[derive(Clone, Copy)]
pub(super) struct EntryPiece {
    pub(super) entry: u16,
    /// The first of them, and their number: at most [`PIECE`].
    pub(super) first: u32,
    pub(super) count: u32,
    /// Bytes of each datagram but the last of the entry.
    pub(super) segment: u32,
}

/// What becomes of datagrams, one bit for each.
#[derive(Clone, Copy, Default)]
pub(super) struct Placed {
    pub(super) sent: u128,
    pub(super) dropped: [u128; 3],
    /// Bytes of those that are sent.
    pub(super) bytes: u64,
}

/// The reasons of [`Placed::dropped`]: first those of datagrams that a rule has lost, in which there
/// was something to send.
pub(super) const REASONS: [Discard; 3] =
    [Discard::Late, Discard::OutOfSequence, Discard::Duplicate];
const LATE: usize = 0;
const OUT_OF_SEQUENCE: usize = 1;
const DUPLICATE: usize = 2;

impl EntryPiece {
    /// Where the payloads of its datagrams are in the buffer: offset and length.
    pub(super) fn bytes(&self, entry: &WindowEntry) -> (u32, u32) {
        let offset = (self.first * self.segment).min(entry.len);
        (entry.start + offset, (self.count * self.segment).min(entry.len - offset))
    }

    /// Where the payload of one of its datagrams is in the buffer: offset and length.
    pub(super) fn span(&self, at: u32, entry: &WindowEntry) -> (u32, u32) {
        let offset = ((self.first + at) * self.segment).min(entry.len);
        (entry.start + offset, self.segment.min(entry.len - offset))
    }
}

impl Placed {
    /// Notes what becomes of datagrams: their bits, and their bytes together. Returns whether they
    /// are sent.
    #[inline]
    pub(super) fn note(&mut self, place: FeedPlace, (bits, len): (u128, u32), late: bool) -> bool {
        match place {
            FeedPlace::Late if !late => self.dropped[LATE] |= bits,
            FeedPlace::First | FeedPlace::Late => {
                self.sent |= bits;
                self.bytes += u64::from(len);
                return true;
            }
            FeedPlace::Duplicate { .. } => self.dropped[DUPLICATE] |= bits,
            FeedPlace::OutOfSequence => self.dropped[OUT_OF_SEQUENCE] |= bits,
        }
        false
    }

    /// Of datagrams of which none continues a feed.
    pub(super) fn out_of_sequence(bits: u128) -> Self {
        let mut placed = Self::default();
        placed.dropped[OUT_OF_SEQUENCE] = bits;
        placed
    }

    /// Adds what another rule does with the same datagrams. One that any rule sends is sent; else the
    /// first of the reasons counts that a rule has.
    pub(super) fn join(&mut self, other: &Self) {
        self.sent |= other.sent;
        let mut taken = self.sent;
        for (own, other) in self.dropped.iter_mut().zip(other.dropped) {
            *own = (*own | other) & !taken;
            taken |= *own;
        }
    }

    /// Why the datagram with this number is not sent; `None` if it is.
    pub(super) fn reason(&self, at: u32) -> Option<Discard> {
        let is_dropped = |(_, dropped): &(Discard, u128)| dropped >> at & 1 != 0;
        REASONS.into_iter().zip(self.dropped).find(is_dropped).map(|(reason, _)| reason)
    }

    /// Notes that a datagram is not sent after all, since it is late.
    pub(super) fn give_up(&mut self, bit: u128, len: u32) {
        self.sent &= !bit;
        self.bytes -= u64::from(len);
        self.dropped[LATE] |= bit;
    }
}

/// Counts the place of datagrams for an input.
#[inline]
pub(super) fn count_place(words: &mut SlotWords, place: FeedPlace, datagrams: u8) {
    let word = match place {
        FeedPlace::First => rule::FIRST,
        FeedPlace::Late => rule::LATE,
        FeedPlace::Duplicate { .. } => rule::DUPLICATE,
        FeedPlace::OutOfSequence => rule::OUT_OF_SEQUENCE,
    };
    words[word] += u64::from(datagrams);
    if let FeedPlace::Duplicate { skew_us: Some(skew_us) } = place {
        skew::count(words, skew_us, datagrams);
    }
}

impl Lanes<'_> {
    /// Records for taps what becomes of datagrams of a merging rule.
    pub(super) fn note_placed(
        &mut self,
        placed: (EntryPiece, &Placed),
        rules: (u32, usize),
        arrival: &Arrival,
        source: Option<&Source>,
    ) {
        if let (Some(taps), Some(source)) = (&mut self.egress.taps, source) {
            let bytes = self.ring.bytes(&self.window.entry(placed.0.entry).buffer);
            taps.note_placed(placed, rules, (bytes, arrival), source);
        }
    }

    /// Adds the datagrams of a piece that are sent to the lane of a rule: as few entries as may be.
    pub(super) fn link_runs(
        &mut self,
        rule: u32,
        piece: EntryPiece,
        arrival: &Arrival,
        sent: u128,
    ) -> io::Result<()> {
        if sent.count_ones() == arrival.datagram.segments {
            return self.link(rule, arrival, piece.entry);
        }
        let (mut left, mut at) = (sent, 0);
        while left != 0 {
            at += left.trailing_zeros();
            let run = (sent >> at).trailing_ones();
            let first = (piece.first + at) * piece.segment;
            let part = self.window.push_part(piece.entry, (first, run));
            if let Some(taps) = &mut self.egress.taps {
                taps.note_part(part, (piece.entry, piece.first + at));
            }
            self.link(rule, arrival, part)?;
            at += run;
            left = sent.checked_shr(at).unwrap_or(0);
        }
        Ok(())
    }
}
