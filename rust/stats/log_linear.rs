//! The buckets of histograms: log-linear, so that a value is known with the same relative error at any
//! size. Each power of two is divided into the same number of buckets, a power of two itself.

/// The bucket of a value. Those below the number of parts have one each.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "less than 64 powers of two, and the parts")]
pub(super) const fn bucket(value: u64, part_bits: u32) -> usize {
    let parts = 1 << part_bits;
    if value < parts {
        return value as usize;
    }
    let power = value.ilog2() - part_bits;
    let part = value >> power & (parts - 1);
    (((power as u64 + 1) << part_bits) + part) as usize
}

/// The least value of a bucket.
pub(super) const fn begin(bucket: usize, part_bits: u32) -> u64 {
    let (bucket, parts) = (bucket as u64, 1 << part_bits);
    match (bucket >> part_bits).checked_sub(1) {
        None => bucket,
        Some(power) => (parts + bucket % parts) << power,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_is_in_its_bucket(value in 0..u64::MAX >> 4, part_bits in 0..4_u32) {
            let at = bucket(value, part_bits);
            prop_assert!((begin(at, part_bits)..begin(at + 1, part_bits)).contains(&value));
        }
    }
}
