//! The counters of worker processes for Python: pages come as descriptors, counters leave as
//! dictionaries.

use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::relay::{interface_dict, rule_dict};
use crate::error::Error;
use crate::relay::{RuleStatus, WorkerCounters, WorkerPages};
use crate::sys::scm_rights;

/// The pages that worker processes count in, mapped for reading only.
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

    /// Read all pages.
    fn read(&self, py: Python<'_>) -> CounterReading {
        CounterReading { counters: py.detach(|| self.pages.read()) }
    }
}

/// What all workers had counted at one moment.
#[pyclass(frozen, module = "mcr._native")]
pub(super) struct CounterReading {
    counters: WorkerCounters,
}

#[pymethods]
impl CounterReading {
    /// The numbers of the workers whose page could not be read: what it showed before counts.
    #[getter]
    fn stale(&self) -> Vec<usize> {
        self.counters.stale.clone()
    }

    /// How long ago each worker last said that it is there, in milliseconds; None for never.
    #[getter]
    fn alive_age_ms(&self) -> Vec<Option<u64>> {
        self.counters.alive_age_ms.clone()
    }

    /// Frames that the kernel lost on all interfaces of each worker.
    #[getter]
    fn kernel_dropped_frames(&self) -> Vec<u64> {
        self.counters.kernel_dropped_frames()
    }

    /// Return what each interface counted.
    fn interfaces<'py>(&self, py: Python<'py>, ingress: &str) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let reports = py.detach(|| self.counters.interfaces());
        reports.iter().map(|one| interface_dict(py, one, ingress)).collect()
    }

    /// Whether some worker counts for a rule.
    fn has_rule(&self, id: &str) -> bool {
        self.counters.has_rule(id)
    }

    /// Return what a rule counted, with what is known of it beside; zeros where no worker counts.
    fn rule<'py>(
        &self,
        py: Python<'py>,
        id: String,
        enabled: bool,
        trouble: Option<String>,
        parked: Vec<Option<String>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        rule_dict(py, &self.counters.rule(RuleStatus { id, trouble, parked }, enabled))
    }
}
