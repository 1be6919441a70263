//! Token buckets that bound the rate of outputs.
//!
//! A bucket is one number, the time when it will be full again, so that the threads of a relay share
//! it without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::spec::{OutputRate, RateUnit};

/// Ticks in a nanosecond: fine enough for 100 Gbit/s, and enough of them for 36 years.
const TICKS_PER_NS: u64 = 16;
const TICKS_PER_S: u64 = 1_000_000_000 * TICKS_PER_NS;

/// The token bucket of an output.
#[derive(Debug)]
pub struct RateLimiter {
    limit: OutputRate,
    /// The time in which an empty bucket fills, in ticks.
    depth: u64,
    /// The time when the bucket will be full, in ticks of CLOCK_MONOTONIC.
    full_at: AtomicU64,
}

/// Datagrams of equal size, except that the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) datagrams: u32,
    /// Bytes of each payload, and of all of them.
    pub(super) segment: u32,
    pub(super) bytes: u32,
}

impl RateLimiter {
    /// A full bucket.
    #[must_use]
    pub fn new(limit: OutputRate) -> Self {
        let mut limiter = Self { limit, depth: 0, full_at: AtomicU64::new(0) };
        limiter.depth = match limit.unit {
            RateUnit::Bits => limiter.ticks(8 * limit.burst),
            RateUnit::Datagrams => limiter.ticks(limit.burst),
        };
        limiter
    }

    /// Takes the tokens of as many datagrams as there are tokens for; returns their number.
    pub(super) fn admit(&self, now_ns: u64, load: Load) -> u32 {
        let now = now_ns.saturating_mul(TICKS_PER_NS);
        let mut admitted = 0;
        let take = |full_at: u64| {
            let full_at = full_at.max(now);
            let cost;
            (admitted, cost) = self.afford(load, (now + self.depth).saturating_sub(full_at));
            (admitted > 0).then(|| full_at + cost)
        };
        self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok();
        admitted
    }

    /// How many datagrams these ticks pay for, and what they cost.
    fn afford(&self, load: Load, credit: u64) -> (u32, u64) {
        let Load { datagrams, segment, bytes } = load;
        let cost = |datagrams: u32, bytes: u64| match self.limit.unit {
            RateUnit::Bits => self.ticks(8 * bytes),
            RateUnit::Datagrams => self.ticks(datagrams.into()),
        };
        let all = cost(datagrams, bytes.into());
        if all <= credit {
            return (datagrams, all);
        }
        let whole = credit / cost(1, segment.into()).max(1);
        let admitted = u32::try_from(whole).unwrap_or(u32::MAX).min(datagrams - 1);
        (admitted, cost(admitted, u64::from(admitted) * u64::from(segment)))
    }

    /// The time in which the bucket gets this many bits or datagrams.
    fn ticks(&self, amount: u64) -> u64 {
        let ticks = u128::from(amount) * u128::from(TICKS_PER_S) / u128::from(self.limit.per_s);
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn bits(per_s: u64, burst: u64) -> RateLimiter {
        RateLimiter::new(OutputRate { unit: RateUnit::Bits, per_s, burst })
    }

    fn of(datagrams: u32, segment: u32) -> Load {
        Load { datagrams, segment, bytes: datagrams * segment }
    }

    #[test]
    fn a_full_bucket_admits_its_burst_and_then_what_its_rate_refills() {
        let limiter = bits(8_000_000, 10_000);
        assert_eq!(limiter.admit(MS, of(60, 1000)), 10);
        assert_eq!(limiter.admit(MS, of(60, 1000)), 0);
        assert_eq!(limiter.admit(4 * MS, of(60, 1000)), 3);
        assert_eq!(limiter.admit(1000 * MS, of(60, 1000)), 10, "no more than the burst");
    }

    #[test]
    fn a_rate_of_datagrams_counts_them_whatever_their_size() {
        let limit = OutputRate { unit: RateUnit::Datagrams, per_s: 1000, burst: 5 };
        let limiter = RateLimiter::new(limit);
        assert_eq!(limiter.admit(MS, of(4, 0)), 4);
        assert_eq!(limiter.admit(MS, of(4, 1400)), 1);
        assert_eq!(limiter.admit(3 * MS, of(4, 1400)), 2);
    }

    #[test]
    fn a_shorter_last_datagram_costs_what_it_has() {
        let limiter = bits(8_000_000, 2000);
        let load = Load { datagrams: 3, segment: 900, bytes: 2000 };
        assert_eq!(limiter.admit(0, load), 3);
        assert_eq!(limiter.admit(MS / 2, of(1, 501)), 0);
        assert_eq!(limiter.admit(MS / 2, of(1, 500)), 1);
    }

    #[test]
    fn the_extremes_neither_overflow_nor_pass_everything() {
        for (per_s, burst) in [(1000, 1_000_000_000), (100_000_000_000, 1472)] {
            let limiter = bits(per_s, burst);
            assert_eq!(
                limiter.admit(1 << 59, of(128, 500)),
                u32::try_from(burst / 500).unwrap().min(128)
            );
        }
    }

    #[test]
    fn the_long_run_is_the_rate() {
        let limiter = bits(50_000_000, 65_536);
        let seconds = 10;
        let sent: u64 = (0..seconds * 1000)
            .map(|ms| u64::from(limiter.admit(ms * MS, of(46, 1400))) * 1400 * 8)
            .sum();
        let rate = sent as f64 / f64::from(u32::try_from(seconds).unwrap());
        assert!((rate - 50e6).abs() < 0.01 * 50e6, "{rate}");
    }
}
