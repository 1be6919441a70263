//! The latency of rules as dictionaries of Python.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::stats::LatencyRow;

/// The histograms of rules as dictionaries: `sum_ns`, `max_ns`, `unmeasured`, and `buckets` with
/// the least time, the least of the next bucket, and the datagrams.
pub(super) fn latency_dicts(
    py: Python<'_>,
    rules: Option<Vec<LatencyRow>>,
) -> PyResult<Option<Vec<Bound<'_, PyDict>>>> {
    rules.map(|rows| rows.iter().map(|row| latency_dict(py, row)).collect()).transpose()
}

fn latency_dict<'py>(py: Python<'py>, row: &LatencyRow) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("sum_ns", row.sum_ns())?;
    fields.set_item("max_ns", row.max_ns())?;
    fields.set_item("unmeasured", row.unmeasured())?;
    let buckets = row.buckets().map(|([least_ns, next_ns], count)| (least_ns, next_ns, count));
    fields.set_item("buckets", buckets.collect::<Vec<_>>())?;
    Ok(fields)
}
