//! The evenness of the departures of datagrams.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::tally::{histogram_ns, quantile_us};

/// Gaps between send calls, and their lateness, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spacing {
    /// The median gap.
    pub gap_p50_us: f64,
    /// The 99th percentile of the gaps.
    pub gap_p99_us: f64,
    /// The 99th percentile of the datagrams' delay after their deadline.
    pub late_p99_us: f64,
}

/// The running measurement behind a [`Spacing`].
#[derive(Debug)]
pub(super) struct Departures {
    first: Option<Instant>,
    last: Option<Instant>,
    gaps_ns: Histogram<u64>,
    late_ns: Histogram<u64>,
}

impl Departures {
    pub(super) fn new() -> Self {
        Self { first: None, last: None, gaps_ns: histogram_ns(), late_ns: histogram_ns() }
    }

    /// Records `count` datagrams that leave together; the first was due at `deadline`.
    pub(super) fn note(&mut self, now: Instant, deadline: Instant, count: u64) {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(last) = self.last {
            self.gaps_ns.saturating_record(ns(now - last));
        }
        self.gaps_ns.saturating_record_n(0, count.saturating_sub(1));
        self.late_ns.saturating_record_n(ns(now.saturating_duration_since(deadline)), count);
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// The time from the first departure to the last.
    pub(super) fn span(&self) -> Duration {
        self.first.zip(self.last).map_or(Duration::ZERO, |(first, last)| last - first)
    }

    /// `None` before the second datagram.
    pub(super) fn spacing(&self) -> Option<Spacing> {
        Some(Spacing {
            gap_p50_us: quantile_us(&self.gaps_ns, 0.5)?,
            gap_p99_us: quantile_us(&self.gaps_ns, 0.99)?,
            late_p99_us: quantile_us(&self.late_ns, 0.99)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_lateness_are_measured_apart() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut departures = Departures::new();
        departures.note(at(0), at(0), 1);
        assert_eq!(departures.spacing(), None);
        departures.note(at(1), at(1), 1);
        departures.note(at(4), at(2), 3);
        let spacing = departures.spacing().unwrap();
        assert!((spacing.gap_p99_us - 3000.0).abs() < 5.0, "{spacing:?}");
        assert!((spacing.late_p99_us - 2000.0).abs() < 5.0, "{spacing:?}");
        assert_eq!(departures.span(), Duration::from_millis(4));
    }
}
