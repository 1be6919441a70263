//! The supervisor's broker for Python: descriptors come as numbers. It must not know what they
//! carry.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use crate::broker::{BrokerServer, Ingress};
use crate::error::Error;
use crate::sys::scm_rights;

/// Opens sockets for worker processes that may open none, and keeps what a dead one had.
#[pyclass(frozen, module = "mcr._native")]
pub(super) struct Broker {
    server: Mutex<BrokerServer>,
}

#[pymethods]
impl Broker {
    #[new]
    #[pyo3(signature = (workers, ingress, buffer_bytes=33_554_432))]
    fn new(workers: u16, ingress: &str, buffer_bytes: usize) -> PyResult<Self> {
        let ingress = match ingress {
            "packet" => Ingress::Packet,
            "udp" => Ingress::Udp,
            other => {
                let text = format!("ingress: {other:?} is none of packet, udp");
                return Err(Error::Invalid(text).into());
            }
        };
        let server = BrokerServer::new(workers, ingress, buffer_bytes)?;
        Ok(Self { server: Mutex::new(server) })
    }

    /// How many sockets are open here, memberships among them.
    #[getter]
    fn open_sockets(&self) -> usize {
        self.server().open_sockets()
    }

    /// Answer what waits on a worker's socket; return False when the worker has closed it.
    fn serve(&self, py: Python<'_>, worker: u16, fd: RawFd) -> PyResult<bool> {
        let socket = scm_rights::duplicate(fd)
            .map_err(|error| Error::os("serving", format!("descriptor {fd}"), error))?;
        Ok(py.detach(|| self.server().serve(worker, socket.as_fd()))?)
    }

    /// The descriptor that is readable when interfaces were deleted: watch it, and call
    /// `follow_deletions` then.
    #[getter]
    fn deletions(&self) -> RawFd {
        self.server().deletions().as_raw_fd()
    }

    /// Give up what stands on interfaces that are gone.
    fn follow_deletions(&self, py: Python<'_>) {
        py.detach(|| self.server().follow_deletions());
    }

    /// Close all that is held for workers.
    fn forget(&self, py: Python<'_>) {
        py.detach(|| self.server().forget());
    }
}

impl Broker {
    fn server(&self) -> MutexGuard<'_, BrokerServer> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
