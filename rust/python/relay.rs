//! The relay for Python: it takes resolved rules and returns counters as dictionaries. `mcr.relay`
//! wraps it.

use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::counter_pages::CounterReading;
use super::flows::{ListedGaps, flow_dict, listed_gaps};
use super::latency::latency_dicts;
use super::reports::report_dict;
use super::specs::{read, read_rules};
use crate::error::Error;
use crate::relay::{
    EgressMode, Ingress, OffloadMode, Relay, RuleChange, RuleEdit, Settings, Share, senders,
};
use crate::spec::ShapingSpec;
use crate::sys::ring::RingKind;
use crate::sys::scm_rights;

/// The longest time until Ctrl-C is noticed in a wait.
const SLICE: Duration = Duration::from_millis(50);
/// The smallest useful size of receive buffers: a few super-frames.
const MIN_BUFFER_BYTES: usize = 1 << 20;

/// A rule's id, the state and reason of its input, and the reason of each output.
type ListedTrouble = (String, Option<(&'static str, String)>, Vec<Option<String>>);

/// A relay in this process: `apply` opens sockets, `start` starts threads.
///
/// `workers` is the number of engines, at least 1; `buffer_bytes` the size of each one's receive
/// buffers, at least 1 MiB; `cpus` the CPU of each engine, or empty. `verify_checksums` drops
/// datagrams with a wrong UDP checksum, `flows` counts the flows of each rule, `latency` measures
/// its latency. Raises RuleError for invalid values, InterfaceError for an error of the kernel.
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
        latency: bool,
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
            latency,
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
    /// with the same ids. `edit` is one of `rules.spec.edit_spec`: these rules get some other
    /// outputs. `whole` removes all rules that neither contains. Rules that stay the same, enabled
    /// or not, keep their sockets and counters, and so do the outputs that stay. `shaping` is a JSON
    /// object from `rules.shaping.shaping_spec`, or None to leave classes and rates of interfaces as
    /// they are. A successful change sets `changed` to `note` before this returns, so that no signal
    /// handler of Python runs in between. Raises RuleError, RightsError, InterfaceError or
    /// EngineError.
    #[expect(clippy::too_many_arguments, reason = "the parts of a change, by position")]
    fn apply(
        &self,
        py: Python<'_>,
        remove: Vec<String>,
        put: &[u8],
        edit: &[u8],
        whole: bool,
        shaping: Option<&[u8]>,
        note: Py<PyAny>,
    ) -> PyResult<()> {
        let (put, edit) = (read_rules(put)?, read::<Vec<RuleEdit>>(edit)?);
        let shaping = shaping.map(read::<ShapingSpec>).transpose()?;
        let shaping = shaping.as_ref();
        let change = RuleChange { remove: &remove, put: &put, edit: &edit, whole, shaping };
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
    /// Raises RuleError if the relay was started before.
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

    /// How the engines receive and send: `io_uring`, or `poll` where the kernel refuses that.
    ///
    /// None before the start.
    #[getter]
    fn engine(&self) -> Option<&'static str> {
        self.relay.ring_kind().map(RingKind::name)
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

    /// Read the counters, for what `CounterReading` finds in two readings.
    fn reading(&self, py: Python<'_>) -> CounterReading {
        CounterReading { counters: py.detach(|| self.relay.counters()) }
    }

    /// Record in these rings, one for each engine, what a filter takes.
    ///
    /// `filter` is a JSON object, as workers get it. The descriptors remain the caller's. A tap with
    /// the same number ends. Raises RuleError for an invalid filter or too many taps,
    /// InterfaceError for a ring that cannot be mapped.
    fn add_tap(
        &self,
        py: Python<'_>,
        number: u64,
        filter: &[u8],
        rings: Vec<RawFd>,
    ) -> PyResult<()> {
        let filter = read(filter)?;
        let rings = rings.into_iter().map(scm_rights::duplicate).collect::<std::io::Result<_>>();
        let rings = rings.map_err(|error| Error::os("mapping", "the ring of a tap", error))?;
        Ok(py.detach(|| self.relay.add_tap(number, filter, rings))?)
    }

    /// End a tap; harmless if there is none with this number.
    fn remove_tap(&self, py: Python<'_>, number: u64) -> PyResult<()> {
        Ok(py.detach(|| self.relay.remove_tap(number))?)
    }

    /// Return the rules that cannot receive or have an output that cannot send, and a version.
    ///
    /// Each with its id, state and reason of its input or None, and for each output why it cannot
    /// send or None. None if nothing has changed since `version`.
    fn troubles(&self, py: Python<'_>, version: Option<u64>) -> Option<(u64, Vec<ListedTrouble>)> {
        let now = self.relay.version(); // before the rules are read: later changes count anew
        if version == Some(now) {
            return None;
        }
        let statuses = py.detach(|| self.relay.rules_in_trouble());
        let troubles = statuses.into_iter().map(|status| {
            let input = status.trouble.map(|trouble| (trouble.state.name(), trouble.reason));
            (status.id, input, status.parked)
        });
        Some((now, troubles.collect()))
    }

    /// Return for each of these rules how many senders it heard in the last `window_ms`.
    ///
    /// None if flows are not counted.
    fn senders(&self, py: Python<'_>, rules: Vec<String>, window_ms: u64) -> Option<Vec<usize>> {
        py.detach(|| Some(senders(&self.relay.flows(&rules)?, &rules, window_ms)))
    }

    /// Return the flows of these rules in which numbers are missing.
    ///
    /// None if flows are not counted.
    fn sequence_gaps(&self, py: Python<'_>, rules: Vec<String>) -> Option<Vec<ListedGaps>> {
        py.detach(|| Some(listed_gaps(&self.relay.flows(&rules)?)))
    }

    /// Return the latency of these rules as dictionaries.
    ///
    /// None if it is not measured.
    fn latency<'py>(
        &self,
        py: Python<'py>,
        rules: Vec<String>,
    ) -> PyResult<Option<Vec<Bound<'py, PyDict>>>> {
        latency_dicts(py, py.detach(|| self.relay.latency(&rules)))
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

/// Create an io_uring as an engine does, and close it.
///
/// Raises RightsError if io_uring is not permitted, EngineError for another reason.
#[pyfunction]
pub(super) fn try_io_uring(py: Python<'_>) -> PyResult<()> {
    Ok(py.detach(crate::relay::try_io_uring)?)
}
