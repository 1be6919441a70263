//! The reader of a tap's ring, for Python.

use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::error::Error;
use crate::relay::errno_name;
use crate::sys::scm_rights;
use crate::tap::{MIN_RING_WORDS, RingReader, Step, TapRecord};

/// What a tap has recorded of a datagram.
#[pyclass(name = "TapRecord", frozen, get_all, module = "mcr._native")]
pub(super) struct PyTapRecord {
    /// `matched`, `discarded`, `sent` or `lost`.
    step: &'static str,
    /// Why it was dropped, as the counters name it; None if it was not.
    reason: Option<&'static str>,
    /// The kernel's error for a lost copy, such as EMSGSIZE; None if there was none.
    error: Option<String>,
    /// When it was recorded, in nanoseconds since 1970.
    time_ns: u64,
    /// When the kernel received the datagram, in the same unit; None if that is not known.
    arrived_ns: Option<u64>,
    /// The number of the datagram at its worker, from 1, which its copies have too.
    datagram: u64,
    /// The id of the rule; None for none.
    rule: Option<String>,
    /// The number of rules that have matched; 0 if none has.
    rules: u16,
    /// The position of the output in its rule, from 0; None for what was received.
    output: Option<u16>,
    /// The index of the interface on which it was received; None for copies.
    ifindex: Option<u32>,
    /// Bytes of the whole frame.
    frame_bytes: u32,
    /// Its first bytes, from the Ethernet header on.
    frame: Vec<u8>,
}

/// Reads the ring of a tap, mapped read-only.
///
/// The descriptor may be read-only, and remains the caller's. Raises InterfaceError if the ring
/// cannot be mapped.
#[pyclass(frozen, module = "mcr._native")]
pub(super) struct TapReader {
    ring: Mutex<RingReader>,
}

#[pymethods]
impl TapReader {
    /// The fewest bytes of a ring.
    #[classattr]
    const MIN_BYTES: usize = MIN_RING_WORDS * 8;

    #[new]
    fn new(descriptor: RawFd) -> PyResult<Self> {
        let ring = scm_rights::duplicate(descriptor).and_then(RingReader::open);
        let ring = ring.map_err(|error| Error::os("mapping", "the ring of a tap", error))?;
        Ok(Self { ring: Mutex::new(ring) })
    }

    /// Return the next records, at most `most`; none if all were read.
    fn read(&self, py: Python<'_>, most: usize) -> Vec<PyTapRecord> {
        py.detach(|| {
            let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            std::iter::from_fn(|| ring.read()).take(most).map(record).collect()
        })
    }

    /// The number of records that were overwritten before they were read.
    #[getter]
    fn lost(&self) -> u64 {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).lost()
    }
}

fn record((record, frame): (TapRecord, Vec<u8>)) -> PyTapRecord {
    let TapRecord { time_ns, arrived_ns, datagram, rule, rules, step, output, errno, .. } = record;
    let (step, reason) = match step {
        Step::Matched => ("matched", None),
        Step::Discarded(reason) => ("discarded", Some(reason.name())),
        Step::Sent => ("sent", None),
        Step::Lost(loss) => ("lost", Some(loss.name())),
        Step::Unnamed { is_copy } => (if is_copy { "lost" } else { "discarded" }, Some("unknown")),
    };
    PyTapRecord {
        step,
        reason,
        error: (errno != 0).then(|| errno_name(errno.into())),
        time_ns,
        arrived_ns: (arrived_ns != 0).then_some(arrived_ns),
        datagram,
        rule: (rule != 0).then(|| format!("{rule:012x}")),
        rules,
        output,
        ifindex: (record.ifindex != 0).then_some(record.ifindex),
        frame_bytes: record.frame_len,
        frame,
    }
}
