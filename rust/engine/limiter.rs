//! Token buckets that bound the rate of outputs.
//!
//! A bucket is one number, the time when it will be full again, so that the threads of a relay share
//! it without a lock.

#[cfg(not(all(test, loom)))]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

#[cfg(all(test, loom))]
use loom::sync::atomic::AtomicU64;

use crate::spec::{OutputRate, RateUnit};

/// Ticks in a nanosecond: fine enough for 100 Gbit/s, and enough of them for 36 years.
const TICKS_PER_NS: u64 = 16;
const TICKS_PER_S: u64 = 1_000_000_000 * TICKS_PER_NS;

/// What tokens a rate charges for datagrams: the time in which the rate sends them, in ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenCost {
    unit: RateUnit,
    per_s: u64,
}

/// The token bucket of an output.
#[derive(Debug)]
pub struct RateLimiter {
    limit: OutputRate,
    token_cost: TokenCost,
    /// The time in which an empty bucket fills, in ticks.
    depth: u64,
    /// How long a datagram may wait, in ticks.
    patience: u64,
    /// The time when the bucket will be full, in ticks of CLOCK_MONOTONIC. What waits has taken its
    /// tokens already.
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

impl TokenCost {
    pub(super) const fn of(rate: &OutputRate) -> Self {
        Self { unit: rate.unit, per_s: rate.per_s }
    }

    /// This time in ticks.
    pub(super) const fn now(now_ns: u64) -> u64 {
        now_ns.saturating_mul(TICKS_PER_NS)
    }

    /// The tokens of a burst of so many bytes or datagrams.
    pub(super) fn burst(self, burst: u64) -> u64 {
        match self.unit {
            RateUnit::Bits => self.ticks(8 * burst),
            RateUnit::Datagrams => self.ticks(burst),
        }
    }

    /// The tokens of datagrams of so many bytes together.
    pub(super) fn cost(self, datagrams: u32, bytes: u64) -> u64 {
        match self.unit {
            RateUnit::Bits => self.ticks(8 * bytes),
            RateUnit::Datagrams => self.ticks(datagrams.into()),
        }
    }

    /// How many datagrams these tokens pay for, and what they cost.
    pub(super) fn afford(self, load: Load, credit: u64) -> (u32, u64) {
        let Load { datagrams, segment, bytes } = load;
        let all = self.cost(datagrams, bytes.into());
        if all <= credit {
            return (datagrams, all);
        }
        let whole = credit / self.cost(1, segment.into()).max(1);
        let admitted = u32::try_from(whole).unwrap_or(u32::MAX).min(datagrams - 1);
        (admitted, self.cost(admitted, u64::from(admitted) * u64::from(segment)))
    }

    /// The time in which the rate sends this many bits or datagrams.
    fn ticks(self, amount: u64) -> u64 {
        let ticks = u128::from(amount) * u128::from(TICKS_PER_S) / u128::from(self.per_s);
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

impl RateLimiter {
    /// A full bucket.
    #[must_use]
    pub fn new(limit: OutputRate) -> Self {
        let patience = u64::from(limit.queue_us) * 1000 * TICKS_PER_NS;
        let token_cost = TokenCost::of(&limit);
        let depth = token_cost.burst(limit.burst);
        Self { limit, token_cost, depth, patience, full_at: AtomicU64::new(0) }
    }

    /// Takes the tokens of as many datagrams as there are tokens for; returns their number.
    pub(super) fn admit(&self, now_ns: u64, load: Load) -> u32 {
        let now = TokenCost::now(now_ns);
        let mut admitted = 0;
        let take = |full_at: u64| {
            let full_at = full_at.max(now);
            let cost;
            let credit = (now + self.depth).saturating_sub(full_at);
            (admitted, cost) = self.token_cost.afford(load, credit);
            (admitted > 0).then(|| full_at + cost)
        };
        self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok();
        admitted
    }

    /// Whether what exceeds the rate may wait.
    #[must_use]
    pub(super) const fn has_queue(&self) -> bool {
        self.limit.queue_us > 0
    }

    /// Whether datagrams leave one by one.
    #[must_use]
    pub(super) const fn is_paced(&self) -> bool {
        self.limit.paced
    }

    /// The time in nanoseconds between a datagram of `bytes` bytes and the next one.
    #[must_use]
    pub(super) fn spacing_ns(&self, bytes: u32) -> u64 {
        self.token_cost.cost(1, bytes.into()) / TICKS_PER_NS
    }

    /// Takes the tokens of a datagram of `bytes` bytes; returns when it may leave, in nanoseconds of
    /// CLOCK_MONOTONIC, or `None` if that is later than it may wait.
    pub(super) fn reserve(&self, now_ns: u64, bytes: u32) -> Option<u64> {
        let now = TokenCost::now(now_ns);
        let cost = self.token_cost.cost(1, bytes.into());
        let depth = if self.limit.paced { cost } else { self.depth };
        if cost > depth {
            return None;
        }
        let mut leaves = now;
        let take = |full_at: u64| {
            let full_at = full_at.max(now) + cost;
            leaves = now.max(full_at - depth);
            (leaves - now <= self.patience).then_some(full_at)
        };
        self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(leaves.div_ceil(TICKS_PER_NS))
    }

    /// Bytes of memory for what waits: twice what the rate gives in the longest wait, for datagrams
    /// of 1500 bytes if it counts datagrams, and some more.
    #[must_use]
    pub(super) fn queue_bytes(&self) -> u32 {
        const LEAST: u64 = 128 * 1024;
        const MOST: u64 = 16 * 1024 * 1024;
        let bytes_per_s = match self.limit.unit {
            RateUnit::Bits => self.limit.per_s / 8,
            RateUnit::Datagrams => self.limit.per_s * 1500,
        };
        let waiting = bytes_per_s.saturating_mul(self.limit.queue_us.into()) / 1_000_000;
        u32::try_from((LEAST + 2 * waiting).min(MOST)).unwrap_or(u32::MAX)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use super::*;

    /// Two engines share the bucket of an output.
    #[test]
    fn threads_take_each_token_once() {
        loom::model(|| {
            let limit = OutputRate {
                unit: RateUnit::Datagrams,
                per_s: 1000,
                burst: 3,
                queue_us: 0,
                paced: false,
            };
            let limiter = Arc::new(RateLimiter::new(limit));
            let shared = limiter.clone();
            let load = Load { datagrams: 2, segment: 100, bytes: 200 };
            let other = loom::thread::spawn(move || shared.admit(1_000_000, load));
            let own = limiter.admit(1_000_000, load) + limiter.admit(1_000_000, load);
            assert_eq!(own + other.join().unwrap(), 3);
        });
    }

    #[test]
    fn threads_reserve_times_one_after_the_other() {
        loom::model(|| {
            let limit = OutputRate {
                unit: RateUnit::Datagrams,
                per_s: 1000,
                burst: 1,
                queue_us: 10_000,
                paced: true,
            };
            let limiter = Arc::new(RateLimiter::new(limit));
            let shared = limiter.clone();
            let other = loom::thread::spawn(move || shared.reserve(0, 100));
            let mut times = [limiter.reserve(0, 100), other.join().unwrap()];
            times.sort_unstable();
            assert_eq!(times, [Some(0), Some(1_000_000)]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn bits(per_s: u64, burst: u64) -> RateLimiter {
        RateLimiter::new(OutputRate {
            unit: RateUnit::Bits,
            per_s,
            burst,
            queue_us: 0,
            paced: false,
        })
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
        let limit = OutputRate {
            unit: RateUnit::Datagrams,
            per_s: 1000,
            burst: 5,
            queue_us: 0,
            paced: false,
        };
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
    fn what_exceeds_leaves_at_the_rate_or_not_at_all() {
        let limit = OutputRate {
            unit: RateUnit::Datagrams,
            per_s: 1000,
            burst: 2,
            queue_us: 3000,
            paced: false,
        };
        let limiter = RateLimiter::new(limit);
        let leaves: Vec<_> = (0..7).map(|_| limiter.reserve(MS, 100)).collect();
        let at = |ms: u64| Some(ms * MS);
        assert_eq!(leaves, [at(1), at(1), at(2), at(3), at(4), None, None]);
        assert_eq!(limiter.reserve(2 * MS, 100), at(5), "a refused one has taken nothing");
        assert_eq!(limiter.admit(2 * MS, of(1, 100)), 0, "what waits comes first");
        assert_eq!(bits(8_000_000, 2000).reserve(MS, 2001), None, "larger than the bucket");
    }

    #[test]
    fn paced_datagrams_are_spaced_by_their_cost() {
        let limit = OutputRate {
            unit: RateUnit::Bits,
            per_s: 8_000_000,
            burst: 65_535,
            queue_us: 3000,
            paced: true,
        };
        let limiter = RateLimiter::new(limit);
        let leaves = [1000, 500, 1000, 2000, 1].map(|bytes| limiter.reserve(MS, bytes));
        let at = |us: u64| Some(us * 1000);
        assert_eq!(leaves, [at(1000), at(2000), at(2500), at(3500), None]);
        assert_eq!(limiter.spacing_ns(500), MS / 2);
    }

    #[test]
    fn the_memory_of_a_queue_is_bounded() {
        let bytes = |unit, per_s, queue_us| {
            RateLimiter::new(OutputRate { unit, per_s, burst: 2000, queue_us, paced: false })
                .queue_bytes()
        };
        assert_eq!(bytes(RateUnit::Bits, 80_000_000, 20_000), 131_072 + 400_000);
        assert_eq!(bytes(RateUnit::Datagrams, 1000, 1000), 131_072 + 3000);
        assert_eq!(bytes(RateUnit::Bits, 100_000_000_000, 1_000_000), 16 << 20);
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

    proptest::proptest! {
        /// Whatever arrives, and however long the window is.
        #[test]
        fn no_window_has_more_than_the_rate_and_a_burst(
            arrivals in proptest::collection::vec((0..20 * MS, 1..64_u32), 1..200),
            (per_s, burst) in (1_000..100_000_u64, 1..500_u64),
            window_ms in 1..200_u64,
        ) {
            let (unit, queue_us, paced) = (RateUnit::Datagrams, 0, false);
            let limiter = RateLimiter::new(OutputRate { unit, per_s, burst, queue_us, paced });
            let (mut now_ns, mut sent) = (0, Vec::new());
            for (after_ns, datagrams) in arrivals {
                now_ns += after_ns;
                sent.push((now_ns, u64::from(limiter.admit(now_ns, of(datagrams, 100)))));
            }
            let most = per_s * window_ms / 1000 + burst + 1;
            for (at, (begin_ns, _)) in sent.iter().enumerate() {
                let is_within = |each: &&(u64, u64)| each.0 < begin_ns + window_ms * MS;
                let within = sent[at..].iter().take_while(is_within).map(|each| each.1);
                proptest::prop_assert!(within.sum::<u64>() <= most);
            }
        }
    }
}
