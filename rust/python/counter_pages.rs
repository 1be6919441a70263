//! The counters of worker processes for Python: reads pages from their descriptors, and returns
//! counters as dictionaries.

use std::net::IpAddr;
use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::PyDict;

use super::flows::{ListedGaps, flow_dict, listed_gaps};
use super::latency::latency_dicts;
use super::reports::{counts, interface_dict, rule_dict};
use super::specs;
use crate::error::Error;
use crate::relay::{RuleStatus, WorkerCounters, WorkerPages, senders};
use crate::spec::RuleSpec;
use crate::stats::SlotOwner;
use crate::sys::scm_rights;

/// The counter pages of worker processes, mapped read-only.
///
/// `descriptors` has one for each page, in the order of the workers' numbers; they may be
/// read-only, and remain the caller's. Raises InterfaceError if a page cannot be mapped.
#[pyclass(frozen, module = "mcr._native")]
pub(super) struct CounterPages {
    pages: WorkerPages,
}

#[pymethods]
impl CounterPages {
    #[new]
    fn new(descriptors: Vec<RawFd>) -> PyResult<Self> {
        let pages = descriptors.into_iter().map(scm_rights::duplicate);
        let pages = pages.collect::<std::io::Result<_>>();
        let pages = pages.map_err(|e| Error::os("mapping", "the counters", e))?;
        Ok(Self { pages: WorkerPages::open(pages)? })
    }

    /// Read all pages; takes at most 0.1 s for each whose worker does not finish an update.
    fn read(&self, py: Python<'_>) -> CounterReading {
        CounterReading { counters: py.detach(|| self.pages.read()) }
    }

    /// Return the senders of these rules as `RelayCore.senders` does.
    ///
    /// None if no worker counts flows.
    fn senders(&self, py: Python<'_>, rules: Vec<String>, window_ms: u64) -> Option<Vec<usize>> {
        py.detach(|| Some(senders(&self.pages.flows(&rules)?, &rules, window_ms)))
    }

    /// Return the flows of these rules in which numbers are missing, as `RelayCore.sequence_gaps`
    /// does.
    ///
    /// None if no worker counts flows.
    fn sequence_gaps(&self, py: Python<'_>, rules: Vec<String>) -> Option<Vec<ListedGaps>> {
        py.detach(|| Some(listed_gaps(&self.pages.flows(&rules)?)))
    }

    /// Return the latency of these rules as `RelayCore.latency` does.
    ///
    /// None if no worker measures it.
    fn latency<'py>(
        &self,
        py: Python<'py>,
        rules: Vec<String>,
    ) -> PyResult<Option<Vec<Bound<'py, PyDict>>>> {
        latency_dicts(py, py.detach(|| self.pages.latency(&rules)))
    }

    /// Return the flows of these rules as `RelayCore.flows` does.
    ///
    /// None if no worker counts flows.
    fn flows<'py>(
        &self,
        py: Python<'py>,
        rules: Vec<String>,
    ) -> PyResult<Option<Vec<Bound<'py, PyDict>>>> {
        let flows = py.detach(|| self.pages.flows(&rules));
        flows.map(|flows| flows.iter().map(|one| flow_dict(py, one)).collect()).transpose()
    }
}

/// The counters of all workers at one moment. Any thread may use it.
#[pyclass(frozen, module = "mcr._native")]
pub(super) struct CounterReading {
    pub(super) counters: WorkerCounters,
}

/// The position of a rule and of its output, and the copies that it lost, by reason.
type LossRow<'py> = (usize, usize, Bound<'py, PyDict>);
/// The position of a rule, and the sender before and now.
type SourceRow = (usize, IpAddr, IpAddr);
/// The position of a rule, how many payloads have come back to it, and where from.
type LoopRow = (usize, u64, IpAddr);
/// What happened to rules: losses, changes of the sender, loops.
type ChangeRows<'py> = (Vec<LossRow<'py>>, Vec<SourceRow>, Vec<LoopRow>);
/// The age of a rule's last datagram in milliseconds, and the datagrams and bits of a second.
type LevelRow = (Option<u64>, Option<f64>, Option<f64>);
/// The numbers that a merge has not got, the input that is sent alone, and how often it changed.
type MergeRow = (u64, Option<u64>, u64);

#[pymethods]
impl CounterReading {
    /// The numbers of the workers whose page could not be read; their last reading is used.
    #[getter]
    fn stale(&self) -> Vec<usize> {
        self.counters.stale.clone()
    }

    /// The age of each worker's last sign of life, in milliseconds; None if it gave none.
    #[getter]
    fn alive_age_ms(&self) -> Vec<Option<u64>> {
        self.counters.alive_age_ms.clone()
    }

    /// For each worker, the frames that the kernel lost on all of its interfaces.
    #[getter]
    fn kernel_dropped_frames(&self) -> Vec<u64> {
        self.counters.kernel_dropped_frames()
    }

    /// Return the counters of each interface as `RelayCore.stats` does, with `ingress` added.
    fn interfaces<'py>(&self, py: Python<'py>, ingress: &str) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let reports = py.detach(|| self.counters.interfaces());
        reports.iter().map(|one| interface_dict(py, one, ingress)).collect()
    }

    /// Return the copies of all outputs: wanted, sent, bytes of those sent, and lost.
    fn copies(&self, py: Python<'_>) -> (u64, u64, u64, u64) {
        let all = py.detach(|| self.counters.copy_counts());
        (all.wanted, all.sent, all.sent_bytes, all.lost)
    }

    /// Whether any worker counts for a rule.
    fn has_rule(&self, id: &str) -> bool {
        self.counters.has_rule(id)
    }

    /// Return what happened to rules since the reading `before`: losses, changes of the sender,
    /// loops.
    ///
    /// `rules` are ids, each with the keys of its outputs (`output_keys`). A loss is the position
    /// of its rule among them, the position of the output, and the lost copies by reason; a change
    /// is the position of the rule, and the address before and now; a loop the position of the
    /// rule, how many of the watched payloads have come back, and where the last one came from.
    fn changes<'py>(
        &self,
        py: Python<'py>,
        before: &Self,
        rules: Vec<(PyBackedStr, PyBackedBytes)>,
    ) -> PyResult<ChangeRows<'py>> {
        let rules: Vec<_> = rules.iter().map(|(id, keys)| (&**id, keys_of(keys))).collect();
        let found = py.detach(|| self.counters.changes(&before.counters, &rules));
        let losses = found.losses.iter().map(|one| {
            let lost = one.lost.iter().filter(|(_, count)| *count != 0);
            let lost = counts(py, lost.map(|(why, count)| (why.name(), *count)))?;
            Ok((one.rule, one.output, lost))
        });
        let sources = found.sources.iter().map(|one| (one.rule, one.before, one.after));
        let loops = found.loops.iter().map(|one| (one.rule, one.payloads, one.source));
        Ok((losses.collect::<PyResult<_>>()?, sources.collect(), loops.collect()))
    }

    /// Return for each of these rules the age of its last datagram in milliseconds, and the
    /// datagrams and bits of payload that it matched in the last second.
    ///
    /// Each is None as long as it is unknown.
    fn levels(&self, py: Python<'_>, rules: Vec<String>) -> Vec<LevelRow> {
        let level = |id: &String| {
            let input = self.counters.input(SlotOwner::rule(id));
            let rate = input.rates[0];
            let (pps, bits) = (rate.map(|rate| rate.pps), rate.map(|rate| rate.bits_per_s));
            (input.last_seen_age_ms, pps, bits)
        };
        py.detach(|| rules.iter().map(level).collect())
    }

    /// Return for each of these merging rules the numbers that no input has delivered, the number
    /// of the input that is sent alone, from 0, and how often another one was chosen.
    ///
    /// The second is None where all inputs are merged, and before the first datagram.
    fn merges(&self, py: Python<'_>, rules: Vec<String>) -> Vec<MergeRow> {
        let merge = |id: &String| {
            let merge = self.counters.input(SlotOwner::rule(id)).merge;
            merge.map_or((0, None, 0), |leg| (leg.lost, leg.active, leg.switches))
        };
        py.detach(|| rules.iter().map(merge).collect())
    }

    /// Return the counters of a rule as `RelayCore.stats` does; zeros if no worker has it.
    ///
    /// `enabled` and, for each output, `parked` are added to the counters; `trouble` and
    /// `offload_detail` are None. `keys` are those of its outputs (`output_keys`).
    fn rule<'py>(
        &self,
        py: Python<'py>,
        id: String,
        enabled: bool,
        parked: Vec<Option<String>>,
        keys: &[u8],
    ) -> PyResult<Bound<'py, PyDict>> {
        let keys = keys_of(keys);
        let status = RuleStatus { id, trouble: None, parked, engine_sentence: None };
        rule_dict(py, &self.counters.rule(status, enabled, &keys))
    }
}

fn keys_of(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().copied().map(u64::from_le_bytes).collect()
}

/// Return the keys of a rule's outputs, 8 bytes each, for `CounterReading.rule`.
///
/// An output has the same key in all rules with the same input. `spec` is the rule's specification
/// as JSON; raises RuleError if it is not one.
#[pyfunction]
pub(super) fn output_keys(spec: &[u8]) -> PyResult<Vec<u8>> {
    let rule: RuleSpec = specs::read(spec)?;
    Ok(rule.output_keys().flat_map(u64::to_le_bytes).collect())
}
