//! Worker processes for Python: the page of counters that outlives a worker, and the worker itself.

use std::os::fd::{IntoRawFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::Error;
use crate::stats::{self, carried};
use crate::sys::memory::SharedWords;
use crate::sys::scm_rights;

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

/// Return a number that differs between versions whose pages have another layout.
#[pyfunction]
pub(super) const fn page_layout() -> u64 {
    stats::LAYOUT
}

/// Return the counts in a page in which no process counts any more, for `import_counters`.
///
/// `page` is its descriptor, which remains the caller's. Raises InterfaceError, an OSError, for a
/// page of another layout.
#[pyfunction]
pub(super) fn export_counters(py: Python<'_>, page: RawFd) -> PyResult<Bound<'_, PyBytes>> {
    let exported = py.detach(|| open_page(page).and_then(|page| carried::export(&page)));
    let exported = exported.map_err(|error| Error::os("reading", "the counters", error))?;
    Ok(PyBytes::new(py, &exported))
}

/// Write counts of another version into a new page, before a worker counts in it.
///
/// `page` is its descriptor, which remains the caller's. What this version does not count is left
/// out. Raises InterfaceError, an OSError, for a page of another layout.
#[pyfunction]
pub(super) fn import_counters(py: Python<'_>, page: RawFd, counts: &[u8]) -> PyResult<()> {
    let imported = py.detach(|| open_page(page).and_then(|page| carried::import(&page, counts)));
    Ok(imported.map_err(|error| Error::os("writing", "the counters", error))?)
}

fn open_page(page: RawFd) -> std::io::Result<SharedWords> {
    SharedWords::open(scm_rights::duplicate(page)?)
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
