//! Which CPU makes the copies of a rule.
//!
//! The receiving CPU handles up to 64 frames before it sends anything else, so with several outputs
//! on one device it sends more at once than the device's queue holds (256 frames with veth). Another
//! queue in front, of frames that are not copied yet, takes such a burst: its CPU copies eight
//! frames, sends the copies, and only then takes more.

use std::collections::{BTreeMap, BTreeSet};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::offload::{Endpoint, KernelOpener, KernelRule};

/// The CPUs that may copy, and the choice for each input.
#[derive(Default)]
pub(super) struct CopyingCpus {
    permitted: Vec<u32>,
    chosen: BTreeMap<Endpoint, u32>,
}

impl CopyingCpus {
    /// Of engines on these CPUs. Without any, all that this process may use.
    pub(super) fn new(of_engines: &[usize]) -> Self {
        let cpus = if of_engines.is_empty() { usable_cpus() } else { of_engines.to_vec() };
        let permitted = cpus.into_iter().filter_map(|cpu| u32::try_from(cpu).ok());
        Self { permitted: permitted.collect(), chosen: BTreeMap::new() }
    }

    /// The CPU that copies for a rule; `None` for that which receives. An input keeps its CPU while
    /// the kernel has rules for it: all its datagrams wait in one queue, so none overtakes another
    /// when a rule replaces another one.
    pub(super) fn choose(&mut self, rule: &KernelRule, opener: &dyn KernelOpener) -> Option<u32> {
        if let Some(cpu) = self.chosen.get(&rule.endpoint) {
            return Some(*cpu);
        }
        if rule.shape().iter().all(|(_, outputs)| *outputs == 1) {
            return None;
        }
        // The first CPU is the one that most hosts receive with.
        let load = |cpu: &&u32| self.chosen.values().filter(|used| used == cpu).count();
        let cpu = *self.permitted.iter().rev().min_by_key(load)?;
        if opener.add_cpu(cpu).is_err() {
            self.permitted.retain(|other| *other != cpu);
            return None;
        }
        self.chosen.insert(rule.endpoint, cpu);
        Some(cpu)
    }

    /// Continues the choices of an earlier process.
    pub(super) fn inherit(&mut self, chosen: impl IntoIterator<Item = (Endpoint, u32)>) {
        self.chosen.extend(chosen);
    }

    /// Forgets the choices for inputs without rules.
    pub(super) fn retain(&mut self, used: &BTreeSet<Endpoint>) {
        self.chosen.retain(|endpoint, _| used.contains(endpoint));
    }
}

fn usable_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true)).collect()
}
