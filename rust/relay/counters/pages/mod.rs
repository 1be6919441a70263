//! The counters of worker processes, read from their pages by a process that can only read them.
//! A page that cannot be read counts as it was read last. It must not know what a worker is.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::report::{InterfaceReport, OutputReport, RuleReport, now_ms};
use crate::error::{Error, Result};
use crate::relay::network::status::RuleStatus;
use crate::stats::{self, InterfaceCopy, SlotOwner, SlotWords, Snapshot};
use crate::sys::memory::ReadOnlyWords;

/// The pages of all workers, in the order of their numbers.
pub struct WorkerPages {
    pages: Vec<ReadOnlyWords>,
    /// What each showed when it could be read last.
    last: Mutex<Vec<Arc<Snapshot>>>,
}

/// What all pages showed at one moment.
pub struct WorkerCounters {
    snapshots: Vec<Arc<Snapshot>>,
    /// The numbers of the workers whose page could not be read: what it showed before counts.
    pub stale: Vec<usize>,
    /// How long ago each worker last said that it is there, in milliseconds; `None` if none has
    /// ever.
    pub alive_age_ms: Vec<Option<u64>>,
}

impl WorkerPages {
    /// Maps the pages; descriptors that are open for reading only will do.
    ///
    /// # Errors
    /// A file that is not sealed against shrinking; no memory.
    pub fn open(pages: Vec<OwnedFd>) -> Result<Self> {
        let map = |page| ReadOnlyWords::open(page);
        let pages = pages.into_iter().map(map).collect::<std::io::Result<Vec<_>>>();
        let pages = pages.map_err(|e| Error::os("mapping", "the counters", e))?;
        let last = Mutex::new(pages.iter().map(|_| Arc::default()).collect());
        Ok(Self { pages, last })
    }

    /// Reads all pages. Takes at most a tenth of a second for each whose writer does not let it,
    /// and a few milliseconds for the others.
    #[must_use]
    pub fn read(&self) -> WorkerCounters {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
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
        WorkerCounters { snapshots: last.clone(), stale, alive_age_ms: alive.collect() }
    }
}

impl WorkerCounters {
    /// The interfaces of all workers, each once, in the order in which they are first named.
    #[must_use]
    pub fn interfaces(&self) -> Vec<InterfaceReport> {
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut found: Vec<(&str, u64, Vec<SlotWords>)> = Vec::new();
        let each = self.snapshots.iter().flat_map(|page| page.interfaces());
        for InterfaceCopy { name, words, kernel_drops } in each {
            let place = *places.entry(name).or_insert(found.len());
            if place == found.len() {
                found.push((name, 0, Vec::new()));
            }
            let (_, drops, copies) = &mut found[place];
            *drops = drops.saturating_add(kernel_drops);
            copies.push(*words);
        }
        let report = |(name, drops, copies): (&str, u64, Vec<SlotWords>)| {
            InterfaceReport::new(name.to_owned(), drops, &copies)
        };
        found.into_iter().map(report).collect()
    }

    /// Frames that the kernel lost on all interfaces of each worker.
    #[must_use]
    pub fn kernel_dropped_frames(&self) -> Vec<u64> {
        let drops = |page: &Arc<Snapshot>| {
            let each = page.interfaces().map(|interface| interface.kernel_drops);
            each.fold(0, u64::saturating_add)
        };
        self.snapshots.iter().map(drops).collect()
    }

    /// Whether some worker counts for a rule.
    #[must_use]
    pub fn has_rule(&self, id: &str) -> bool {
        let owner = SlotOwner::rule(id);
        self.snapshots.iter().any(|page| page.find(owner).is_some())
    }

    /// What all workers have counted for a rule of which the rest is known; zeros for what none of
    /// them knows.
    #[must_use]
    pub fn rule(&self, status: RuleStatus, enabled: bool) -> RuleReport {
        let RuleStatus { id, trouble, parked } = status;
        let (owner, now_ms) = (SlotOwner::rule(&id), now_ms());
        let outputs = (0..=u16::MAX).zip(parked).map(|(place, parked)| {
            OutputReport::new(parked, &self.copies(SlotOwner::output(&id, place)), now_ms)
        });
        let outputs = outputs.collect();
        let groups = self.snapshots.iter().filter_map(|page| page.find_group(owner).copied());
        let groups: Vec<SlotWords> = groups.collect();
        let report = RuleReport::new(&self.copies(owner), &groups, outputs, now_ms);
        RuleReport { id, enabled, trouble, ..report }
    }

    fn copies(&self, owner: SlotOwner) -> Vec<SlotWords> {
        self.snapshots.iter().filter_map(|page| page.find(owner).copied()).collect()
    }
}

#[cfg(test)]
mod tests;
