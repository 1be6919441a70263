//! The counters of worker processes, read from their pages by a process with read-only access. If a
//! page cannot be read, its last reading is used.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::copies::CopyCounts;
use super::flows::{self, FlowReport};
use super::latency;
use super::rates::{RateHistory, RateWindows};
use super::report::{InterfaceReport, OutputReport, RuleReport, now_ms};
use super::sampler::RateSampler;
use crate::error::{Error, Result};
use crate::relay::egress::way::OutputWay;
use crate::relay::network::status::RuleStatus;
use crate::relay::offload::RuleWay;
use crate::stats::kernel::{
    KernelInterfaceCounts, KernelOutputCounts, KernelRuleCounts, KernelWords,
};
use crate::stats::{self, InterfaceCopy, LatencyRow, SlotOwner, SlotWords, Snapshot};
use crate::sys::memory::{ReadOnlyWords, SharedWords};

/// The pages of all workers, in the order of their numbers.
pub struct WorkerPages {
    pages: Vec<ReadOnlyWords>,
    /// The last successful reading of each page.
    last: Mutex<(Vec<Arc<Snapshot>>, RateHistory)>,
}

/// One reading of all pages.
pub struct WorkerCounters {
    snapshots: Vec<Arc<Snapshot>>,
    pub(super) windows: RateWindows,
    /// The numbers of the workers whose page could not be read; their last reading is used.
    pub stale: Vec<usize>,
    /// The age of each worker's last sign of life, in milliseconds; `None` if it never gave one.
    pub alive_age_ms: Vec<Option<u64>>,
}

impl WorkerPages {
    /// Maps the pages from descriptors, which may be read-only.
    ///
    /// # Errors
    /// A file that is not sealed against shrinking; not enough memory.
    pub fn open(pages: Vec<OwnedFd>) -> Result<Self> {
        let map = |page| ReadOnlyWords::open(page);
        let pages = pages.into_iter().map(map).collect::<std::io::Result<Vec<_>>>();
        let pages = pages.map_err(|e| Error::os("mapping", "the counters", e))?;
        let last =
            Mutex::new((pages.iter().map(|_| Arc::default()).collect(), RateHistory::default()));
        Ok(Self { pages, last })
    }

    /// Reads all pages. Takes at most 100 ms for each page whose writer does not finish an update,
    /// and a few milliseconds for the others.
    #[must_use]
    pub fn read(&self) -> WorkerCounters {
        let mut known = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, history) = &mut *known;
        let mut stale = Vec::new();
        for (number, (page, last)) in self.pages.iter().zip(last.iter_mut()).enumerate() {
            match Snapshot::take(page.view()) {
                Some(snapshot) => *last = Arc::new(snapshot),
                None => stale.push(number),
            }
        }
        let now_ms = now_ms();
        let alive = self.pages.iter().map(|page| stats::alive_ms(page.view()));
        let alive = alive.map(|then| (then != 0).then(|| now_ms.saturating_sub(then)));
        let now = Instant::now();
        let windows = history.windows(now);
        let flows = self.pages.iter().filter_map(|page| stats::read_flows(page.view()));
        history.add(now, last.iter().map(|page| &**page), flows);
        WorkerCounters { snapshots: last.clone(), windows, stale, alive_age_ms: alive.collect() }
    }
}

impl WorkerPages {
    /// The flows of these rules; `None` if no worker counts flows.
    #[must_use]
    pub fn flows(&self, rules: &[String]) -> Option<Vec<FlowReport>> {
        let known = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let windows = known.1.windows(Instant::now());
        drop(known);
        let read = self.pages.iter().filter_map(|page| stats::read_flows(page.view()));
        let read: Vec<_> = read.collect();
        let is_counted = !read.is_empty();
        is_counted.then(|| flows::report(read.into_iter(), rules, &windows, now_ms()))
    }

    /// The latency of these rules; `None` if no worker measures it.
    #[must_use]
    pub fn latency(&self, rules: &[String]) -> Option<Vec<LatencyRow>> {
        latency::read(self.pages.iter().map(ReadOnlyWords::view), rules)
    }
}

impl WorkerCounters {
    /// A reading of the pages of this process.
    pub(in crate::relay) fn of_process(pages: &[Arc<SharedWords>], sampler: &RateSampler) -> Self {
        let taken = pages.iter().map(|page| Snapshot::take(page.view()));
        let snapshots = taken.map(|page| page.map_or_else(Arc::default, Arc::new)).collect();
        let windows = sampler.windows();
        Self { snapshots, windows, stale: Vec::new(), alive_age_ms: Vec::new() }
    }

    /// The interfaces of all workers, each once, in the order of their first occurrence.
    #[must_use]
    pub fn interfaces(&self) -> Vec<InterfaceReport> {
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut found: Vec<(&str, u64, Vec<SlotWords>, KernelInterfaceCounts)> = Vec::new();
        let each = self.snapshots.iter().flat_map(|page| page.interfaces());
        for InterfaceCopy { name, words, kernel_drops, kernel } in each {
            let place = *places.entry(name).or_insert(found.len());
            if place == found.len() {
                found.push((name, 0, Vec::new(), KernelInterfaceCounts::default()));
            }
            let (_, drops, copies, relayed) = &mut found[place];
            *drops = drops.saturating_add(kernel_drops);
            copies.push(*words);
            let own = KernelInterfaceCounts::from_words(kernel);
            relayed.relayed = relayed.relayed.saturating_add(own.relayed);
            relayed.relayed_bytes = relayed.relayed_bytes.saturating_add(own.relayed_bytes);
        }
        let report =
            |(name, drops, copies, relayed): (&str, u64, Vec<SlotWords>, KernelInterfaceCounts)| {
                InterfaceReport::new(name.to_owned(), drops, &copies, relayed, &self.windows)
            };
        found.into_iter().map(report).collect()
    }

    /// For each worker, the frames that the kernel lost on all of its interfaces.
    #[must_use]
    pub fn kernel_dropped_frames(&self) -> Vec<u64> {
        let drops = |page: &Arc<Snapshot>| {
            let each = page.interfaces().map(|interface| interface.kernel_drops);
            each.fold(0, u64::saturating_add)
        };
        self.snapshots.iter().map(drops).collect()
    }

    /// Whether any worker counts for the rule.
    #[must_use]
    pub fn has_rule(&self, id: &str) -> bool {
        let owner = SlotOwner::rule(id);
        self.snapshots.iter().any(|page| page.find(owner).is_some())
    }

    /// The report of a rule with this status, whose outputs have these keys: the sums over all
    /// workers, or zeros if none of them counts for the rule.
    #[must_use]
    pub fn rule(&self, status: RuleStatus, enabled: bool, keys: &[u64]) -> RuleReport {
        let RuleStatus { id, trouble, parked, engine_sentence } = status;
        let (owner, now_ms) = (SlotOwner::rule(&id), now_ms());
        let outputs = keys.iter().zip(parked).map(|(key, parked)| {
            let owner = SlotOwner::output(*key);
            let report = self.output(owner, parked, self.way(owner), now_ms);
            report.with_rates(owner, &self.windows)
        });
        let outputs = outputs.collect();
        let groups = self.snapshots.iter().filter_map(|page| page.find_group(owner).copied());
        let groups: Vec<SlotWords> = groups.collect();
        let report = RuleReport::new(&self.copies(owner), &groups, outputs, now_ms);
        let kernel: Vec<_> = self.kernel(owner).map(KernelRuleCounts::from_words).collect();
        let ways = kernel.iter().filter_map(|counts| RuleWay::from_word(counts.way));
        let offload = RuleWay::of_workers(ways).unwrap_or(RuleWay::OFF);
        let report = kernel.iter().fold(report, |report, kernel| report.with(kernel, now_ms));
        let report = report.with_rates(owner, &self.windows);
        RuleReport { id, enabled, trouble, offload, engine_sentence, ..report }
    }

    /// The copies of all outputs.
    #[must_use]
    pub fn copy_counts(&self) -> CopyCounts {
        let outputs = self.snapshots.iter().flat_map(|page| page.outputs());
        outputs.fold(CopyCounts::default(), |sum, (words, kernel)| sum.add(words, kernel))
    }

    /// The report of an output, without rates: the sums over all workers and the kernel.
    pub(super) fn output(
        &self,
        owner: SlotOwner,
        parked: Option<String>,
        way: Option<OutputWay>,
        now_ms: u64,
    ) -> OutputReport {
        let report = OutputReport::new(parked, way, &self.copies(owner), now_ms);
        let kernel = self.kernel(owner).map(KernelOutputCounts::from_words);
        kernel.fold(report, |report, kernel| report.with(&kernel, now_ms))
    }

    /// Whether any worker, or the kernel, has counted something for the owner.
    pub(super) fn has_counted(&self, owner: SlotOwner) -> bool {
        self.snapshots.iter().any(|page| page.has_counted(owner))
    }

    pub(super) fn kernel(&self, owner: SlotOwner) -> impl Iterator<Item = &KernelWords> {
        self.snapshots.iter().filter_map(move |page| page.find_kernel(owner))
    }

    fn way(&self, output: SlotOwner) -> Option<OutputWay> {
        let words = self.snapshots.iter().map(|page| page.find_way(output));
        OutputWay::of_workers(words.filter_map(OutputWay::from_word))
    }

    pub(super) fn copies(&self, owner: SlotOwner) -> Vec<SlotWords> {
        self.snapshots.iter().filter_map(|page| page.find(owner).copied()).collect()
    }
}

#[cfg(test)]
mod tests;
