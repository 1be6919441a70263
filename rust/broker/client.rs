//! The worker's side of the broker: a [`SocketProvider`] that requests every socket from the
//! supervisor.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::socket::MsgFlags;

use super::messages::{Answer, MESSAGE_BYTES, PROTOCOL, Request};
use super::wire::MAX_ITEMS;
use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::sockets::provider::{
    HelperSocket, Lease, Lender, OutputHandle, OutputOwner, PacketSocketHandle,
    PacketSocketRequest, Socket, SocketProvider, UdpInputHandle,
};
use crate::sockets::socket::descriptors_used_up;
use crate::sockets::{InterfaceRef, filter, udp_input};
use crate::spec::OutputSpec;
use crate::sys::packet_ring::{PacketRing, RingShape};
use crate::sys::scm_rights;

/// Requests sockets from the supervisor.
pub struct BrokerClient {
    line: Arc<Line>,
}

/// The connection to the supervisor.
struct Line {
    socket: Arc<OwnedFd>,
    /// Allows one request at a time.
    request_lock: Mutex<()>,
    returned: Arc<ReturnedLeases>,
}

/// Dropped leases to return. They are sent before the next request, which may need what they held,
/// a port for example, and soon if there is no request.
#[derive(Default)]
struct ReturnedLeases {
    waiting: Mutex<ReturnQueue>,
    changed: Condvar,
}

#[derive(Default)]
struct ReturnQueue {
    leases: Vec<u64>,
    /// There will be no more.
    is_closed: bool,
}

impl BrokerClient {
    /// Sends a hello on a SOCK_SEQPACKET socket whose other end the supervisor serves.
    ///
    /// # Errors
    /// The supervisor does not answer or uses another protocol; no thread can be started.
    pub fn new(socket: OwnedFd) -> Result<Self> {
        let socket = Arc::new(socket);
        let returned = Arc::new(ReturnedLeases::default());
        let line = Line {
            socket: socket.clone(),
            request_lock: Mutex::new(()),
            returned: returned.clone(),
        };
        line.execute(&Request::Hello { protocol: PROTOCOL })?;
        // The thread ends after the last lease is dropped, since leases keep the line alive.
        let run = move || {
            SigSet::all().thread_block().ok();
            while returned.wait() && returned.flush(&socket).is_ok() {}
        };
        thread::Builder::new()
            .name("mcr-leases".to_owned())
            .spawn(run)
            .map_err(|error| Error::os("starting a thread", "the broker client", error))?;
        Ok(Self { line: Arc::new(line) })
    }

    fn lease(&self, id: u64) -> Lease {
        Lease::new(id, self.line.clone())
    }

    fn socket(&self, lease: u64, fd: Option<OwnedFd>) -> Result<Socket> {
        fd.map(|fd| Socket::leased(fd, self.lease(lease))).ok_or_else(unexpected)
    }

    fn helper(&self, request: &Request) -> Result<Option<HelperSocket>> {
        match self.line.request(request)? {
            (Answer::Helper { lease }, None) => Ok(Some(self.lease(lease).into())),
            (Answer::Absent {}, None) => Ok(None),
            _ => Err(unexpected()),
        }
    }

    fn request_output(
        &self,
        owner: &OutputOwner<'_>,
        spec: &OutputSpec,
        connect: bool,
    ) -> Result<OutputHandle> {
        let request = Request::Output {
            rule: owner.rule.to_owned(),
            number: owner.number,
            is_connected: connect,
            spec: spec.clone(),
        };
        match self.line.request(&request)? {
            (Answer::Output { lease, send_buffer_bytes, max_segment }, fd) => Ok(OutputHandle {
                socket: self.socket(lease, fd)?,
                send_buffer_bytes: bytes(send_buffer_bytes),
                max_segment,
            }),
            _ => Err(unexpected()),
        }
    }
}

impl SocketProvider for BrokerClient {
    /// Returns one socket: the others of its group belong to other workers.
    fn frames(&self, wanted: &PacketSocketRequest<'_>) -> Result<Vec<PacketSocketHandle>> {
        let PacketSocketRequest { interface, blocks, ring, .. } = wanted;
        let blocks = filter::bounded(blocks);
        let request = Request::Frames { interface: interface.into(), blocks, ring: *ring };
        let (answer, fd) = self.line.request(&request)?;
        let Answer::Frames { lease, receive_buffer_bytes, vnet_hdr, ring, has_history } = answer
        else {
            return Err(unexpected());
        };
        let socket = self.socket(lease, fd)?;
        let ring = ring.map(|shape| map(&socket, shape, has_history)).transpose();
        let ring = ring.map_err(|e| Error::os("mapping a packet ring", interface.name, e))?;
        let lost_frames = ring.as_ref().map_or(0, |(_, lost)| *lost);
        Ok(vec![PacketSocketHandle {
            ring: ring.map(|(ring, _)| ring),
            socket,
            receive_buffer_bytes: bytes(receive_buffer_bytes),
            vnet_hdr,
            lost_frames,
        }])
    }

    fn replace_filter(&self, socket: &Socket, blocks: &[(Addr, u8)]) -> Result<()> {
        let blocks = filter::bounded(blocks);
        self.line.execute(&Request::Filter { lease: leased(socket)?, blocks })
    }

    fn take_all_multicast(&self, socket: &Socket, _: &InterfaceRef<'_>, on: bool) -> Result<()> {
        self.line.execute(&Request::AllMulticast { lease: leased(socket)?, on })
    }

    fn join(&self, interface: &InterfaceRef<'_>, group: Addr, sources: &[Addr]) -> Result<()> {
        let sources = checked_list(group, sources)?;
        self.line.execute(&Request::Join { interface: interface.into(), group, sources })
    }

    fn leave(&self, ifindex: u32, group: Addr, sources: &[Addr]) {
        let sources = sources.to_vec();
        // If the supervisor does not answer, it is gone and so are the memberships.
        self.line.execute(&Request::Leave { ifindex, group, sources }).ok();
    }

    fn announce(&self, interface: &InterfaceRef<'_>) -> Result<()> {
        self.line.execute(&Request::Announce { ifindex: interface.index })
    }

    fn gro_helper(
        &self,
        group: Addr,
        port: u16,
        interface: &InterfaceRef<'_>,
    ) -> Result<HelperSocket> {
        let request = Request::GroHelper { interface: interface.into(), group, port };
        self.helper(&request)?.ok_or_else(unexpected)
    }

    fn gro_helper_anywhere(&self, group: Addr, port: u16) -> Result<HelperSocket> {
        self.helper(&Request::GroHelperAnywhere { group, port })?.ok_or_else(unexpected)
    }

    fn gro_helper_for_port(
        &self,
        v4: bool,
        port: u16,
        is_beside_own: bool,
    ) -> Result<Option<HelperSocket>> {
        self.helper(&Request::GroHelperForPort { v4, port, is_beside_own })
    }

    fn merge(&self, helper: &HelperSocket, on: bool) -> Result<()> {
        let Some(lease) = helper.lease() else { return Ok(()) };
        self.line.execute(&Request::Merge { lease, on })
    }

    fn port_guard(
        &self,
        address: Addr,
        port: u16,
        interface: &InterfaceRef<'_>,
        is_beside_own: bool,
    ) -> Result<Option<HelperSocket>> {
        let interface = interface.into();
        self.helper(&Request::PortGuard { interface, address, port, is_beside_own })
    }

    fn datagrams(&self, wanted: &udp_input::UdpInputRequest<'_>) -> Result<UdpInputHandle> {
        let request = Request::Datagrams {
            interface: (&wanted.interface).into(),
            group: wanted.group,
            is_broadcast: wanted.is_broadcast,
            is_everywhere: wanted.is_everywhere,
            is_beside_own: wanted.is_beside_own,
            port: wanted.port,
        };
        match self.line.request(&request)? {
            (Answer::Datagrams { lease, receive_buffer_bytes }, fd) => Ok(UdpInputHandle {
                socket: self.socket(lease, fd)?,
                receive_buffer_bytes: bytes(receive_buffer_bytes),
            }),
            _ => Err(unexpected()),
        }
    }

    fn join_socket(&self, socket: &Socket, _: u32, group: Addr, sources: &[Addr]) -> Result<()> {
        let sources = checked_list(group, sources)?;
        self.line.execute(&Request::JoinBy { lease: leased(socket)?, sources })
    }

    fn leave_socket(&self, socket: &Socket, _: u32, _: Addr, sources: &[Addr]) {
        let sources = sources.to_vec();
        let asked = leased(socket);
        // If the supervisor does not answer, it is gone and so are the memberships.
        asked.and_then(|lease| self.line.execute(&Request::LeaveBy { lease, sources })).ok();
    }

    fn narrow_socket(&self, socket: &Socket, _: u32, group: Addr, sources: &[Addr]) -> Result<()> {
        let sources = checked_list(group, sources)?;
        self.line.execute(&Request::NarrowBy { lease: leased(socket)?, sources })
    }

    fn output(&self, owner: &OutputOwner<'_>, spec: &OutputSpec) -> Result<OutputHandle> {
        self.request_output(owner, spec, true)
    }

    fn prepare_output(&self, owner: &OutputOwner<'_>, spec: &OutputSpec) -> Result<OutputHandle> {
        self.request_output(owner, spec, false)
    }

    fn reconnect(&self, socket: &Socket, spec: &OutputSpec) -> Result<u16> {
        let request = Request::Reconnect { lease: leased(socket)?, ifindex: spec.ifindex };
        match self.line.request(&request)? {
            (Answer::Segment { max_segment }, None) => Ok(max_segment),
            _ => Err(unexpected()),
        }
    }

    fn resolve_host(&self, socket: &Socket, spec: &OutputSpec) -> Result<()> {
        self.line.execute(&Request::ResolveHost { lease: leased(socket)?, ifindex: spec.ifindex })
    }

    /// Nothing to do: the supervisor keeps its privileges.
    fn keep_spares(&self, _: usize) -> Result<()> {
        Ok(())
    }

    fn release_unclaimed(&self) -> Result<()> {
        self.line.execute(&Request::ReleaseUnclaimed {})
    }
}

impl Line {
    fn execute(&self, request: &Request) -> Result<()> {
        match self.request(request)? {
            (Answer::Done {}, None) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    fn request(&self, request: &Request) -> Result<(Answer, Option<OwnedFd>)> {
        let _alone = self.request_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = self.returned.flush(&self.socket);
        let reply = reply.and_then(|()| send(&self.socket, request));
        let reply = reply.and_then(|()| receive(&self.socket));
        let (bytes, fd, lacks_fd) =
            reply.map_err(|e| Error::Engine(format!("the supervisor does not answer ({e})")))?;
        match Answer::from_bytes(&bytes) {
            Some(Answer::Refused { why }) => Err(why.into()),
            Some(answer) if lacks_fd => Err(self.descriptor_lost(&answer)),
            Some(answer) => Ok((answer, fd)),
            None => Err(unexpected()),
        }
    }

    /// The socket was leased, but this process had no descriptor left to receive it.
    fn descriptor_lost(&self, answer: &Answer) -> Error {
        if let Some(lease) = answer.lease() {
            self.return_lease(lease);
        }
        Error::os("taking over a socket", "a worker", descriptors_used_up())
    }
}

impl Lender for Line {
    fn return_lease(&self, id: u64) {
        self.returned.lock().leases.push(id);
        self.returned.changed.notify_one();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.returned.lock().is_closed = true;
        self.returned.changed.notify_one();
    }
}

impl ReturnedLeases {
    /// Waits until there are some; false when there will be no more.
    fn wait(&self) -> bool {
        let is_idle = |waiting: &mut ReturnQueue| waiting.leases.is_empty() && !waiting.is_closed;
        let held = self.changed.wait_while(self.lock(), is_idle);
        !held.unwrap_or_else(PoisonError::into_inner).leases.is_empty()
    }

    /// Returns the leases, many in one message. The lock is held until they are sent, so that no
    /// request overtakes them.
    fn flush(&self, socket: &OwnedFd) -> io::Result<()> {
        let mut waiting = self.lock();
        for leases in waiting.leases.chunks(MAX_ITEMS) {
            send(socket, &Request::Release { leases: leases.to_vec() })?;
        }
        waiting.leases.clear();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, ReturnQueue> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn send(socket: &OwnedFd, request: &Request) -> io::Result<()> {
    let bytes = request.to_bytes();
    loop {
        match scm_rights::send(socket.as_fd(), &bytes, None, MsgFlags::empty()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait(socket, PollFlags::POLLOUT)?
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn receive(socket: &OwnedFd) -> io::Result<(Vec<u8>, Option<OwnedFd>, bool)> {
    let mut bytes = vec![0; MESSAGE_BYTES];
    loop {
        match scm_rights::receive(socket.as_fd(), &mut bytes, MsgFlags::empty()) {
            Ok(message) if message.len == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(message) => {
                bytes.truncate(message.len);
                return Ok((bytes, message.fd, message.lacks_fd));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(socket, PollFlags::POLLIN)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits in case the socket has been made nonblocking.
fn wait(socket: &OwnedFd, until: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::new(socket.as_fd(), until)], PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Maps the ring; also returns how many frames were lost.
fn map(socket: &Socket, shape: RingShape, has_history: bool) -> io::Result<(PacketRing, u64)> {
    if has_history {
        PacketRing::take_over(socket.as_fd(), shape)
    } else {
        PacketRing::map(socket.as_fd(), shape).map(|ring| (ring, 0))
    }
}

fn leased(socket: &Socket) -> Result<u64> {
    socket.lease().ok_or_else(|| Error::Invalid("the socket has no lease".to_owned()))
}

/// Checks that the list fits into a message.
fn checked_list(group: Addr, sources: &[Addr]) -> Result<Vec<Addr>> {
    if sources.len() > MAX_ITEMS {
        let text = format!("too many sources for {group}: at most {MAX_ITEMS} are supported");
        return Err(Error::Invalid(text));
    }
    Ok(sources.to_vec())
}

fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn unexpected() -> Error {
    Error::Engine("the supervisor's answer does not match the request".to_owned())
}
