//! The buckets of a histogram: log-linear, so that a value is known with the same relative error at
//! any size, from microseconds to seconds.

/// Each power of two is divided into this many buckets.
const PARTS: usize = 1 << PART_BITS;
const PART_BITS: u32 = 3;
/// The first bucket has all values below this power of two, in nanoseconds: about a microsecond.
const FIRST_BITS: u32 = 10;
/// Values from this power of two on have no bucket: 17 seconds.
const LAST_BITS: u32 = 34;

/// The number of buckets.
pub(super) const COUNT: usize = 1 + (LAST_BITS - FIRST_BITS) as usize * PARTS;

/// The number of the bucket of a time in nanoseconds; `None` if it is longer than any.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the part is less than `PARTS`")]
pub(super) const fn find(ns: u64) -> Option<usize> {
    let Some(bits) = ns.checked_ilog2() else { return Some(0) };
    if bits < FIRST_BITS {
        return Some(0);
    }
    if bits >= LAST_BITS {
        return None;
    }
    let part = (ns >> (bits - PART_BITS)) as usize & (PARTS - 1);
    Some(1 + (bits - FIRST_BITS) as usize * PARTS + part)
}

/// The least time of a bucket, and the least of the next one, in nanoseconds.
#[must_use]
pub(super) const fn bounds(bucket: usize) -> [u64; 2] {
    [start(bucket), start(bucket + 1)]
}

const fn start(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(1) else { return 0 };
    ((PARTS + above % PARTS) as u64) << (FIRST_BITS - PART_BITS) << (above / PARTS)
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
