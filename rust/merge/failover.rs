//! Feeds without numbers: one of them is sent, and another one while that is silent.

use super::{FeedPlace, MAX_LEGS};

/// How long a feed must have delivered without a silence until it is sent in place of a later one:
/// so many of the longest silences, and at least this long.
const STEADY_SILENCES: u64 = 5;
const LEAST_STEADY_US: u64 = 1_000_000;

/// When a feed delivered.
#[derive(Clone, Copy, Default)]
struct FeedTimes {
    last_us: u64,
    /// The end of its last silence.
    since_us: u64,
}

pub(super) struct Failover {
    silence_us: u64,
    active: usize,
    is_begun: bool,
    feeds: [FeedTimes; MAX_LEGS],
}

impl Failover {
    /// Without datagrams; the first feed is the active one. Another one takes its place after this
    /// silence.
    pub(super) fn new(silence_us: u64) -> Self {
        Self { silence_us, active: 0, is_begun: false, feeds: Default::default() }
    }

    /// The feed that is sent.
    pub(super) const fn active(&self) -> usize {
        self.active
    }

    /// Finds out whether a datagram is sent.
    pub(super) fn place(&mut self, leg: usize, now_us: u64) -> FeedPlace {
        if !self.is_begun {
            // The first feed gets the time to begin that it would have for a pause.
            self.is_begun = true;
            self.feeds[self.active].last_us = now_us;
        }
        let feed = &mut self.feeds[leg];
        if now_us.saturating_sub(feed.last_us) >= self.silence_us {
            feed.since_us = now_us;
        }
        feed.last_us = now_us;
        if leg != self.active && (self.is_silent(self.active, now_us) || self.returns(leg, now_us))
        {
            self.active = leg;
        }
        if leg == self.active { FeedPlace::First } else { FeedPlace::Duplicate { skew_us: None } }
    }

    fn is_silent(&self, leg: usize, now_us: u64) -> bool {
        now_us.saturating_sub(self.feeds[leg].last_us) >= self.silence_us
    }

    /// Whether a feed stands before the active one, and is steady.
    fn returns(&self, leg: usize, now_us: u64) -> bool {
        let steady_us = (STEADY_SILENCES * self.silence_us).max(LEAST_STEADY_US);
        leg < self.active && now_us.saturating_sub(self.feeds[leg].since_us) >= steady_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE_US: u64 = 200_000;

    /// Delivers on these feeds every 10 ms from one time to another; returns who was sent.
    fn deliver(
        failover: &mut Failover,
        legs: &[usize],
        (from_ms, to_ms): (u64, u64),
    ) -> Vec<(u64, usize)> {
        let times = (from_ms..to_ms).step_by(10);
        let each = times.flat_map(|now_ms| legs.iter().map(move |leg| (now_ms, *leg)));
        each.filter(|(now_ms, leg)| failover.place(*leg, now_ms * 1000) == FeedPlace::First)
            .collect()
    }

    #[test]
    fn the_standby_is_sent_while_the_first_feed_is_silent() {
        let mut failover = Failover::new(SILENCE_US);
        let sent = deliver(&mut failover, &[1, 0], (0, 1000));
        assert!(sent.iter().all(|(_, leg)| *leg == 0) && sent.len() == 100);
        let sent = deliver(&mut failover, &[1], (1000, 2000));
        assert_eq!(sent.first(), Some(&(1190, 1)));
        // It returns once it has been steady for a second.
        let sent = deliver(&mut failover, &[0, 1], (2000, 4000));
        assert!(sent.iter().all(|(now_ms, leg)| (*leg == 0) == (*now_ms >= 3000)), "{sent:?}");
    }

    #[test]
    fn a_feed_that_flaps_does_not_return() {
        let mut failover = Failover::new(SILENCE_US);
        deliver(&mut failover, &[0, 1], (0, 100));
        deliver(&mut failover, &[1], (100, 500));
        for begin in (500..5000).step_by(900) {
            let both = deliver(&mut failover, &[0, 1], (begin, begin + 600));
            let alone = deliver(&mut failover, &[1], (begin + 600, begin + 900));
            assert_eq!((both.len(), alone.len()), (60, 30));
        }
        assert_eq!(failover.active(), 1);
    }

    #[test]
    fn whichever_feed_delivers_after_a_silence_of_all_is_sent() {
        let mut failover = Failover::new(SILENCE_US);
        deliver(&mut failover, &[0, 1, 2], (0, 100));
        assert_eq!(deliver(&mut failover, &[2], (5000, 5010)), [(5000, 2)]);
        // The first one is next in turn, but not steady.
        assert_eq!(deliver(&mut failover, &[0, 2], (5010, 5020)), [(5010, 2)]);
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        /// Times at which feeds deliver, each after the one before.
        fn arrivals() -> impl Strategy<Value = Vec<(usize, u64)>> {
            let step = (0..3_usize, prop_oneof![9 => 0..30_000_u64, 1 => 0..2_000_000_u64]);
            prop::collection::vec(step, 1..500).prop_map(|steps| {
                let mut now_us = 10_000_000;
                let step = |(leg, us)| {
                    now_us += us;
                    (leg, now_us)
                };
                steps.into_iter().map(step).collect()
            })
        }

        proptest! {
            /// Nothing is dropped while what is sent is silent, and a feed gives way only to one
            /// that delivers when it is silent, or to a steady one before it.
            #[test]
            fn the_gap_is_at_most_the_silence(arrivals in arrivals()) {
                let mut failover = Failover::new(SILENCE_US);
                let mut sent_us = arrivals[0].1;
                let mut active = 0;
                for (at, &(leg, now_us)) in arrivals.iter().enumerate() {
                    let place = failover.place(leg, now_us);
                    if now_us - sent_us >= SILENCE_US {
                        prop_assert_eq!(place, FeedPlace::First);
                    }
                    if place == FeedPlace::First {
                        prop_assert_eq!(leg, failover.active());
                        if leg != active && now_us - sent_us < SILENCE_US {
                            prop_assert!(leg < active);
                            let own = arrivals[..=at].iter().filter(|each| each.0 == leg);
                            let own: Vec<_> = own.map(|each| each.1).collect();
                            let steady = now_us - LEAST_STEADY_US;
                            prop_assert!(own[0] <= steady);
                            let recent = own.windows(2).filter(|pair| pair[1] > steady);
                            for pair in recent {
                                prop_assert!(pair[1] - pair[0] < SILENCE_US);
                            }
                        }
                        (active, sent_us) = (leg, now_us);
                    }
                }
            }
        }
    }
}
