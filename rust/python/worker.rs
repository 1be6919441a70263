//! Worker processes for Python: the page of counters that outlives a worker, and the worker itself.

use std::os::fd::{IntoRawFd, RawFd};

use pyo3::prelude::*;

use crate::error::Error;
use crate::stats;

/// Create a page of counters for a worker process and its successors.
///
/// Returns the descriptor, which the caller owns. Raises InterfaceError, an OSError, if there is
/// not enough memory or no free descriptor.
#[pyfunction]
pub(super) fn make_page() -> PyResult<RawFd> {
    let os_error = |e| Error::os("creating a page", "the counters", e);
    let page = stats::create_page().map_err(os_error)?;
    let fd = page.fd().try_clone_to_owned().map_err(os_error)?;
    Ok(fd.into_raw_fd())
}

/// Run a worker until its engine or its supervisor ends; return the exit code.
///
/// `arguments` is a JSON object. The process must have one thread. Errors are not raised: they are
/// one line on standard error, and the exit code 64 (arguments), 71 (not started) or 70 (the engine
/// ended).
#[pyfunction]
pub(super) fn run_worker(py: Python<'_>, arguments: &str) -> i32 {
    py.detach(|| crate::worker::run_worker(arguments))
}
