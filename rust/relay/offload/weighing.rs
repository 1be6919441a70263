//! Whether the engine relays the stream of a rule faster than the kernel.
//!
//! The kernel copies datagram by datagram, in about the same time whatever their sizes are. The
//! engine sends many datagrams of one size to an output at once, which takes less with several
//! outputs, and much more where sizes differ. So it gets streams of equal sizes to many outputs, if
//! there is so much of them that batches form.

use std::time::{Duration, Instant};

use crate::offload::Observed;

/// The fewest outputs with which batches are faster.
pub(super) const MANY_OUTPUTS: usize = 8;
/// The least time between two looks.
const LOOK: Duration = Duration::from_millis(900);
/// How many looks in succession have to agree before a rule moves.
const AGREEING_LOOKS: u32 = 2;

/// From where on batches are faster.
struct BatchLimits {
    /// Copies a second, of all outputs.
    copies: f64,
    /// The share of datagrams that are as long as the one before.
    repeats: f64,
}

/// What a rule in the kernel has to exceed to move to the engine, and to stay there. They are apart,
/// so that a stream between them does not move to and fro.
const TO_ENGINE: BatchLimits = BatchLimits { copies: 50_000.0, repeats: 0.8 };
const AT_ENGINE: BatchLimits = BatchLimits { copies: 20_000.0, repeats: 0.5 };

/// The looks at one rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Weighing {
    last: Option<(Instant, Observed)>,
    is_for_engine: bool,
    /// The last looks that all spoke for the other.
    looks: u32,
}

impl Weighing {
    /// Whether the engine is to relay the rule.
    pub(super) fn is_for_engine(&self) -> bool {
        self.is_for_engine
    }

    /// Takes a look at a rule with so many outputs; returns whether it is to move.
    pub(super) fn look(&mut self, observed: Observed, outputs: usize, now: Instant) -> bool {
        let Some((at, before)) = self.last else {
            self.last = Some((now, observed));
            return false;
        };
        let elapsed = now.duration_since(at);
        if elapsed < LOOK {
            return false;
        }
        self.last = Some((now, observed));
        // In a new place a rule counts from zero.
        let Some(datagrams) = observed.datagrams.checked_sub(before.datagrams) else {
            return false;
        };
        let repeats = observed.repeats.saturating_sub(before.repeats);
        let limits = if self.is_for_engine { AT_ENGINE } else { TO_ENGINE };
        let copies = datagrams as f64 * outputs as f64 / elapsed.as_secs_f64();
        let has_batches = outputs >= MANY_OUTPUTS
            && copies >= limits.copies
            && repeats as f64 >= limits.repeats * datagrams as f64;
        self.looks = if has_batches == self.is_for_engine { 0 } else { self.looks + 1 };
        let moves = self.looks >= AGREEING_LOOKS;
        if moves {
            (self.is_for_engine, self.looks) = (has_batches, 0);
        }
        moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stream {
        weighing: Weighing,
        observed: Observed,
        now: Instant,
    }

    impl Stream {
        fn new() -> Self {
            let (weighing, observed) = (Weighing::default(), Observed::default());
            let mut stream = Self { weighing, observed, now: Instant::now() };
            stream.second(0, 0, 8);
            stream
        }

        /// One more second; whether the rule moves.
        fn second(&mut self, datagrams: u64, repeats: u64, outputs: usize) -> bool {
            self.now += Duration::from_secs(1);
            self.observed.datagrams += datagrams;
            self.observed.repeats += repeats;
            self.weighing.look(self.observed, outputs, self.now)
        }
    }

    #[test]
    fn a_stream_moves_once_after_two_looks() {
        let mut stream = Stream::new();
        let moves = [(); 4].map(|()| stream.second(20_000, 19_000, 8));
        assert_eq!(moves, [false, true, false, false]);
        assert!(stream.weighing.is_for_engine());
        let moves = [(); 4].map(|()| stream.second(20_000, 100, 8));
        assert_eq!(moves, [false, true, false, false]);
        assert!(!stream.weighing.is_for_engine());
    }

    #[test]
    fn a_stream_that_alternates_or_is_between_the_limits_stays() {
        let mut stream = Stream::new();
        for _ in 0..5 {
            assert!(!stream.second(20_000, 19_000, 8));
            assert!(!stream.second(20_000, 100, 8));
        }
        for on_engine in [false, true] {
            for _ in 0..5 {
                assert!(!stream.second(5_000, 3_500, 8));
            }
            assert_eq!(stream.weighing.is_for_engine(), on_engine);
            stream.second(20_000, 19_000, 8);
            stream.second(20_000, 19_000, 8);
        }
    }

    #[test]
    fn few_outputs_little_traffic_and_silence_are_for_the_kernel() {
        for (datagrams, outputs) in [(500_000, 7), (6_000, 8), (0, 64)] {
            let mut stream = Stream::new();
            for _ in 0..5 {
                assert!(!stream.second(datagrams, datagrams, outputs));
            }
        }
        let mut stream = Stream::new();
        stream.second(20_000, 20_000, 8);
        stream.second(20_000, 20_000, 8);
        let moves = [stream.second(0, 0, 8), stream.second(0, 0, 8)];
        assert_eq!((moves, stream.weighing.is_for_engine()), ([false, true], false));
    }

    #[test]
    fn looks_in_quick_succession_and_a_new_place_decide_nothing() {
        let mut stream = Stream::new();
        stream.second(20_000, 20_000, 8);
        let soon = stream.now + Duration::from_millis(100);
        assert!(!stream.weighing.look(stream.observed, 8, soon));
        stream.observed = Observed::default();
        assert!(!stream.second(10, 0, 8));
        assert!(stream.second(20_000, 20_000, 8));
    }
}
