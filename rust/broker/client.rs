//! The worker's side of the broker: an [`SocketProvider`] that opens nothing itself. It must not know what
//! the supervisor grants.

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

/// Asks the supervisor for sockets.
pub struct Client {
    line: Arc<Line>,
}

/// The way to the supervisor.
struct Line {
    socket: Arc<OwnedFd>,
    /// One question at a time.
    asking: Mutex<()>,
    freed: Arc<Freed>,
}

/// Leases that nobody has any more. The supervisor hears of them before the next question, which
/// may be for what they held, a port for example; and soon, if none is asked.
#[derive(Default)]
struct Freed {
    waiting: Mutex<ReturnQueue>,
    changed: Condvar,
}

#[derive(Default)]
struct ReturnQueue {
    leases: Vec<u64>,
    /// There will be no more.
    is_over: bool,
}

impl Client {
    /// Says hello on a SOCK_SEQPACKET socket whose other end the supervisor serves.
    ///
    /// # Errors
    /// It does not answer, or speaks otherwise; no thread.
    pub fn new(socket: OwnedFd) -> Result<Self> {
        let socket = Arc::new(socket);
        let freed = Arc::new(Freed::default());
        let line = Line { socket: socket.clone(), asking: Mutex::new(()), freed: freed.clone() };
        line.done(&Request::Hello { protocol: PROTOCOL })?;
        // It ends with the last lease, which holds the line.
        let run = move || {
            SigSet::all().thread_block().ok();
            while freed.wait() && freed.give_back(&socket).is_ok() {}
        };
        thread::Builder::new()
            .name("mcr-leases".to_owned())
            .spawn(run)
            .map_err(|error| Error::os("starting a thread", "the leases", error))?;
        Ok(Self { line: Arc::new(line) })
    }

    fn lease(&self, id: u64) -> Lease {
        Lease::new(id, self.line.clone())
    }

    fn socket(&self, lease: u64, fd: Option<OwnedFd>) -> Result<Socket> {
        fd.map(|fd| Socket::leased(fd, self.lease(lease))).ok_or_else(unexpected)
    }

    fn helper(&self, request: &Request) -> Result<Option<HelperSocket>> {
        match self.line.ask(request)? {
            (Answer::Helper { lease }, None) => Ok(Some(self.lease(lease).into())),
            (Answer::Absent {}, None) => Ok(None),
            _ => Err(unexpected()),
        }
    }

    fn any_output(
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
        match self.line.ask(&request)? {
            (Answer::Output { lease, send_buffer_bytes, max_segment }, fd) => Ok(OutputHandle {
                socket: self.socket(lease, fd)?,
                send_buffer_bytes: bytes(send_buffer_bytes),
                max_segment,
            }),
            _ => Err(unexpected()),
        }
    }
}

impl SocketProvider for Client {
    /// One: the others in its group are those of other workers.
    fn frames(&self, wish: &PacketSocketRequest<'_>) -> Result<Vec<PacketSocketHandle>> {
        let PacketSocketRequest { interface, blocks, ring, .. } = wish;
        let blocks = filter::bounded(blocks);
        let request = Request::Frames { interface: interface.into(), blocks, ring: *ring };
        let (answer, fd) = self.line.ask(&request)?;
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
        self.line.done(&Request::Filter { lease: leased(socket)?, blocks })
    }

    fn take_all_multicast(&self, socket: &Socket, _: &InterfaceRef<'_>, on: bool) -> Result<()> {
        self.line.done(&Request::AllMulticast { lease: leased(socket)?, on })
    }

    fn join(&self, interface: &InterfaceRef<'_>, group: Addr, sources: &[Addr]) -> Result<()> {
        let sources = listed(group, sources)?;
        self.line.done(&Request::Join { interface: interface.into(), group, sources })
    }

    fn leave(&self, ifindex: u32, group: Addr, sources: &[Addr]) {
        let sources = sources.to_vec();
        // Who does not answer has left everything.
        self.line.done(&Request::Leave { ifindex, group, sources }).ok();
    }

    fn announce(&self, interface: &InterfaceRef<'_>) -> Result<()> {
        self.line.done(&Request::Announce { ifindex: interface.index })
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
        self.line.done(&Request::Merge { lease, on })
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

    fn datagrams(&self, wish: &udp_input::UdpInputRequest<'_>) -> Result<UdpInputHandle> {
        let request = Request::Datagrams {
            interface: (&wish.interface).into(),
            group: wish.group,
            is_broadcast: wish.is_broadcast,
            is_everywhere: wish.is_everywhere,
            is_beside_own: wish.is_beside_own,
            port: wish.port,
        };
        match self.line.ask(&request)? {
            (Answer::Datagrams { lease, receive_buffer_bytes }, fd) => Ok(UdpInputHandle {
                socket: self.socket(lease, fd)?,
                receive_buffer_bytes: bytes(receive_buffer_bytes),
            }),
            _ => Err(unexpected()),
        }
    }

    fn join_socket(&self, socket: &Socket, _: u32, group: Addr, sources: &[Addr]) -> Result<()> {
        let sources = listed(group, sources)?;
        self.line.done(&Request::JoinBy { lease: leased(socket)?, sources })
    }

    fn leave_socket(&self, socket: &Socket, _: u32, _: Addr, sources: &[Addr]) {
        let sources = sources.to_vec();
        let asked = leased(socket);
        // Who does not answer has left everything.
        asked.and_then(|lease| self.line.done(&Request::LeaveBy { lease, sources })).ok();
    }

    fn narrow_socket(&self, socket: &Socket, _: u32, group: Addr, sources: &[Addr]) -> Result<()> {
        let sources = listed(group, sources)?;
        self.line.done(&Request::NarrowBy { lease: leased(socket)?, sources })
    }

    fn output(&self, owner: &OutputOwner<'_>, spec: &OutputSpec) -> Result<OutputHandle> {
        self.any_output(owner, spec, true)
    }

    fn prepare_output(&self, owner: &OutputOwner<'_>, spec: &OutputSpec) -> Result<OutputHandle> {
        self.any_output(owner, spec, false)
    }

    fn reconnect(&self, socket: &Socket, spec: &OutputSpec) -> Result<u16> {
        let request = Request::Reconnect { lease: leased(socket)?, ifindex: spec.ifindex };
        match self.line.ask(&request)? {
            (Answer::Segment { max_segment }, None) => Ok(max_segment),
            _ => Err(unexpected()),
        }
    }

    fn resolve_host(&self, socket: &Socket, spec: &OutputSpec) -> Result<()> {
        self.line.done(&Request::SeekHost { lease: leased(socket)?, ifindex: spec.ifindex })
    }

    /// The supervisor keeps its rights.
    fn keep_spares(&self, _: usize) -> Result<()> {
        Ok(())
    }

    fn release_unclaimed(&self) -> Result<()> {
        self.line.done(&Request::Settled {})
    }
}

impl Line {
    fn done(&self, request: &Request) -> Result<()> {
        match self.ask(request)? {
            (Answer::Done {}, None) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    fn ask(&self, request: &Request) -> Result<(Answer, Option<OwnedFd>)> {
        let _alone = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let told = self.freed.give_back(&self.socket);
        let told = told.and_then(|()| send(&self.socket, request));
        let told = told.and_then(|()| receive(&self.socket));
        let (bytes, fd, lacks_fd) =
            told.map_err(|e| Error::Engine(format!("the supervisor does not answer ({e})")))?;
        match Answer::from_bytes(&bytes) {
            Some(Answer::Refused { why }) => Err(why.into()),
            Some(answer) if lacks_fd => Err(self.without_place(&answer)),
            Some(answer) => Ok((answer, fd)),
            None => Err(unexpected()),
        }
    }

    /// The socket was leased, and is lost on its way into a process that is full.
    fn without_place(&self, answer: &Answer) -> Error {
        if let Some(lease) = answer.lease() {
            self.return_lease(lease);
        }
        Error::os("taking over a socket", "a worker", descriptors_used_up())
    }
}

impl Lender for Line {
    fn return_lease(&self, id: u64) {
        self.freed.lock().leases.push(id);
        self.freed.changed.notify_one();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.freed.lock().is_over = true;
        self.freed.changed.notify_one();
    }
}

impl Freed {
    /// Waits until there are some; false when there will be no more.
    fn wait(&self) -> bool {
        let is_idle = |waiting: &mut ReturnQueue| waiting.leases.is_empty() && !waiting.is_over;
        let held = self.changed.wait_while(self.lock(), is_idle);
        !held.unwrap_or_else(PoisonError::into_inner).leases.is_empty()
    }

    /// Gives them back, many in one message. The lock is held until they are told, so that no
    /// question overtakes them.
    fn give_back(&self, socket: &OwnedFd) -> io::Result<()> {
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

/// The socket may have been made nonblocking.
fn wait(socket: &OwnedFd, until: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::new(socket.as_fd(), until)], PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The ring, and how many frames of it were lost.
fn map(socket: &Socket, shape: RingShape, has_history: bool) -> io::Result<(PacketRing, u64)> {
    if has_history {
        PacketRing::take_over(socket.as_fd(), shape)
    } else {
        PacketRing::map(socket.as_fd(), shape).map(|ring| (ring, 0))
    }
}

fn leased(socket: &Socket) -> Result<u64> {
    socket.lease().ok_or_else(|| Error::Invalid("a socket of this process itself".to_owned()))
}

/// A list that fits into a message.
fn listed(group: Addr, sources: &[Addr]) -> Result<Vec<Addr>> {
    if sources.len() > MAX_ITEMS {
        let text = format!("too many sources for {group}: at most {MAX_ITEMS} can be listed");
        return Err(Error::Invalid(text));
    }
    Ok(sources.to_vec())
}

fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn unexpected() -> Error {
    Error::Engine("the supervisor's answer is not one to the question".to_owned())
}
