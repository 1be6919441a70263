//! The buckets of a histogram of latency, from microseconds to seconds.

use super::super::log_linear;

/// Each power of two is divided into `1 << PART_BITS` buckets.
const PART_BITS: u32 = 3;
/// The first bucket has all values below this power of two, in nanoseconds: about a microsecond.
const FIRST_BITS: u32 = 10;
/// Values from this power of two on have no bucket: 17 seconds.
const LAST_BITS: u32 = 34;
/// The bits of the length of the second bucket, and the number of buckets of that length below it.
const UNIT_BITS: u32 = FIRST_BITS - PART_BITS;
const BELOW: usize = (1 << PART_BITS) - 1;

/// The number of buckets.
pub(super) const COUNT: usize = 1 + ((LAST_BITS - FIRST_BITS) << PART_BITS) as usize;

/// The number of the bucket of a time in nanoseconds; `None` if it is longer than any.
#[inline]
pub(super) const fn find(ns: u64) -> Option<usize> {
    if ns >> LAST_BITS != 0 {
        return None;
    }
    Some(log_linear::bucket(ns >> UNIT_BITS, PART_BITS).saturating_sub(BELOW))
}

/// The least time of a bucket, and the least of the next one, in nanoseconds.
#[must_use]
pub(super) const fn bounds(bucket: usize) -> [u64; 2] {
    [if bucket == 0 { 0 } else { start(bucket) }, start(bucket + 1)]
}

const fn start(bucket: usize) -> u64 {
    log_linear::begin(bucket + BELOW, PART_BITS) << UNIT_BITS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_buckets_cover_all_times_without_gaps() {
        let bounds: Vec<_> = (0..COUNT).map(bounds).collect();
        assert_eq!((bounds[0], bounds[1]), ([0, 1024], [1024, 1152]));
        assert_eq!(bounds[COUNT - 1][1], 1 << LAST_BITS);
        assert!(bounds.windows(2).all(|pair| pair[0][1] == pair[1][0]));
        assert_eq!((find(1 << LAST_BITS), find(u64::MAX)), (None, None));
    }

    proptest! {
        #[test]
        fn a_time_is_in_its_bucket_and_known_within_a_sixteenth(ns in 0_u64..1 << LAST_BITS) {
            let [least, next] = bounds(find(ns).unwrap());
            prop_assert!((least..next).contains(&ns));
            let middle = least.midpoint(next);
            let error = middle.abs_diff(ns);
            prop_assert!(error <= ns / 16 + 1 || ns < 1 << FIRST_BITS && error <= 512);
        }
    }
}
