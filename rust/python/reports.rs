//! Reports of counters as dictionaries of Python.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::relay::{
    InterfaceReport, LastLoss, LegReport, OutputReport, OutputWay, Rates, Report, RuleReport,
    RuleWay, errno_name,
};

/// The counters of a relay as a dictionary.
pub(super) fn report_dict<'py>(
    py: Python<'py>,
    report: &Report,
    ingress: &'static str,
) -> PyResult<Bound<'py, PyDict>> {
    let interfaces = report.interfaces.iter().map(|one| interface_dict(py, one, ingress));
    let rules = report.rules.iter().map(|one| rule_dict(py, one));
    let all = PyDict::new(py);
    all.set_item("interfaces", interfaces.collect::<PyResult<Vec<_>>>()?)?;
    all.set_item("rules", rules.collect::<PyResult<Vec<_>>>()?)?;
    Ok(all)
}

/// The counters of an interface as a dictionary.
pub(super) fn interface_dict<'py>(
    py: Python<'py>,
    report: &InterfaceReport,
    ingress: &str,
) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("name", &report.name)?;
    fields.set_item("ingress", ingress)?;
    fields.set_item("received", report.received)?;
    fields.set_item("received_bytes", report.received_bytes)?;
    set_rates(&fields, report.rates)?;
    fields.set_item("matched", report.matched)?;
    fields.set_item("kernel_dropped_frames", report.kernel_dropped_frames)?;
    fields.set_item("buffer_waits", report.buffer_waits)?;
    fields.set_item("error", (report.error != 0).then(|| errno_name(report.error)))?;
    fields.set_item("dropped", counts(py, report.dropped.map(|(why, n)| (why.name(), n)))?)?;
    Ok(fields)
}

/// The counters of a rule as a dictionary.
pub(super) fn rule_dict<'py>(py: Python<'py>, report: &RuleReport) -> PyResult<Bound<'py, PyDict>> {
    let outputs = report.outputs.iter().map(|one| output_dict(py, one));
    let fields = PyDict::new(py);
    fields.set_item("id", &report.id)?;
    fields.set_item("enabled", report.enabled)?;
    let trouble = report.trouble.as_ref().map(|it| (it.state.name(), &it.reason));
    fields.set_item("trouble", trouble)?;
    let offload = if report.offload == RuleWay::Kernel { "kernel" } else { "engine" };
    fields.set_item("offload", offload)?;
    fields.set_item("offload_reason", report.offload.reason())?;
    fields.set_item("offload_detail", report.engine_sentence.as_deref())?;
    fields.set_item("matched", report.matched)?;
    fields.set_item("matched_bytes", report.matched_bytes)?;
    fields.set_item("flows_evicted", report.flows_evicted)?;
    fields.set_item("looped", report.looped)?;
    set_rates(&fields, report.rates)?;
    fields.set_item("last_source", report.last_source)?;
    fields.set_item("last_seen_age_ms", report.last_seen_age_ms)?;
    fields.set_item("group_seen", report.group_seen)?;
    fields.set_item("group_seen_age_ms", report.group_seen_age_ms)?;
    fields.set_item("other_port", report.other_port)?;
    fields.set_item("other_source", report.other_source)?;
    let merge = report.merge.as_ref().map(|leg| leg_dict(py, leg)).transpose()?;
    fields.set_item("merge", merge)?;
    fields.set_item("outputs", outputs.collect::<PyResult<Vec<_>>>()?)?;
    Ok(fields)
}

fn leg_dict<'py>(py: Python<'py>, leg: &LegReport) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("received", leg.received)?;
    fields.set_item("first", leg.first)?;
    fields.set_item("late", leg.late)?;
    fields.set_item("duplicate", leg.duplicate)?;
    fields.set_item("out_of_sequence", leg.out_of_sequence)?;
    fields.set_item("missing", leg.missing)?;
    fields.set_item("lost", leg.lost)?;
    fields.set_item("restarts", leg.restarts)?;
    fields.set_item("skew_p50_us", leg.skew_p50_us)?;
    fields.set_item("skew_p99_us", leg.skew_p99_us)?;
    fields.set_item("active", leg.active)?;
    fields.set_item("switches", leg.switches)?;
    Ok(fields)
}

fn output_dict<'py>(py: Python<'py>, report: &OutputReport) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("parked", report.parked.as_deref())?;
    let (way, reason) = match report.way {
        Some(OutputWay::Xdp) => ("xdp", None),
        Some(OutputWay::Socket(reason)) => ("socket", Some(reason)),
        None => ("socket", None),
    };
    fields.set_item("way", way)?;
    fields.set_item("way_reason", reason)?;
    fields.set_item("wanted", report.wanted)?;
    fields.set_item("sent", report.sent)?;
    fields.set_item("sent_bytes", report.sent_bytes)?;
    set_rates(&fields, report.rates)?;
    fields.set_item("pending", report.pending)?;
    fields.set_item("refused", report.refused)?;
    fields.set_item("dropped", counts(py, report.dropped.map(|(why, n)| (why.name(), n)))?)?;
    let errors = report.errors.iter().map(|(&errno, &copies)| (errno_name(errno), copies));
    fields.set_item("errors", counts(py, errors)?)?;
    let last_loss = report.last_loss.as_ref();
    fields.set_item("lost_reason", last_loss.map(|loss| loss.loss.name()))?;
    fields.set_item("lost_errno", last_loss.and_then(LastLoss::errno_name))?;
    fields.set_item("lost_age_ms", last_loss.map(|loss| loss.age_ms))?;
    fields.set_item("refused_age_ms", report.refused_age_ms)?;
    Ok(fields)
}

/// Sets `rate_1s` and `rate_10s`: a tuple of pps, bits_per_s and dropped_pps, or None.
pub(super) fn set_rates(fields: &Bound<'_, PyDict>, rates: Rates) -> PyResult<()> {
    for (name, rate) in ["rate_1s", "rate_10s"].into_iter().zip(rates) {
        let rate = rate.map(|rate| (rate.pps, rate.bits_per_s, rate.dropped_pps));
        fields.set_item(name, rate)?;
    }
    Ok(())
}

/// Counts by name as a dictionary.
pub(super) fn counts<'py, 'a, K: IntoPyObject<'py> + 'a>(
    py: Python<'py>,
    pairs: impl IntoIterator<Item = (K, u64)>,
) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    for (name, count) in pairs {
        fields.set_item(name, count)?;
    }
    Ok(fields)
}
