//! What the daemon's processes need of the core: the page that counts through a worker's lives, and
//! the worker itself.

use std::os::fd::{IntoRawFd, RawFd};

use pyo3::prelude::*;

use crate::error::Error;
use crate::stats;

/// Make a page of counters for a worker process and those that follow it; return its descriptor.
#[pyfunction]
pub(super) fn make_page() -> PyResult<RawFd> {
    let refused = |e| Error::os("making a page", "the counters", e);
    let page = stats::create_page().map_err(refused)?;
    let fd = page.fd().try_clone_to_owned().map_err(refused)?;
    Ok(fd.into_raw_fd())
}

/// Run a worker process until it ends; return its exit code.
#[pyfunction]
pub(super) fn run_worker(py: Python<'_>, arguments: &str) -> i32 {
    py.detach(|| crate::worker::run_worker(arguments))
}
