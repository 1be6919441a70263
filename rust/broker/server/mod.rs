//! The supervisor's side of the broker: reads a worker's requests, checks them against the policy,
//! and answers. It trusts no byte of a message.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::MsgFlags;

use super::deletions::Deletions;
#[cfg(feature = "offload")]
use super::kernel_leases::KernelLeases;
use super::leases::Leases;
use super::memberships::Memberships;
use super::messages::{Answer, InterfaceId, MESSAGE_BYTES, PROTOCOL, Request};
use super::policy;
use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::sockets::closer::Closer;
use crate::sockets::ingress::Ingress;
use crate::sockets::netlink::groups::GroupList;
use crate::sys::scm_rights;

/// How long one worker is served in a row, so that it does not keep the others waiting: opening one
/// AF_PACKET socket alone can take some milliseconds.
const TURN: Duration = Duration::from_millis(20);
/// How long to wait for a worker's next request, in milliseconds. Otherwise a worker that sends its
/// requests one by one would get only one answer per turn while another has sockets opened.
const PAUSE_MS: u8 = 1;

/// The sockets held for the workers, and the means to open more.
#[derive(Debug)]
pub struct BrokerServer {
    ingress: Ingress,
    /// Whether workers may have XDP links.
    links_allowed: bool,
    /// If the worker may use the relay in the kernel.
    #[cfg(feature = "offload")]
    pub(super) kernel: Option<KernelLeases>,
    buffer_bytes: usize,
    pub(super) workers: Vec<WorkerSockets>,
    group_list: GroupList,
    deletions: Deletions,
    closer: Closer,
    /// The number of the fan-out group opened last.
    pub(super) last_group: u64,
    room: Vec<u8>,
}

/// All sockets and memberships of one worker.
#[derive(Debug)]
pub(super) struct WorkerSockets {
    /// How many workers share the supervisor's descriptors.
    pub(super) of: u16,
    pub(super) leases: Leases,
    pub(super) memberships: Memberships,
    /// Closes AF_PACKET sockets of all workers.
    pub(super) closer: Closer,
    /// Whether the current incarnation has sent its hello.
    is_known: bool,
}

/// The reason for a request that is not granted.
pub(super) enum Fault {
    /// Reported to the worker.
    Refused(Error),
    /// A protocol violation: a genuine worker never sends this.
    Breach(&'static str),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl BrokerServer {
    /// Creates the server for `workers` workers, each with a budget of `buffer_bytes`, in the
    /// calling thread's network namespace.
    ///
    /// # Errors
    /// No descriptor is left, or netlink is unavailable.
    pub fn new(workers: u16, ingress: Ingress, buffer_bytes: usize) -> Result<Self> {
        let closer = Closer::default();
        Ok(Self {
            ingress,
            links_allowed: true,
            #[cfg(feature = "offload")]
            kernel: None,
            buffer_bytes,
            group_list: GroupList::open()?,
            workers: (0..workers).map(|_| WorkerSockets::of(workers, closer.clone())).collect(),
            closer,
            last_group: 0,
            deletions: Deletions::open()?,
            room: vec![0; MESSAGE_BYTES],
        })
    }

    /// Refuses XDP links from now on, as for `--egress socket`.
    pub fn forbid_links(&mut self) {
        self.links_allowed = false;
    }

    /// Grants the relay in the kernel from now on. Its programs are loaded when a worker requests
    /// it, in the network namespace and with the capabilities of the thread that serves.
    ///
    /// # Errors
    /// [`Error::Invalid`] with several workers, which would share the datagrams of an input.
    #[cfg(feature = "offload")]
    pub fn allow_offload(&mut self) -> Result<()> {
        if self.workers.len() > 1 {
            let text = "offload: only a daemon with one worker can relay in the kernel";
            return Err(Error::Invalid(text.to_owned()));
        }
        self.kernel = Some(KernelLeases::default());
        Ok(())
    }

    /// The number of interfaces that the relay in the kernel is attached to.
    #[cfg(feature = "offload")]
    #[must_use]
    pub fn hooks(&self) -> usize {
        self.kernel.as_ref().map_or(0, KernelLeases::hooks)
    }

    /// Answers the requests waiting on a worker's socket, for some milliseconds at most; returns
    /// false when the worker has closed it.
    ///
    /// # Errors
    /// [`Error::Engine`] for a worker that violates the protocol; the caller must end it.
    pub fn serve(&mut self, worker: u16, socket: BorrowedFd<'_>) -> Result<bool> {
        let served = self.serve_turn(worker, socket);
        if !matches!(served, Ok(true))
            && let Some(ended) = self.workers.get_mut(usize::from(worker))
        {
            ended.leases.close_links();
        }
        served
    }

    fn serve_turn(&mut self, worker: u16, socket: BorrowedFd<'_>) -> Result<bool> {
        let start = Instant::now();
        while start.elapsed() < TURN {
            let len =
                match scm_rights::receive_bytes(socket, &mut self.room, MsgFlags::MSG_DONTWAIT) {
                    Ok(len) => len,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        if is_quiet(socket) {
                            return Ok(true);
                        }
                        continue;
                    }
                    Err(error) if error.kind() == ErrorKind::InvalidData => {
                        return Err(breach(
                            worker,
                            "a message that is too long or carries a descriptor",
                        ));
                    }
                    Err(_) => return Ok(false),
                };
            if len == 0 {
                return Ok(false);
            }
            let Some(request) = self.room.get(..len).and_then(Request::from_bytes) else {
                return Err(breach(worker, "a malformed message"));
            };
            match self.answer(worker, socket, request) {
                Ok(()) => {}
                Err(SessionEnd::Breach(why)) => return Err(breach(worker, why)),
                Err(SessionEnd::Gone) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Readable when [`BrokerServer::follow_deletions`] has something to do.
    #[must_use]
    pub fn deletions(&self) -> BorrowedFd<'_> {
        self.deletions.as_fd()
    }

    /// Reads which interfaces were deleted, before anything is done on an existing one, and gives
    /// up the sockets on them.
    pub fn follow_deletions(&mut self) {
        let (deletions, workers) = (&mut self.deletions, &mut self.workers);
        let stands_there =
            |index| workers.iter().any(|worker| worker.leases.is_interface_replaced(index));
        for index in deletions.take(stands_there) {
            workers.iter_mut().for_each(|worker| worker.interface_removed(index));
            #[cfg(feature = "offload")]
            self.kernel.iter_mut().for_each(|kernel| kernel.interface_removed(index));
        }
    }

    /// Learns from now on when this interface is deleted.
    ///
    /// # Errors
    /// The kernel has no memory.
    pub(super) fn watch_deletion(&mut self, ifindex: u32) -> Result<()> {
        self.deletions.watch(ifindex)
    }

    /// Checks that an interface exists. One that is watched does, until its deletion is noticed.
    fn watch_existing(&mut self, interface: &InterfaceId) -> Result<()> {
        if self.deletions.watches(interface.index) {
            return Ok(());
        }
        self.deletions.watch(interface.index)?;
        policy::find(interface).inspect_err(|_| self.deletions.forget(interface.index))
    }

    /// The number of sockets that are open here.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        self.workers.iter().map(WorkerSockets::sockets).sum()
    }

    /// Closes all sockets, and detaches the relay in the kernel, at the end.
    pub fn forget(&mut self) {
        #[cfg(feature = "offload")]
        {
            self.kernel = None;
        }
        for worker in &mut self.workers {
            worker.leases.clear();
            *worker = WorkerSockets::of(worker.of, self.closer.clone());
        }
        self.closer.finish();
    }

    fn answer(
        &mut self,
        worker: u16,
        socket: BorrowedFd<'_>,
        request: Request,
    ) -> std::result::Result<(), SessionEnd> {
        self.follow_deletions();
        let is_release = matches!(request, Request::Release { .. });
        let answer = match self.handle(worker, request) {
            Ok(answer) => answer,
            Err(Fault::Refused(error)) => Answer::Refused { why: error.into() },
            Err(Fault::Breach(why)) => return Err(SessionEnd::Breach(why)),
        };
        if is_release {
            return Ok(());
        }
        let fd = self.attached(worker, &answer);
        match scm_rights::send(socket, &answer.to_bytes(), fd, MsgFlags::MSG_DONTWAIT) {
            Ok(()) => Ok(()),
            Err(error) if is_gone(&error) => Err(SessionEnd::Gone),
            Err(_) => Err(SessionEnd::Breach("requests without reading the answers")),
        }
    }

    /// The descriptor that belongs to an answer.
    fn attached(&self, worker: u16, answer: &Answer) -> Option<BorrowedFd<'_>> {
        #[cfg(feature = "offload")]
        if let Answer::KernelMap { number } = answer {
            return self.kernel.as_ref()?.map(*number);
        }
        self.workers.get(usize::from(worker))?.leases.attached(answer)
    }

    fn handle(&mut self, worker: u16, request: Request) -> std::result::Result<Answer, Fault> {
        let ingress = self.ingress;
        if let Some(why) = policy::violation(&request, ingress, self.buffer_bytes) {
            return Err(Fault::Breach(why));
        }
        if let Some(why) = policy::link_violation(&request, worker, self.links_allowed) {
            return Err(Fault::Breach(why));
        }
        if let Some(interface) = policy::interface(&request) {
            self.watch_existing(interface)?;
        }
        let known = self.workers.get_mut(usize::from(worker)).ok_or(NO_WORKER)?;
        match request {
            Request::Hello { protocol: PROTOCOL } => {
                known.start_session(&self.group_list);
                #[cfg(feature = "offload")]
                self.kernel.iter_mut().for_each(KernelLeases::orphan);
            }
            Request::Hello { .. } => return Err(Fault::Breach("another protocol version")),
            _ if !known.is_known => return Err(Fault::Breach("no hello")),
            Request::ReleaseUnclaimed {} => {
                known.release_unclaimed();
                #[cfg(feature = "offload")]
                self.kernel.iter_mut().for_each(KernelLeases::release_unclaimed);
                self.close_unused_groups();
            }
            #[cfg_attr(
                not(feature = "offload"),
                expect(unused_mut, reason = "nothing is added to it")
            )]
            Request::Release { mut leases } => {
                #[cfg(feature = "offload")]
                if let Some(kernel) = &mut self.kernel {
                    leases.retain(|lease| !kernel.release(*lease));
                }
                known.release(&leases)?;
                self.close_unused_groups();
            }
            Request::Frames { interface, blocks, ring } => {
                return self.frames(worker, &interface.as_ref(), &blocks, ring);
            }
            Request::Merge { lease, on } => self.merge(worker, lease, on)?,
            Request::Hooks { interface, of } => {
                return Ok(WorkerSockets::hooks(&interface, of));
            }
            Request::XdpLink { interface, queue } => return known.xdp_link(&interface, queue),
            Request::XdpMemory { lease } => return known.xdp_memory(lease),
            #[cfg(feature = "offload")]
            request @ (Request::KernelMap { .. }
            | Request::KernelHook { .. }
            | Request::KernelFan { .. }
            | Request::KernelCpu { .. }) => return self.grant_kernel(worker, request),
            other => {
                let request = self.beside_other_workers(other);
                let answer = self.worker(worker)?.grant(request)?;
                return self.follow_votes(worker, answer);
            }
        }
        Ok(Answer::Done {})
    }
}

/// The ways in which serving a worker can end.
enum SessionEnd {
    Breach(&'static str),
    /// The worker has closed its end.
    Gone,
}

impl WorkerSockets {
    fn of(workers: u16, closer: Closer) -> Self {
        let (leases, memberships) = (Leases::new(closer.clone()), Memberships::default());
        Self { of: workers, leases, memberships, closer, is_known: false }
    }

    /// The number of sockets that are open for it.
    pub(super) fn sockets(&self) -> usize {
        self.leases.len() + self.memberships.sockets()
    }

    fn start_session(&mut self, list: &GroupList) {
        self.is_known = true;
        self.leases.orphan();
        self.memberships.orphan();
        for is_v4 in [true, false] {
            // If the kernel cannot list them, the sockets' own state is trusted.
            if let Ok(groups) = list.ask(is_v4, 0) {
                let is_lost = |ifindex, group: Addr| {
                    group.is_v4() == is_v4 && !groups.contains(&(ifindex, group))
                };
                self.leases.drop_lost(is_lost);
                self.memberships.drop_lost(is_lost);
            }
        }
    }

    fn release_unclaimed(&mut self) {
        self.leases.release_unclaimed();
        self.memberships.release_unclaimed();
    }

    fn interface_removed(&mut self, index: u32) {
        self.leases.interface_removed(index);
        self.memberships.interface_removed(index);
    }
}

/// The request names a worker that does not exist.
pub(super) const NO_WORKER: Fault = Fault::Breach("an unknown worker number");

/// Whether no request arrives within [`PAUSE_MS`].
fn is_quiet(socket: BorrowedFd<'_>) -> bool {
    let ready = poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], PollTimeout::from(PAUSE_MS));
    !ready.is_ok_and(|ready| ready > 0)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

fn breach(worker: u16, what: &str) -> Error {
    Error::Engine(format!("worker {worker} violated the broker protocol: {what}"))
}

#[cfg(test)]
mod tests;
