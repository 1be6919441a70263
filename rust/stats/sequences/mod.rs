//! The numbers in the datagrams of a flow: what is missing, repeated or out of order, and how even
//! the arrivals are.
//!
//! `format` reads a number from a datagram, `recognition` finds the format, `numbers` counts what
//! the numbers say, `transport_stream` the continuity of MPEG-TS, and `timing` the arrivals; `words`
//! are what readers see. All of it is pure: any bytes are valid input, and the memory of a flow is
//! fixed.

mod format;
mod numbers;
mod recognition;
#[cfg(test)]
mod tests;
mod timing;
mod transport_stream;
mod words;

use serde::Deserialize;

pub use format::Format;
pub(crate) use format::Units;
use numbers::{Bounds, Numbers, Succession};
use recognition::Recognition;
use timing::ArrivalTiming;
pub use timing::{GAP_BUCKETS, bucket_end_us, gap_count};
use transport_stream::Continuity;
use words::{BASIS_SHIFT, PAYLOAD_SHIFT};
pub use words::{Basis, JITTER_OF_TIMESTAMPS, SequenceWords, TS_IN_RTP, WORDS, merge, word};

/// What a rule says about the numbers in its datagrams.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(tag = "format", rename_all = "lowercase", deny_unknown_fields)]
pub enum SequenceSpec {
    /// Nothing: the format is recognised.
    #[default]
    Auto,
    /// They are not read.
    None,
    /// RTP (RFC 3550).
    Rtp {
        /// The rate of its time stamps; 0 for that of the payload type, if it has one.
        clock_hz: u32,
    },
    /// MPEG-TS in UDP.
    Ts,
    /// MoldUDP64.
    Mold,
    /// What `mcr send` writes.
    Mcr,
    /// A number at a fixed place.
    Field {
        /// Bytes before it.
        offset: u16,
        /// Its size: 8, 16, 24, 32, 48 or 64.
        bits: u8,
        /// Whether its least significant byte is the first.
        little_endian: bool,
    },
}

impl SequenceSpec {
    /// Whether its fields are in their ranges.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        match self {
            Self::Field { bits, .. } => matches!(bits, 8 | 16 | 24 | 32 | 48 | 64),
            _ => true,
        }
    }
}

/// What is known of the numbers of a flow.
// In the order of use: what the next datagram in sequence needs lies in its first two cache lines.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Sequence {
    /// The format of the next datagram in sequence; `None` if it needs a closer look.
    settled: Option<Format>,
    spec: SequenceSpec,
    timing: ArrivalTiming,
    pub(super) words: SequenceWords,
    numbers: Numbers,
    continuity: Continuity,
    recognition: Recognition,
}

impl Default for Sequence {
    /// Of a sender without datagrams.
    fn default() -> Self {
        Self::new()
    }
}

impl Sequence {
    /// Of a flow without datagrams.
    pub(super) const fn new() -> Self {
        Self {
            settled: None,
            spec: SequenceSpec::Auto,
            timing: ArrivalTiming::new(),
            words: [0; WORDS],
            numbers: Numbers::new(),
            continuity: Continuity::new(),
            recognition: Recognition::new(),
        }
    }

    /// Of a flow that an earlier process has counted: its numbers continue.
    pub(super) fn resumed(words: &SequenceWords) -> Self {
        const MOST: u64 = 1 << 56;
        let mut next = Self::new();
        let counts = &words[word::NUMBERED..=word::TS_LOST];
        if words[word::NUMBERED] > 0 && counts.iter().all(|count| *count <= MOST) {
            next.words = *words;
            next.words[word::JITTER] &= MOST - 1;
            next.numbers = Numbers::resumed(words[word::NEXT]);
        }
        next
    }

    /// Applies what the rule says, which may change between turns of the engine.
    #[inline]
    pub fn tell(&mut self, spec: SequenceSpec) {
        if spec == self.spec {
            return;
        }
        (self.spec, self.settled) = (spec, None);
        let Some(format) = Format::told(spec) else { return };
        let told = format.code() | (Basis::Told as u64) << BASIS_SHIFT;
        if self.words[word::FORMAT] & 0xffff != told {
            self.begin(format, Basis::Told);
        }
    }

    /// Counts the datagrams of a frame: each has `segment` bytes, the last one perhaps fewer.
    // Every call but this one is the last thing to do, so that no register has to be saved.
    #[inline(never)]
    pub fn count(&mut self, payload: &[u8], segment: usize, arrival_ns: u64) {
        if self.spec == SequenceSpec::None {
            return;
        }
        let is_first = self.timing.arrive(arrival_ns);
        if is_first || payload.len() > segment {
            return self.count_frame(payload, segment.max(1), is_first);
        }
        if !self.follows(payload) {
            self.place(payload);
        }
    }

    /// Counts the datagrams of a frame that is the first one of a turn, or that the kernel merged:
    /// of these only the first one's time is known.
    #[inline(never)]
    fn count_frame(&mut self, payload: &[u8], segment: usize, mut is_first: bool) {
        let mut rest = payload;
        loop {
            let (datagram, behind) = rest.split_at(rest.len().min(segment));
            let is_next = self.follows(datagram) || self.place(datagram);
            if std::mem::take(&mut is_first) {
                self.time(is_next.then_some(datagram));
            }
            if behind.is_empty() {
                break;
            }
            rest = behind;
        }
    }

    /// What is known of its numbers.
    #[must_use]
    pub const fn words(&self) -> &SequenceWords {
        &self.words
    }

    /// Ends a turn of the engine, whose datagrams arrived close together.
    #[inline]
    pub fn end_turn(&mut self) {
        self.timing.end_turn(&mut self.words);
    }

    /// Counts a datagram that is the next one in sequence; false if it has to be placed.
    #[inline(always)]
    fn follows(&mut self, datagram: &[u8]) -> bool {
        let Some(format) = self.settled else { return false };
        let Some(units) = format.read(datagram) else { return false };
        let (known, next) = (self.words[word::FORMAT], self.words[word::NEXT]);
        let is_next = units.stream == self.words[word::STREAM]
            && units.first == next & Bounds::of(format.bits()).mask
            && units.payload_type == known >> PAYLOAD_SHIFT & 0xff;
        if is_next {
            self.words[word::NEXT] = next.wrapping_add(units.count);
            self.words[word::NUMBERED] += 1;
            if known & TS_IN_RTP != 0 {
                self.count_content(datagram, units);
            }
        }
        is_next
    }

    /// Finds the place of any datagram; true if it is later than all others.
    #[inline(never)]
    fn place(&mut self, datagram: &[u8]) -> bool {
        let Some(format) = self.format(datagram) else { return false };
        let succession = match format.read(datagram) {
            Some(units) => self.place_units(format, datagram, units),
            None if format == Format::Ts && transport_stream::is_stream(datagram) => {
                self.continuity.count(&mut self.words, datagram, word::LOST);
                Succession::Next
            }
            None => Succession::Strange,
        };
        if succession == Succession::Strange {
            self.miss();
            return false;
        }
        self.words[word::NUMBERED] += 1;
        // Repetitions prove nothing: constant bytes have the same number.
        if succession == Succession::Old {
            return false;
        }
        if self.spec == SequenceSpec::Auto && self.recognition.fits() {
            self.words[word::FORMAT] |= (Basis::Recognised as u64) << BASIS_SHIFT;
        }
        if Basis::of(&self.words) != Basis::Undecided {
            self.settled = Some(format);
        }
        true
    }

    /// Finds the place of these units, and notes what else the datagram says if it is a new one.
    fn place_units(&mut self, format: Format, datagram: &[u8], units: Units) -> Succession {
        let succession = self.numbers.place(&mut self.words, format, units);
        if succession == Succession::Next {
            let word = self.words[word::FORMAT] & !(0xff << PAYLOAD_SHIFT);
            self.words[word::FORMAT] = word | units.payload_type << PAYLOAD_SHIFT;
            if let Format::Rtp { .. } = format {
                self.count_content(datagram, units);
            }
        }
        succession
    }

    /// The format of a datagram, as told or as recognised so far.
    fn format(&mut self, datagram: &[u8]) -> Option<Format> {
        if self.spec != SequenceSpec::Auto {
            return Format::told(self.spec);
        }
        if self.recognition.is_decided() {
            return self.recognition.format();
        }
        let known = Format::coded(self.words[word::FORMAT], Basis::Recognised);
        if let Some(format) = known.filter(|_| self.recognition.format().is_none()) {
            // An earlier process has recognised it.
            self.recognition.decide(format);
            return Some(format);
        }
        let before = self.recognition.format();
        let found = self.recognition.look(datagram)?;
        if found.is_none() || found != before {
            self.begin(found.unwrap_or(Format::Mcr), Basis::Undecided);
        }
        found
    }

    /// Begins to count in this format. What is known of the arrivals stays.
    fn begin(&mut self, format: Format, basis: Basis) {
        self.words[..word::ARRIVALS].fill(0);
        self.words[word::FORMAT] = format.code() | (basis as u64) << BASIS_SHIFT;
        self.numbers = Numbers::new();
        self.continuity = Continuity::new();
    }

    /// Counts a datagram without a number that fits.
    #[cold]
    #[inline(never)]
    fn miss(&mut self) {
        self.settled = None;
        self.words[word::UNFIT] += 1;
        if self.spec != SequenceSpec::Auto {
            return;
        }
        match self.recognition.format() {
            // The next datagram is the first.
            Some(format) if !self.recognition.is_decided() => {
                self.begin(format, Basis::Undecided);
                self.recognition.restart();
            }
            _ if self.recognition.misses() => self.words[word::FORMAT] &= !(0xff << BASIS_SHIFT),
            _ => {}
        }
    }

    /// Counts the packets of MPEG-TS in an RTP packet.
    #[inline(never)]
    fn count_content(&mut self, datagram: &[u8], units: Units) {
        let content = datagram.get(units.body..).unwrap_or_default();
        if transport_stream::is_stream(content) {
            self.words[word::FORMAT] |= TS_IN_RTP;
            self.continuity.count(&mut self.words, content, word::TS_LOST);
        }
    }

    /// Records the time of the first datagram of a turn, which is this one if it is in sequence.
    #[inline(never)]
    fn time(&mut self, datagram: Option<&[u8]>) {
        let rtp = datagram.zip(self.settled).and_then(|(datagram, format)| match format {
            Format::Rtp { clock_hz: 0 } => {
                let clock_hz = format::clock_hz(format::payload_type(datagram));
                Some((clock_hz, format::timestamp(datagram)))
            }
            Format::Rtp { clock_hz } => Some((clock_hz, format::timestamp(datagram))),
            _ => None,
        });
        self.timing.time_turn(&mut self.words, rtp.filter(|(clock_hz, _)| *clock_hz > 0));
    }
}
