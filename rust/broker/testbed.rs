//! A supervisor for tests, served by threads in the test's network namespace, and workers that can
//! die: their sockets are then closed without notifying the supervisor.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, shutdown, socketpair,
};

use super::messages::{PROTOCOL, Request};
use super::{BrokerClient, BrokerServer, Ingress};
use crate::sys::scm_rights;

pub(crate) const BUFFER_BYTES: usize = 1 << 20;

/// The supervisor.
pub(crate) struct TestSupervisor {
    pub(crate) server: Arc<Mutex<BrokerServer>>,
}

/// The handle that kills a worker.
pub(crate) struct Death(OwnedFd);

impl TestSupervisor {
    pub(crate) fn new(workers: u16, ingress: Ingress) -> Self {
        let server = BrokerServer::new(workers, ingress, BUFFER_BYTES).unwrap();
        Self { server: Arc::new(Mutex::new(server)) }
    }

    /// Starts a worker; returns it with the handle that kills it.
    pub(crate) fn worker(&self, number: u16) -> (BrokerClient, Death) {
        let (near, far) = pair();
        let server = self.server.clone();
        thread::spawn(move || {
            loop {
                poll(&mut [PollFd::new(far.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)
                    .unwrap();
                // Like the supervisor, it ends a worker that violates the protocol.
                let served = server.lock().unwrap().serve(number, far.as_fd());
                if !served.unwrap_or(false) {
                    return;
                }
            }
        });
        let death = Death(near.try_clone().unwrap());
        (BrokerClient::new(near).unwrap(), death)
    }

    pub(crate) fn open_sockets(&self) -> usize {
        self.server.lock().unwrap().open_sockets()
    }
}

impl Death {
    /// From here on the supervisor is not notified of what the worker drops.
    pub(crate) fn come(self) {
        shutdown(self.0.as_raw_fd(), Shutdown::Both).unwrap();
    }
}

/// The two ends of a connection: the worker's and the supervisor's.
pub(crate) fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SockFlag::SOCK_CLOEXEC;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
}

/// Whether the last of these requests of worker 0 ends its connection, as a violation of the
/// protocol.
pub(super) fn ends_connection(mut server: BrokerServer, requests: &[Request]) -> bool {
    let (near, far) = pair();
    let hello = Request::Hello { protocol: PROTOCOL };
    let mut last = Ok(true);
    for request in std::iter::once(&hello).chain(requests) {
        assert!(last.unwrap());
        scm_rights::send(near.as_fd(), &request.to_bytes(), None, MsgFlags::empty()).unwrap();
        last = server.serve(0, far.as_fd());
    }
    last.is_err()
}
