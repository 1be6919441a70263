//! Histograms of how far the datagrams of one feed are behind those of another, in the words of a
//! rule: two buckets for each power of two.

use super::{SlotWords, log_linear, rule};

/// The words of a histogram.
pub const WORDS: usize = 11;
const IN_A_WORD: usize = 3;
/// Buckets of a histogram; the last one has no end.
const BUCKETS: usize = IN_A_WORD * WORDS;
const COUNT_BITS: usize = 21;
const MOST: u64 = (1 << COUNT_BITS) - 1;
/// The low bits of all counts but the highest of each, for halving.
const HALVED: u64 = {
    let half = MOST >> 1;
    half | half << COUNT_BITS | half << (2 * COUNT_BITS)
};
/// Bits of the length of the first bucket, in microseconds.
const UNIT_BITS: u32 = 4;
const PART_BITS: u32 = 1;

/// Counts datagrams that were this far behind. If their count is full, all are halved, so that the
/// shares remain.
#[inline]
pub fn count(words: &mut SlotWords, skew_us: u64, datagrams: u8) {
    let (word, shift) = place(bucket(skew_us));
    if (words[word] >> shift & MOST) + u64::from(datagrams) > MOST {
        words[rule::SKEW..rule::SKEW + WORDS]
            .iter_mut()
            .for_each(|word| *word = *word >> 1 & HALVED);
    }
    words[word] += u64::from(datagrams) << shift;
}

/// The time in microseconds within which this share of the datagrams were behind, in thousandths;
/// `None` without datagrams.
#[must_use]
pub fn percentile_us(words: &SlotWords, thousandths: u64) -> Option<u64> {
    let counts = (0..BUCKETS).map(|at| {
        let (word, shift) = place(at);
        words[word] >> shift & MOST
    });
    let total: u64 = counts.clone().sum();
    if total == 0 {
        return None;
    }
    let needed = (total * thousandths).div_ceil(1000).max(1);
    let mut sum = 0;
    for (at, count) in counts.enumerate() {
        sum += count;
        if sum >= needed {
            return Some(end_us(at));
        }
    }
    None
}

/// The word of a bucket, and the lowest bit in it.
const fn place(bucket: usize) -> (usize, usize) {
    (rule::SKEW + bucket / IN_A_WORD, bucket % IN_A_WORD * COUNT_BITS)
}

fn bucket(skew_us: u64) -> usize {
    log_linear::bucket(skew_us >> UNIT_BITS, PART_BITS).min(BUCKETS - 1)
}

/// The end of a bucket.
const fn end_us(at: usize) -> u64 {
    log_linear::begin(at + 1, PART_BITS) << UNIT_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ends_of_buckets() {
        let mut words = [0; super::super::SLOT_WORDS];
        assert_eq!(percentile_us(&words, 500), None);
        (0..98).for_each(|_| count(&mut words, 1_000, 1));
        (0..2).for_each(|_| count(&mut words, 40_000, 1));
        let [p50, p99] = [500, 990].map(|share| percentile_us(&words, share).unwrap());
        assert!((1_000..1_600).contains(&p50) && (40_000..60_000).contains(&p99), "{p50} {p99}");
        count(&mut words, u64::MAX, 1);
        (0..3_000_000).for_each(|_| count(&mut words, 1_000, 1));
        assert_eq!(percentile_us(&words, 500), Some(p50));
        assert!(percentile_us(&words, 1000).unwrap() >= 40_000);
    }
}
