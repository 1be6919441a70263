//! The test sender and receiver for Python: they take resolved endpoints and return reports as
//! dictionaries. `mcr.traffic` wraps them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::flows::sequence_dict;
use super::specs::read;
use super::wait::run_interruptible;
use crate::error::Error;
use crate::spec::{InputSpec, OutputSpec};
use crate::traffic::{
    ReceiveReport, Receiver, ReceiverSpec, RunLimits, SendReport, Sender, SenderNumbers,
};

/// A sender of numbered, time-stamped datagrams.
///
/// `output` is an output in the form of `rules.spec.output_spec`, `size_bytes` the size of each UDP
/// payload, `rate_pps` the rate in datagrams per second, as fast as possible if None. Raises
/// RuleError for invalid values, InterfaceError for an error of the kernel.
#[pyclass(frozen, module = "mcr._native")]
pub(super) struct SenderCore {
    sender: Mutex<Sender>,
    stop: AtomicBool,
}

#[pymethods]
impl SenderCore {
    #[new]
    fn new(output: &[u8], size_bytes: usize, rate_pps: Option<f64>) -> PyResult<Self> {
        let output: OutputSpec = read(output)?;
        let sender = Sender::open(&output, size_bytes, rate_pps)?;
        Ok(Self { sender: Mutex::new(sender), stop: AtomicBool::new(false) })
    }

    /// Send until a limit is reached or `stop` is called; return a dict like `SendReport`.
    ///
    /// `count` limits the number of datagrams, `duration_s` the time in seconds; None is no limit.
    /// Raises RuleError for an invalid time, or while another thread sends; EngineError after a
    /// run that panicked.
    fn send<'py>(
        &self,
        py: Python<'py>,
        count: Option<u64>,
        duration_s: Option<f64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let limits = limits(count, duration_s, None)?;
        let report = run_interruptible(py, &self.stop, || match self.sender.try_lock() {
            Ok(mut sender) => Ok(sender.run(limits, &self.stop)),
            Err(TryLockError::WouldBlock) => {
                Err(Error::Invalid("this sender is already sending".to_owned()))
            }
            Err(TryLockError::Poisoned(_)) => Err(Error::Engine("an earlier run panicked".into())),
        })??;
        send_report(py, report)
    }

    /// End the run in progress, and any later one at once.
    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A receiver of numbered, time-stamped datagrams, and of any others.
///
/// `input` is an input in the form of `rules.spec.input_spec`, whose group is joined; with `gro`
/// the kernel may merge datagrams, with `numbers` those in the datagrams of each sender are read,
/// as the input says. Raises RuleError for invalid values, InterfaceError for an error
/// of the kernel.
#[pyclass(frozen, module = "mcr._native")]
pub(super) struct ReceiverCore {
    receiver: Receiver,
    stop: AtomicBool,
}

#[pymethods]
impl ReceiverCore {
    #[new]
    fn new(input: &[u8], gro: bool, numbers: bool) -> PyResult<Self> {
        let input: InputSpec = read(input)?;
        let receiver = Receiver::open(&ReceiverSpec {
            address: input.group,
            broadcast: input.broadcast,
            port: input.port,
            ifindex: input.ifindex,
            interface: input.interface,
            sources: input.sources.into_vec(),
            gro,
            sequence: numbers.then_some(input.sequence),
        })?;
        Ok(Self { receiver, stop: AtomicBool::new(false) })
    }

    /// Receive until a limit is reached or `stop` is called; return a dict like `ReceiveReport`.
    ///
    /// It reports all runs since the receiver was opened. `count` limits the number of datagrams,
    /// `duration_s` the time and `idle_s` the time since the last datagram, in seconds; None is no
    /// limit. Raises RuleError for an invalid time, or while another thread receives;
    /// InterfaceError for an error of the kernel.
    fn receive<'py>(
        &self,
        py: Python<'py>,
        count: Option<u64>,
        duration_s: Option<f64>,
        idle_s: Option<f64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let limits = limits(count, duration_s, idle_s)?;
        run_interruptible(py, &self.stop, || self.receiver.run(limits, &self.stop))??;
        self.report(py)
    }

    /// Return the report so far, a dict like `ReceiveReport`. Any thread may call it.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = py.detach(|| self.receiver.report())?;
        receive_report(py, report)
    }

    /// End the run in progress, and any later one at once.
    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn limits(count: Option<u64>, duration_s: Option<f64>, idle_s: Option<f64>) -> PyResult<RunLimits> {
    let time = |name: &str, seconds: Option<f64>| {
        let time = seconds.map(Duration::try_from_secs_f64).transpose();
        time.map_err(|error| Error::Invalid(format!("{name}: {error}")))
    };
    let (duration, idle) = (time("duration_s", duration_s)?, time("idle_s", idle_s)?);
    Ok(RunLimits { count, duration, idle })
}

fn send_report(py: Python<'_>, report: SendReport) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("sent", report.sent)?;
    dict.set_item("sent_bytes", report.sent_bytes)?;
    dict.set_item("seconds", report.seconds)?;
    dict.set_item("rate_pps", report.rate_pps)?;
    dict.set_item("errors", report.errors)?;
    dict.set_item("refused", report.refused)?;
    dict.set_item("gap_p50_us", report.spacing.map(|spacing| spacing.gap_p50_us))?;
    dict.set_item("gap_p99_us", report.spacing.map(|spacing| spacing.gap_p99_us))?;
    dict.set_item("late_p99_us", report.spacing.map(|spacing| spacing.late_p99_us))?;
    Ok(dict)
}

fn receive_report(py: Python<'_>, report: ReceiveReport) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("received", report.received)?;
    dict.set_item("received_bytes", report.received_bytes)?;
    dict.set_item("lost", report.lost)?;
    dict.set_item("duplicated", report.duplicated)?;
    dict.set_item("reordered", report.reordered)?;
    dict.set_item("foreign", report.foreign)?;
    dict.set_item("streams", report.streams)?;
    dict.set_item("kernel_dropped", report.kernel_dropped)?;
    dict.set_item("seconds", report.seconds)?;
    dict.set_item("rate_pps", report.rate_pps)?;
    let latency = match report.latency {
        None => None,
        Some(latency) => {
            let dict = PyDict::new(py);
            dict.set_item("p50_us", latency.p50_us)?;
            dict.set_item("p99_us", latency.p99_us)?;
            dict.set_item("p999_us", latency.p999_us)?;
            dict.set_item("max_us", latency.max_us)?;
            dict.set_item("negative", latency.negative)?;
            Some(dict)
        }
    };
    dict.set_item("latency", latency)?;
    let senders = report.senders.map(|senders| {
        senders.iter().map(|sender| sender_dict(py, sender)).collect::<PyResult<Vec<_>>>()
    });
    dict.set_item("senders", senders.transpose()?)?;
    dict.set_item("senders_evicted", report.senders_evicted)?;
    Ok(dict)
}

fn sender_dict<'py>(py: Python<'py>, sender: &SenderNumbers) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("source", sender.sender.ip().to_string())?;
    dict.set_item("source_port", sender.sender.port())?;
    dict.set_item("datagrams", sender.datagrams)?;
    dict.set_item("sequence", sequence_dict(py, &sender.words)?)?;
    Ok(dict)
}
