//! Rates over the last second and the last ten: what was counted until recently, and the
//! differences to it. Bounded: a few samples, each with the used slots of a page.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::stats::{FlowRow, SlotOwner, SlotTotals, Snapshot};

/// The windows of rates.
const WINDOWS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// The interval of samples.
pub(super) const INTERVAL: Duration = Duration::from_millis(500);
/// A sample may come this much too early, as timers are not exact.
const TOLERANCE: Duration = Duration::from_millis(50);
/// The age up to which every sample is kept, for the first window.
const RECENT: Duration = Duration::from_millis(1_700);
/// The distance of older samples, which is the largest error of the second window.
const DISTANCE: Duration = Duration::from_secs(2);
/// The age at which a sample is of no more use.
const OLDEST: Duration = Duration::from_millis(12_600);
/// A shorter window shows when batches came rather than a rate.
const SHORTEST: Duration = Duration::from_millis(100);

/// What was counted per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Datagrams that were received, matched or sent.
    pub pps: f64,
    /// Bits of their payloads.
    pub bits_per_s: f64,
    /// Datagrams or copies that were dropped.
    pub dropped_pps: f64,
}

/// The rates over a second and over ten, or since counting began if that is later; `None` until
/// there is a sample.
pub type Rates = [Option<Rate>; 2];

/// What was counted at one time, by the tag of its owner. What had counted nothing is not in it.
#[derive(Debug)]
struct RateSample {
    at: Instant,
    totals: HashMap<u64, SlotTotals>,
}

/// The samples of the last seconds, oldest first.
#[derive(Debug, Default)]
pub(super) struct RateHistory {
    samples: VecDeque<Arc<RateSample>>,
}

impl RateHistory {
    /// Adds a sample of these pages and their flows, unless the last one is recent.
    pub(super) fn add<'a>(
        &mut self,
        now: Instant,
        pages: impl Iterator<Item = &'a Snapshot>,
        flows: impl Iterator<Item = Vec<FlowRow>>,
    ) {
        let last = self.samples.back();
        if last.is_some_and(|last| now.duration_since(last.at) < INTERVAL - TOLERANCE) {
            return;
        }
        let mut totals: HashMap<u64, SlotTotals> = HashMap::new();
        for (owner, counted) in pages.flat_map(Snapshot::totals) {
            *totals.entry(owner.tag()).or_default() += counted;
        }
        for row in flows.flatten() {
            *totals.entry(row.tag()).or_default() += row.totals();
        }
        let mut before: Option<Instant> = None;
        self.samples.retain(|sample| {
            let age = now.duration_since(sample.at);
            let is_apart = before.is_none_or(|last| sample.at.duration_since(last) >= DISTANCE);
            let is_kept = age < RECENT || (age < OLDEST && is_apart);
            before = if is_kept { Some(sample.at) } else { before };
            is_kept
        });
        self.samples.push_back(Arc::new(RateSample { at: now, totals }));
    }

    /// The samples with which the windows begin that end now.
    pub(super) fn windows(&self, now: Instant) -> RateWindows {
        let starts = WINDOWS.map(|window| {
            let is_before =
                |sample: &&Arc<RateSample>| now.duration_since(sample.at) >= window - TOLERANCE;
            let start = self.samples.iter().rev().find(is_before).or(self.samples.front());
            start.filter(|sample| now.duration_since(sample.at) >= SHORTEST).cloned()
        });
        RateWindows { now, starts }
    }
}

/// The windows of the rates of one reading.
pub(super) struct RateWindows {
    now: Instant,
    starts: [Option<Arc<RateSample>>; 2],
}

impl RateWindows {
    /// The rates of an owner that has now counted `totals`. Counters that are lower than before
    /// have restarted from 0.
    pub(super) fn rates(&self, owner: SlotOwner, totals: SlotTotals) -> Rates {
        self.rates_of(owner.tag(), totals)
    }

    /// The same for an owner, or a flow, with this tag.
    pub(super) fn rates_of(&self, tag: u64, totals: SlotTotals) -> Rates {
        self.starts.each_ref().map(|start| {
            let start = start.as_ref()?;
            let seconds = self.now.duration_since(start.at).as_secs_f64();
            let before = start.totals.get(&tag).copied().unwrap_or_default();
            let SlotTotals { datagrams, bytes, dropped } =
                totals.checked_sub(before).unwrap_or(totals);
            #[expect(clippy::cast_precision_loss, reason = "a rate is no exact number")]
            let per_second = |count: u64| count as f64 / seconds;
            Some(Rate {
                pps: per_second(datagrams),
                bits_per_s: 8.0 * per_second(bytes),
                dropped_pps: per_second(dropped),
            })
        })
    }
}

/// The rates of a rule, with what its outputs dropped.
pub(super) fn with_drops<'a>(rule: Rates, outputs: impl Iterator<Item = &'a Rates>) -> Rates {
    outputs.fold(rule, |sum, output| {
        let add = |(sum, one): (Option<Rate>, &Option<Rate>)| {
            let dropped = one.map_or(0.0, |one| one.dropped_pps);
            sum.map(|sum| Rate { dropped_pps: sum.dropped_pps + dropped, ..sum })
        };
        let [short, long] = sum;
        [add((short, &output[0])), add((long, &output[1]))]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{self, Grant, Slot, Writer, rule};

    const OWNER: fn() -> SlotOwner = || SlotOwner::rule("a");

    /// A history of samples every half second in which a rule has matched ten datagrams of 100
    /// bytes a second, up to the returned time.
    fn history(seconds: u64) -> (RateHistory, Instant) {
        let page = stats::create_page().unwrap();
        let mut writer = Writer::new(page.clone());
        let slot = Slot { index: 0, generation: 1 };
        writer.grant(&Grant { slot, owner: OWNER(), is_continued: false });
        let (mut history, start) = (RateHistory::default(), Instant::now());
        for half in 0..=2 * seconds {
            writer.slot(0)[rule::MATCHED] = 5 * half;
            writer.slot(0)[rule::MATCHED_BYTES] = 500 * half;
            writer.publish();
            let snapshot = Snapshot::take(page.view()).unwrap();
            let offset = Duration::from_millis(500 * half);
            history.add(start + offset, std::iter::once(&snapshot), std::iter::empty());
        }
        (history, start + Duration::from_secs(seconds))
    }

    #[test]
    fn rates_cover_the_last_second_and_the_last_ten() {
        let (history, now) = history(60);
        assert!(history.samples.len() <= 12, "{}", history.samples.len());
        let totals = SlotTotals { datagrams: 600, bytes: 60_000, dropped: 0 };
        let expected = Rate { pps: 10.0, bits_per_s: 8000.0, dropped_pps: 0.0 };
        assert_eq!(history.windows(now).rates(OWNER(), totals), [Some(expected); 2]);
        // Ten more in the last half second show in the second at once, and less in the ten.
        let later = now + Duration::from_millis(500);
        let more = SlotTotals { datagrams: 615, ..totals };
        let [short, long] = history.windows(later).rates(OWNER(), more).map(Option::unwrap);
        assert!((short.pps - 20.0).abs() < 0.01, "{short:?}");
        assert!((10.5..11.5).contains(&long.pps), "{long:?}");
    }

    #[test]
    fn a_window_begins_with_the_first_sample_at_the_earliest() {
        let (history, now) = history(3);
        let totals = SlotTotals { datagrams: 30, ..SlotTotals::default() };
        let [_, long] = history.windows(now).rates(OWNER(), totals).map(Option::unwrap);
        assert!((long.pps - 10.0).abs() < 0.01, "{long:?}");
        assert_eq!(RateHistory::default().windows(now).rates(OWNER(), totals), [None; 2]);
    }

    #[test]
    fn counters_that_restarted_began_at_zero() {
        let (history, now) = history(3);
        let totals = SlotTotals { datagrams: 4, ..SlotTotals::default() };
        let [short, _] = history.windows(now).rates(OWNER(), totals).map(Option::unwrap);
        assert!((short.pps - 4.0).abs() < 0.01, "{short:?}");
    }

    #[test]
    fn a_rule_drops_what_its_outputs_drop() {
        let one = Some(Rate { dropped_pps: 2.0, ..Rate::default() });
        let rule = [Some(Rate { pps: 5.0, ..Rate::default() }), None];
        let outputs = [[one, one], [one, None]];
        let sum = with_drops(rule, outputs.iter());
        assert_eq!(sum, [Some(Rate { pps: 5.0, dropped_pps: 4.0, ..Rate::default() }), None]);
    }
}
