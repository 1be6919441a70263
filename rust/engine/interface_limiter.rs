//! The rate of an output interface, divided among classes of traffic.
//!
//! Each class has a token bucket. What the rate gives is poured into the buckets of the highest
//! priority, by weight; what they cannot hold goes to those of the next priority. So a class of a
//! higher priority gets what it needs, and classes of one priority share by their weights, without
//! a queue. All numbers are atomic and no token is given twice, so that the threads of a relay share
//! the buckets without a lock.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::limiter::{Load, TokenCost};
use crate::spec::{ClassSpec, OutputRate};

/// The buckets of an interface.
#[derive(Debug)]
pub struct InterfaceLimiter {
    token_cost: TokenCost,
    /// The time in which the rate fills one bucket, in ticks.
    depth: u64,
    /// In the order in which they are filled.
    buckets: Box<[ClassBucket]>,
    /// The classes of each priority, the highest first.
    ranks: Box<[Range<usize>]>,
    /// Up to when the buckets have got their tokens, in ticks of CLOCK_MONOTONIC.
    filled_at: AtomicU64,
}

/// The bucket of one class.
#[derive(Debug)]
struct ClassBucket {
    class: Box<str>,
    weight: u64,
    /// Its tokens, in ticks.
    level: AtomicU64,
}

/// The class of an output, and the interface by which its copies leave.
#[derive(Clone, Debug)]
pub struct ClassShare {
    limiter: Arc<InterfaceLimiter>,
    /// The number of the class's bucket, and of the first one of a lower priority.
    bucket: usize,
    lower: usize,
}

impl InterfaceLimiter {
    /// Full buckets for these classes, each of which may send the burst of the rate after a rest.
    #[must_use]
    pub fn new(rate: &OutputRate, classes: &[ClassSpec]) -> Self {
        let token_cost = TokenCost::of(rate);
        let depth = token_cost.burst(rate.burst);
        let mut sorted: Vec<&ClassSpec> = classes.iter().collect();
        sorted.sort_by_key(|class| u8::MAX - class.priority);
        let bucket = |class: &&ClassSpec| ClassBucket {
            class: class.name.as_str().into(),
            weight: class.weight.into(),
            level: AtomicU64::new(depth),
        };
        let mut ranks: Vec<Range<usize>> = Vec::new();
        for rank in sorted.chunk_by(|one, other| one.priority == other.priority) {
            let start = ranks.last().map_or(0, |before| before.end);
            ranks.push(start..start + rank.len());
        }
        let buckets = sorted.iter().map(bucket).collect();
        Self { token_cost, depth, buckets, ranks: ranks.into(), filled_at: AtomicU64::new(0) }
    }

    /// The share of a class; `None` if there is no such class.
    #[must_use]
    pub fn share(self: &Arc<Self>, class: &str) -> Option<ClassShare> {
        let bucket = self.buckets.iter().position(|each| &*each.class == class)?;
        let lower = self.ranks.iter().find(|rank| rank.contains(&bucket))?.end;
        Some(ClassShare { limiter: self.clone(), bucket, lower })
    }

    /// Gives the buckets what the rate has given since the last time. One thread does it for all.
    fn fill(&self, now: u64) {
        let before = self.filled_at.load(Ordering::Relaxed);
        if now <= before {
            return;
        }
        let claimed =
            self.filled_at.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed);
        if claimed.is_err() {
            return;
        }
        let mut tokens = now - before;
        for rank in &self.ranks {
            tokens = pour(&self.buckets[rank.clone()], tokens, self.depth);
            if tokens == 0 {
                return;
            }
        }
    }
}

impl ClassShare {
    /// Takes the tokens of as many datagrams as there are tokens for; returns their number.
    pub(super) fn admit(&self, now_ns: u64, load: Load) -> u32 {
        let Self { limiter, bucket, lower } = self;
        limiter.fill(TokenCost::now(now_ns));
        let own = &limiter.buckets[*bucket];
        let needed = limiter.token_cost.cost(load.datagrams, load.bytes.into()).min(limiter.depth);
        let mut missing = needed.saturating_sub(own.level.load(Ordering::Relaxed));
        // Nothing of a lower class passes before what a higher one has.
        for other in limiter.buckets[*lower..].iter().rev() {
            if missing == 0 {
                break;
            }
            let borrowed = other.take(missing);
            own.level.fetch_add(borrowed, Ordering::Relaxed);
            missing -= borrowed;
        }
        let mut admitted = 0;
        let pay = |level: u64| {
            let cost;
            (admitted, cost) = limiter.token_cost.afford(load, level);
            (admitted > 0).then(|| level - cost)
        };
        own.level.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).ok();
        admitted
    }

    /// Whether it is the same share of the same buckets.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.limiter, &other.limiter) && self.bucket == other.bucket
    }
}

impl ClassBucket {
    /// Adds tokens as far as there is room; returns their number.
    fn add(&self, tokens: u64, depth: u64) -> u64 {
        let mut added = 0;
        let add = |level: u64| {
            added = tokens.min(depth.saturating_sub(level));
            (added > 0).then(|| level + added)
        };
        self.level.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok();
        added
    }

    /// Takes up to so many tokens; returns their number.
    fn take(&self, tokens: u64) -> u64 {
        let mut taken = 0;
        let take = |level: u64| {
            taken = tokens.min(level);
            (taken > 0).then(|| level - taken)
        };
        self.level.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok();
        taken
    }
}

/// Divides tokens among buckets by their weights, again and again what a full one leaves; returns
/// what none of them holds.
fn pour(buckets: &[ClassBucket], mut tokens: u64, depth: u64) -> u64 {
    let is_open = |bucket: &&ClassBucket| bucket.level.load(Ordering::Relaxed) < depth;
    // Each round fills a bucket, but for the last.
    for _ in 0..=buckets.len() {
        let weights: u64 = buckets.iter().filter(is_open).map(|bucket| bucket.weight).sum();
        if weights == 0 || tokens == 0 {
            break;
        }
        let (mut given, mut weight, mut divided) = (0, 0, 0);
        for bucket in buckets.iter().filter(is_open) {
            weight += bucket.weight;
            // Up to here, so that no fraction of a token is lost.
            let end = u128::from(tokens) * u128::from(weight.min(weights)) / u128::from(weights);
            let end = u64::try_from(end).unwrap_or(u64::MAX);
            given += bucket.add(end - divided, depth);
            divided = end;
        }
        tokens -= given;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RateUnit;

    const MS: u64 = 1_000_000;

    fn class(name: &str, priority: u8, weight: u16) -> ClassSpec {
        ClassSpec { name: name.to_owned(), priority, weight }
    }

    /// 1000 datagrams a second, with a burst of 10.
    fn limiter(classes: &[ClassSpec]) -> Arc<InterfaceLimiter> {
        let (unit, per_s, burst) = (RateUnit::Datagrams, 1000, 10);
        let rate = OutputRate { unit, per_s, burst, queue_us: 0, paced: false };
        Arc::new(InterfaceLimiter::new(&rate, classes))
    }

    fn of(datagrams: u32) -> Load {
        Load { datagrams, segment: 100, bytes: datagrams * 100 }
    }

    /// How many datagrams each share sends in a second, two seconds after this time, in which each
    /// has this many each millisecond; those before empty the buckets.
    fn compete(from_s: u64, shares: &[(&ClassShare, u32)]) -> Vec<u32> {
        let mut sent = vec![0; shares.len()];
        for ms in 0..3000 {
            for (sent, (share, offered)) in sent.iter_mut().zip(shares) {
                let admitted = (0..*offered)
                    .map(|_| share.admit((1 + 1000 * from_s + ms) * MS, of(1)))
                    .sum::<u32>();
                *sent += if ms < 2000 { 0 } else { admitted };
            }
        }
        sent
    }

    #[test]
    fn a_higher_priority_gets_all_it_needs() {
        let limiter = limiter(&[class("low", 0, 100), class("high", 7, 1)]);
        let (low, high) = (limiter.share("low").unwrap(), limiter.share("high").unwrap());
        assert_eq!(compete(0, &[(&low, 2), (&high, 1)]), [0, 1000]);
        assert_eq!(compete(3, &[(&low, 2), (&high, 0)]), [1000, 0], "what it leaves is for others");
    }

    #[test]
    fn classes_of_one_priority_share_by_weight() {
        let limiter = limiter(&[class("a", 3, 3), class("b", 3, 1), class("c", 3, 4)]);
        let share = |name| limiter.share(name).unwrap();
        let (a, b, c) = (share("a"), share("b"), share("c"));
        let sent = compete(0, &[(&a, 2), (&b, 2)]);
        assert!(sent[0].abs_diff(750) <= 1 && sent[1].abs_diff(250) <= 1, "{sent:?}");
        let sent = compete(3, &[(&a, 2), (&b, 2), (&c, 2)]);
        assert!(sent[0].abs_diff(375) <= 1 && sent[2].abs_diff(500) <= 1, "{sent:?}");
    }

    #[test]
    fn no_token_is_lost_however_often_buckets_are_filled() {
        let classes: Vec<_> = (0..7).map(|at| class(&at.to_string(), 3, 1 + at)).collect();
        let limiter = limiter(&classes);
        let begin_ns = 1_000_000;
        let share = limiter.share("0").unwrap();
        share.admit(begin_ns, of(1));
        limiter.buckets.iter().for_each(|bucket| bucket.level.store(0, Ordering::Relaxed));
        (1..=10_000).for_each(|ns| limiter.fill(TokenCost::now(begin_ns + ns)));
        let levels = limiter.buckets.iter().map(|bucket| bucket.level.load(Ordering::Relaxed));
        assert_eq!(levels.sum::<u64>(), TokenCost::now(10_000));
    }

    #[test]
    fn a_burst_takes_the_tokens_of_lower_classes() {
        let limiter = limiter(&[class("high", 7, 1), class("mid", 3, 1), class("low", 0, 1)]);
        let share = |name| limiter.share(name).unwrap();
        let admitted = (0..40).map(|_| share("high").admit(MS, of(1))).sum::<u32>();
        assert_eq!(admitted, 30);
        assert_eq!(share("low").admit(MS, of(1)) + share("mid").admit(MS, of(1)), 0);
    }

    #[test]
    fn a_lower_class_takes_nothing_of_a_higher_one() {
        let limiter = limiter(&[class("high", 7, 1), class("low", 0, 1)]);
        let share = |name| limiter.share(name).unwrap();
        assert_eq!((0..40).map(|_| share("low").admit(MS, of(1))).sum::<u32>(), 10);
        assert_eq!(share("high").admit(MS, of(10)), 10);
        assert!(limiter.share("other").is_none());
    }

    #[test]
    fn a_batch_is_admitted_in_part() {
        let limiter = limiter(&[class("only", 0, 1)]);
        let share = limiter.share("only").unwrap();
        assert_eq!(share.admit(MS, of(64)), 10);
        assert_eq!(share.admit(4 * MS, of(64)), 3);
    }

    #[test]
    fn threads_together_send_the_rate() {
        let limiter = limiter(&[class("a", 3, 3), class("b", 3, 1), class("low", 0, 1)]);
        let shares = ["a", "b", "low"].map(|name| limiter.share(name).unwrap());
        let sent = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for share in &shares {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for us in 0..200_000 {
                            let admitted = share.admit(MS + us * 1000, of(2));
                            sent.fetch_add(admitted.into(), Ordering::Relaxed);
                        }
                    });
                }
            }
        });
        let sent = sent.into_inner();
        assert!((200..=230).contains(&sent), "{sent}: 200 ms and three bursts");
    }

    #[test]
    fn the_extremes_neither_overflow_nor_pass_everything() {
        let classes: Vec<_> = (0..16).map(|at| class(&at.to_string(), 3, 1000)).collect();
        for (per_s, burst) in [(1000, 1_000_000_000), (100_000_000_000, 1472)] {
            let unit = RateUnit::Bits;
            let rate = OutputRate { unit, per_s, burst, queue_us: 0, paced: false };
            let limiter = Arc::new(InterfaceLimiter::new(&rate, &classes));
            let most = u32::try_from(burst / 100).unwrap().min(128);
            assert_eq!(limiter.share("0").unwrap().admit(1 << 59, of(128)), most);
        }
    }
}
