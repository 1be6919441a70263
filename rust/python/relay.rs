//! The relay for Python: it takes resolved rules and returns counters as dictionaries. `mcr.relay`
//! wraps it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::specs::read_rules;
use crate::error::Error;
use crate::relay::{
    EgressMode, FlowReport, Ingress, InterfaceReport, LastLoss, OffloadMode, OutputReport,
    OutputWay, Rates, Relay, Report, RuleChange, RuleReport, RuleWay, Settings, Share, errno_name,
};

/// The longest time until Ctrl-C is noticed in a wait.
const SLICE: Duration = Duration::from_millis(50);
/// The smallest useful size of receive buffers: a few super-frames.
const MIN_BUFFER_BYTES: usize = 1 << 20;

/// A relay in this process: `apply` opens sockets, `start` starts threads.
///
/// `workers` is the number of engines, at least 1; `buffer_bytes` the size of each one's receive
/// buffers, at least 1 MiB; `cpus` the CPU of each engine, or empty. `verify_checksums` drops
/// datagrams with a wrong UDP checksum, `flows` counts the flows of each rule. Raises RuleError for
/// invalid values, InterfaceError for an error of the kernel.
#[pyclass(frozen, module = "mcr._native")]
pub(super) struct RelayCore {
    relay: Relay,
    changed: Mutex<Option<Py<PyAny>>>,
}

#[pymethods]
impl RelayCore {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "one for each setting, by position")]
    fn new(
        ingress: &str,
        egress: &str,
        offload: &str,
        workers: u16,
        buffer_bytes: usize,
        cpus: Vec<usize>,
        verify_checksums: bool,
        flows: bool,
    ) -> PyResult<Self> {
        let ingress = match ingress {
            "auto" => Ingress::permitted(),
            "packet" => Ingress::Packet,
            "udp" => Ingress::Udp,
            other => {
                let text = format!("ingress: must be auto, packet or udp, not {other:?}");
                return Err(Error::Invalid(text).into());
            }
        };
        let Some(egress) = EgressMode::from_name(egress) else {
            let text = format!("egress: {egress:?} is none of auto, socket, xdp");
            return Err(Error::Invalid(text).into());
        };
        if workers == 0 {
            return Err(Error::Invalid("workers: must be at least 1".to_owned()).into());
        }
        if buffer_bytes < MIN_BUFFER_BYTES {
            let text =
                format!("buffer_bytes: must be at least {MIN_BUFFER_BYTES}, not {buffer_bytes}");
            return Err(Error::Invalid(text).into());
        }
        let share = Share::WHOLE;
        let Some(offload) = OffloadMode::from_name(offload) else {
            let text = format!("offload: {offload:?} is none of off, auto, require");
            return Err(Error::Invalid(text).into());
        };
        let settings = Settings {
            ingress,
            egress,
            offload,
            workers,
            buffer_bytes,
            cpus,
            verify_checksums,
            flows,
            share,
        };
        Ok(Self { relay: Relay::new(settings)?, changed: Mutex::default() })
    }

    /// `packet` or `udp`; `auto` was decided when the relay was created.
    #[getter]
    fn ingress(&self) -> &'static str {
        self.relay.ingress().name()
    }

    /// The error that ended an engine; None if none did.
    #[getter]
    fn error(&self) -> Option<String> {
        self.relay.error()
    }

    /// Remove rules by their ids and put others; on an error nothing changes.
    ///
    /// `put` is a JSON array from `rules.spec.rule_specs`: its rules are added, or replace those
    /// with the same ids. `whole` removes all rules that it does not contain. Rules that stay the
    /// same, enabled or not, keep their sockets and counters. A successful change sets `changed` to
    /// `note` before this returns, so that no signal handler of Python runs in between. Raises
    /// RuleError, RightsError, InterfaceError or EngineError.
    fn apply(
        &self,
        py: Python<'_>,
        remove: Vec<String>,
        put: &[u8],
        whole: bool,
        note: Py<PyAny>,
    ) -> PyResult<()> {
        let put = read_rules(put)?;
        let change = RuleChange { remove: &remove, put: &put, whole };
        let applied = py.detach(|| self.relay.apply(&change, |_| true));
        applied.map_err(|refusal| refusal.error)?;
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = changed.replace(note);
        drop(changed);
        drop(before); // May run Python code, so not while locked.
        Ok(())
    }

    /// The note of the last successful change; None before the first.
    #[getter]
    fn changed(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.as_ref().map(|note| note.clone_ref(py))
    }

    /// Create rings and spare sockets, before a process gives up its privileges.
    ///
    /// Raises RightsError or InterfaceError.
    fn open_spares(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.relay.open_spares())?)
    }

    /// Start the engine threads.
    ///
    /// Raises RightsError if io_uring is not permitted, RuleError if the relay was started before.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.relay.start().and_then(|()| self.relay.sample_rates()))?)
    }

    /// Stop the engine threads once they have sent what they received; harmless if repeated.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.relay.stop());
    }

    /// Wait until the engines have ended; return False if the time expired first.
    ///
    /// `timeout_s` is in seconds, None waits without limit. Raises RuleError for an invalid time,
    /// EngineError if an engine ended with an error.
    fn wait(&self, py: Python<'_>, timeout_s: Option<f64>) -> PyResult<bool> {
        let timeout = timeout_s.map(Duration::try_from_secs_f64).transpose();
        let timeout = timeout.map_err(|error| Error::Invalid(format!("timeout_s: {error}")))?;
        let start = Instant::now();
        loop {
            let left = timeout.map_or(SLICE, |timeout| timeout.saturating_sub(start.elapsed()));
            if py.detach(|| self.relay.wait(Some(left.min(SLICE))))? {
                return Ok(true);
            }
            if timeout.is_some_and(|timeout| start.elapsed() >= timeout) {
                return Ok(false);
            }
            py.check_signals()?;
        }
    }

    /// Return warnings about the set-up of this host, one sentence each.
    fn warnings(&self) -> Vec<String> {
        self.relay.warnings()
    }

    /// Return the counters: a dictionary with the lists `interfaces` and `rules`.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = py.detach(|| self.relay.report());
        report_dict(py, &report, self.ingress())
    }

    /// Return the flows of these rules as dictionaries, those with the most datagrams first.
    ///
    /// None if they are not counted.
    fn flows<'py>(
        &self,
        py: Python<'py>,
        rules: Vec<String>,
    ) -> PyResult<Option<Vec<Bound<'py, PyDict>>>> {
        let flows = py.detach(|| self.relay.flows(&rules));
        flows.map(|flows| flows.iter().map(|one| flow_dict(py, one)).collect()).transpose()
    }
}

/// Create a ring as an engine does, and close it.
///
/// Raises RightsError if io_uring is not permitted, EngineError for another reason.
#[pyfunction]
pub(super) fn try_io_uring(py: Python<'_>) -> PyResult<()> {
    Ok(py.detach(crate::relay::try_io_uring)?)
}

fn report_dict<'py>(
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
    set_rates(&fields, report.rates)?;
    fields.set_item("last_source", report.last_source)?;
    fields.set_item("last_seen_age_ms", report.last_seen_age_ms)?;
    fields.set_item("group_seen", report.group_seen)?;
    fields.set_item("group_seen_age_ms", report.group_seen_age_ms)?;
    fields.set_item("other_port", report.other_port)?;
    fields.set_item("other_source", report.other_source)?;
    fields.set_item("outputs", outputs.collect::<PyResult<Vec<_>>>()?)?;
    Ok(fields)
}

/// A flow as a dictionary.
pub(super) fn flow_dict<'py>(py: Python<'py>, flow: &FlowReport) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("rule", &flow.rule)?;
    fields.set_item("source", flow.source.to_string())?;
    fields.set_item("source_port", flow.source_port)?;
    fields.set_item("group", flow.group.to_string())?;
    fields.set_item("port", flow.port)?;
    fields.set_item("datagrams", flow.datagrams)?;
    fields.set_item("bytes", flow.bytes)?;
    set_rates(&fields, flow.rates)?;
    let [first_ms, last_ms] = flow.age_ms;
    fields.set_item("first_seen_age_ms", first_ms)?;
    fields.set_item("last_seen_age_ms", last_ms)?;
    let [least, most] = flow.ttls;
    fields.set_item("ttl_min", least)?;
    fields.set_item("ttl_max", most)?;
    let dscps: Vec<u16> = flow.dscps.iter().map(|&dscp| dscp.into()).collect();
    fields.set_item("dscps", dscps)?;
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
fn set_rates(fields: &Bound<'_, PyDict>, rates: Rates) -> PyResult<()> {
    for (name, rate) in ["rate_1s", "rate_10s"].into_iter().zip(rates) {
        let rate = rate.map(|rate| (rate.pps, rate.bits_per_s, rate.dropped_pps));
        fields.set_item(name, rate)?;
    }
    Ok(())
}

fn counts<'py, 'a, K: IntoPyObject<'py> + 'a>(
    py: Python<'py>,
    pairs: impl IntoIterator<Item = (K, u64)>,
) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    for (name, count) in pairs {
        fields.set_item(name, count)?;
    }
    Ok(fields)
}
