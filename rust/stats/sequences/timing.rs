//! The evenness of arrivals: the times between them, and the jitter of RFC 3550.

use super::super::log_linear;
use super::{JITTER_OF_TIMESTAMPS, SequenceWords, word};

/// Buckets for the times between arrivals: two for each power of two, from 1 us to 4 s.
pub const GAP_BUCKETS: usize = 44;
/// Bits of a time that the smallest bucket holds, about a microsecond.
const UNIT_BITS: u32 = 10;
const PART_BITS: u32 = 1;

/// The state of a flow besides its published words.
///
/// The times within one turn of the engine count with their mean, and the jitter is that between
/// the first datagrams of turns: where datagrams come one by one, that is each of them.
#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct ArrivalTiming {
    /// The last arrival.
    last_ns: u64,
    /// The frames of this turn.
    frames: u64,
    /// The first arrival of this turn, and the last one before.
    first_ns: u64,
    before_ns: u64,
    last_gap_ns: u64,
    /// The arrival less the time stamp of an RTP packet, in units of its clock.
    transit: Option<u32>,
}

impl ArrivalTiming {
    pub(super) const fn new() -> Self {
        Self { last_ns: 0, frames: 0, first_ns: 0, before_ns: 0, last_gap_ns: 0, transit: None }
    }

    /// Records the arrival of a frame; true for the first one of a turn.
    #[inline(always)]
    pub(super) fn arrive(&mut self, arrival_ns: u64) -> bool {
        let is_first = self.frames == 0;
        if is_first {
            (self.first_ns, self.before_ns) = (arrival_ns, self.last_ns);
        }
        self.last_ns = arrival_ns;
        self.frames += 1;
        is_first
    }

    /// Records the time of the first arrival of a turn; of an RTP packet with the rate of its clock
    /// and its time stamp. Without these the jitter is that of the times between arrivals.
    pub(super) fn time_turn(&mut self, words: &mut SequenceWords, rtp: Option<(u32, u32)>) {
        if self.before_ns > 0 {
            let gap_ns = self.first_ns.saturating_sub(self.before_ns);
            add_gaps(words, bucket(gap_ns), 1);
            let last_gap_ns = std::mem::replace(&mut self.last_gap_ns, gap_ns);
            if self.transit.is_none() && last_gap_ns > 0 {
                smooth(words, gap_ns.abs_diff(last_gap_ns));
            }
        }
        let Some((clock_hz, timestamp)) = rtp else { return };
        words[word::FORMAT] |= JITTER_OF_TIMESTAMPS;
        let transit = ticks(self.first_ns, clock_hz).wrapping_sub(timestamp);
        match self.transit.replace(transit) {
            None => words[word::JITTER] = 0,
            Some(last) => {
                let moved = u64::from(transit.wrapping_sub(last).cast_signed().unsigned_abs());
                smooth(words, nanoseconds(moved, clock_hz));
            }
        }
    }

    /// Counts the times between the arrivals of a turn.
    #[inline]
    pub(super) fn end_turn(&mut self, words: &mut SequenceWords) {
        let gaps = std::mem::take(&mut self.frames).saturating_sub(1);
        if let Some(mean_ns) = self.last_ns.saturating_sub(self.first_ns).checked_div(gaps) {
            add_gaps(words, bucket(mean_ns), gaps);
        }
    }
}

/// Adds a difference to the jitter (RFC 3550, A.8), which is kept times 16.
#[inline(always)]
fn smooth(words: &mut SequenceWords, difference_ns: u64) {
    let jitter = words[word::JITTER];
    words[word::JITTER] = jitter.saturating_add(difference_ns).saturating_sub((jitter + 8) >> 4);
}

/// A time in units of a clock, modulo 2^32.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "modulo 2^32")]
fn ticks(ns: u64, clock_hz: u32) -> u32 {
    ((u128::from(ns) * u128::from(per_ns(clock_hz))) >> 64) as u32
}

/// The ticks in a nanosecond, times 2^64.
#[inline(always)]
const fn per_ns(clock_hz: u32) -> u64 {
    const NS: u64 = 1_000_000_000;
    // The common rate as a constant: others cost a division.
    if clock_hz == 90_000 {
        const { ((90_000_u64 << 47) / NS) << 17 }
    } else {
        let ticks = clock_hz as u64;
        ((ticks << 32) / NS) << 32
    }
}

/// The length of so many ticks.
#[inline(always)]
fn nanoseconds(ticks: u64, clock_hz: u32) -> u64 {
    const NS: u64 = 1_000_000_000;
    if clock_hz == 90_000 { ticks * NS / 90_000 } else { ticks * NS / u64::from(clock_hz) }
}

/// The bucket of a time between arrivals.
#[inline(always)]
fn bucket(gap_ns: u64) -> usize {
    log_linear::bucket(gap_ns >> UNIT_BITS, PART_BITS).min(GAP_BUCKETS - 1)
}

/// The end of a bucket in microseconds; the last one has none.
#[must_use]
pub fn bucket_end_us(at: usize) -> Option<f64> {
    let end_ns = log_linear::begin(at + 1, PART_BITS) << UNIT_BITS;
    (at + 1 < GAP_BUCKETS).then_some(end_ns as f64 / 1e3)
}

/// The number of times in a bucket.
#[must_use]
pub fn gap_count(words: &SequenceWords, at: usize) -> u64 {
    words[word::ARRIVALS + at / 2] >> (at % 2 * 32) & 0xffff_ffff
}

/// Adds times to a bucket.
pub(super) fn add_gaps(words: &mut SequenceWords, at: usize, count: u64) {
    let sum = gap_count(words, at).saturating_add(count).min(0xffff_ffff);
    let shift = at % 2 * 32;
    let others = words[word::ARRIVALS + at / 2] & !(0xffff_ffff << shift);
    words[word::ARRIVALS + at / 2] = others | sum << shift;
}
