//! The supervisor's broker for Python, with descriptors as integers.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::broker::{BrokerServer, Ingress};
use crate::error::Error;
use crate::sys::scm_rights;

/// Opens sockets for worker processes that may not, and keeps those of a dead worker.
///
/// A worker's requests arrive over a SOCK_SEQPACKET socket pair (unix(7)). Sockets are opened in
/// the network namespace of the thread that calls `serve`, with its privileges. `workers` is the
/// number of workers; `buffer_bytes` applies to each of them and bounds its packet rings.
/// `offload` lets a single worker relay in the kernel. Raises RuleError for an invalid ingress or
/// for `offload` with several workers, InterfaceError for an error of the kernel.
#[pyclass(frozen, module = "mcr._native")]
pub(super) struct Broker {
    server: Mutex<BrokerServer>,
}

#[pymethods]
impl Broker {
    #[new]
    #[pyo3(signature = (workers, ingress, buffer_bytes=33_554_432, xdp_links=true, offload=false))]
    fn new(
        workers: u16,
        ingress: &str,
        buffer_bytes: usize,
        xdp_links: bool,
        offload: bool,
    ) -> PyResult<Self> {
        let ingress = match ingress {
            "packet" => Ingress::Packet,
            "udp" => Ingress::Udp,
            other => {
                let text = format!("ingress: must be packet or udp, not {other:?}");
                return Err(Error::Invalid(text).into());
            }
        };
        let mut server = BrokerServer::new(workers, ingress, buffer_bytes)?;
        if !xdp_links {
            server.forbid_links();
        }
        if offload {
            allow_offload(&mut server)?;
        }
        Ok(Self { server: Mutex::new(server) })
    }

    /// The number of open sockets, including those that hold memberships.
    #[getter]
    fn open_sockets(&self) -> usize {
        self.server().open_sockets()
    }

    /// Answer the requests that wait on a worker's socket; return False if it is closed.
    ///
    /// `worker` is its number, from 0, and `fd` the supervisor's end of the socket pair, which
    /// remains the caller's. Does not block. Raises EngineError for a worker that violates the
    /// protocol: the caller must end it. Its sockets are kept for the next process with its number.
    fn serve(&self, py: Python<'_>, worker: u16, fd: RawFd) -> PyResult<bool> {
        let socket = scm_rights::duplicate(fd)
            .map_err(|error| Error::os("serving", format!("descriptor {fd}"), error))?;
        Ok(py.detach(|| self.server().serve(worker, socket.as_fd()))?)
    }

    /// A descriptor that is readable when `follow_deletions` has something to do.
    #[getter]
    fn deletions(&self) -> RawFd {
        self.server().deletions().as_raw_fd()
    }

    /// Close the sockets on deleted interfaces.
    fn follow_deletions(&self, py: Python<'_>) {
        py.detach(|| self.server().follow_deletions());
    }

    /// Return the record (512 bytes) and the descriptor of each socket, for `adopt`.
    ///
    /// The descriptors remain the broker's, and are valid until it is used again.
    fn leased<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyBytes>, RawFd)> {
        let server = self.server();
        let leased = server.leased();
        leased.map(|(record, fd)| (PyBytes::new(py, &record), fd.as_raw_fd())).collect()
    }

    /// Take over a socket of another process's broker, whose record this is.
    ///
    /// It waits for its worker as after the death of that. `fd` remains the caller's. Raises
    /// RuleError for a record of another form or for more workers, InterfaceError for an error of
    /// the kernel.
    fn adopt(&self, record: &[u8], fd: RawFd) -> PyResult<()> {
        let socket = scm_rights::duplicate(fd)
            .map_err(|error| Error::os("taking over", format!("descriptor {fd}"), error))?;
        Ok(self.server().adopt(record, socket)?)
    }

    /// Close all sockets.
    fn forget(&self, py: Python<'_>) {
        py.detach(|| self.server().forget());
    }
}

#[cfg(feature = "offload")]
fn allow_offload(server: &mut BrokerServer) -> Result<(), Error> {
    server.allow_offload()
}

#[cfg(not(feature = "offload"))]
fn allow_offload(_: &mut BrokerServer) -> Result<(), Error> {
    Err(Error::Invalid("offload: this build has no relay in the kernel; it must be off".to_owned()))
}

impl Broker {
    fn server(&self) -> MutexGuard<'_, BrokerServer> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
