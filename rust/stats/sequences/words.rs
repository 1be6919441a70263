//! The words that a flow publishes about its numbers.

use super::timing::{self, GAP_BUCKETS, gap_count};

/// The place of each word.
pub mod word {
    /// The format, how it is known in the next 8 bits, the RTP payload type in the next, then
    /// whether MPEG-TS was found in RTP.
    pub const FORMAT: usize = 0;
    /// The identity of the stream: SSRC, session, or what `mcr send` chose.
    pub const STREAM: usize = 1;
    /// The number that is expected next.
    pub const NEXT: usize = 2;
    /// Datagrams with a number that fits.
    pub const NUMBERED: usize = 3;
    /// Datagrams without one.
    pub const UNFIT: usize = 4;
    /// Units that are missing.
    pub const LOST: usize = 5;
    /// Units that had arrived before.
    pub const DUPLICATED: usize = 6;
    /// Units that arrived after later ones.
    pub const REORDERED: usize = 7;
    /// How often units were missing.
    pub const GAPS: usize = 8;
    /// The most units missing at once.
    pub const LARGEST_GAP: usize = 9;
    /// How often the numbers began anew.
    pub const RESETS: usize = 10;
    /// Packets of MPEG-TS that are missing within RTP.
    pub const TS_LOST: usize = 11;
    /// The jitter in nanoseconds, times 16.
    pub const JITTER: usize = 12;
    /// Counts of the times between arrivals, two in a word.
    pub const ARRIVALS: usize = 13;
}

/// Words that a flow publishes about its numbers.
pub const WORDS: usize = word::ARRIVALS + GAP_BUCKETS / 2;
/// One copy of these words.
pub type SequenceWords = [u64; WORDS];

/// Adds what another engine knows of the numbers of the same flow: of several workers one has the
/// flow at a time. Counts are added; the format, the stream and the jitter are those of the one
/// with more datagrams.
pub fn merge(words: &mut SequenceWords, other: &SequenceWords) {
    let mut less = *other;
    if less[word::NUMBERED] > words[word::NUMBERED] {
        std::mem::swap(words, &mut less);
    }
    let largest_gap = words[word::LARGEST_GAP].max(less[word::LARGEST_GAP]);
    for at in word::NUMBERED..=word::TS_LOST {
        words[at] = words[at].saturating_add(less[at]);
    }
    words[word::LARGEST_GAP] = largest_gap;
    for at in 0..GAP_BUCKETS {
        timing::add_gaps(words, at, gap_count(&less, at));
    }
}

/// How the format of a flow is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Basis {
    /// Not yet.
    Undecided,
    /// Enough datagrams in sequence had it.
    Recognised,
    /// The rule says so.
    Told,
}

impl Basis {
    /// How the format in these words is known.
    #[must_use]
    pub const fn of(words: &SequenceWords) -> Self {
        match words[word::FORMAT] >> 8 & 0xff {
            1 => Self::Recognised,
            2 => Self::Told,
            _ => Self::Undecided,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Recognised => "recognised",
            Self::Told => "told",
        }
    }
}

/// Bits of [`word::FORMAT`].
pub(super) const BASIS_SHIFT: u32 = 8;
pub(super) const PAYLOAD_SHIFT: u32 = 16;
/// Whether MPEG-TS was found in RTP.
pub const TS_IN_RTP: u64 = 1 << 24;

/// Whether the jitter is that of RTP time stamps, as RFC 3550 defines it.
pub const JITTER_OF_TIMESTAMPS: u64 = 1 << 25;

/// Counts units that are missing.
pub(super) fn miss(words: &mut SequenceWords, count: u64) {
    words[word::LOST] = words[word::LOST].saturating_add(count);
    words[word::GAPS] += 1;
    words[word::LARGEST_GAP] = words[word::LARGEST_GAP].max(count);
}
