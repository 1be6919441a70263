//! The worker's side of the broker: a [`SocketProvider`] that requests every socket from the
//! supervisor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::line::{Line, unexpected};
use super::messages::{Answer, InterfaceId, Request};
use super::wire::MAX_ITEMS;
use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::sockets::filter::Pin;
use crate::sockets::netlink::netfilter::Direction;
use crate::sockets::provider::{
    ExpectedCall, HelperSocket, Lease, OutputHandle, PacketSocketHandle, PacketSocketRequest,
    Socket, SocketProvider, UdpInputHandle, XdpLinkHandle, XdpLinkRequest,
};
use crate::sockets::xdp::hooks::HostHooks;
use crate::sockets::xdp::link;
use crate::sockets::xdp::obstacle::XdpObstacle;
use crate::sockets::{InterfaceRef, filter, udp_input};
use crate::spec::OutputSpec;
use crate::sys::packet_ring::{PacketRing, RingShape};

/// Requests sockets from the supervisor.
pub struct BrokerClient {
    line: Arc<Line>,
}

impl BrokerClient {
    /// Sends a hello on a SOCK_SEQPACKET socket whose other end the supervisor serves.
    ///
    /// # Errors
    /// The supervisor does not answer or uses another protocol; no thread can be started.
    pub fn new(socket: OwnedFd) -> Result<Self> {
        Ok(Self { line: Line::connect(socket)? })
    }

    /// What the relay in the kernel needs, requested on the same connection.
    #[cfg(feature = "offload")]
    #[must_use]
    pub fn kernel(&self) -> super::KernelClient {
        super::KernelClient::new(self.line.clone())
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

    fn request_output(&self, key: u64, spec: &OutputSpec, connect: bool) -> Result<OutputHandle> {
        let request = Request::Output { key, is_connected: connect, spec: spec.clone() };
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

impl BrokerClient {
    pub(super) fn request_link(
        &self,
        wanted: &XdpLinkRequest<'_>,
    ) -> std::result::Result<XdpLinkHandle, XdpObstacle> {
        let refused = |error: Error| match error {
            Error::Os { source, .. } if source.raw_os_error() == Some(libc::ENODEV) => {
                XdpObstacle::Removed
            }
            other => XdpObstacle::Refused(other.to_string()),
        };
        let request =
            Request::XdpLink { interface: (&wanted.interface).into(), queue: wanted.queue };
        let (answer, fd) = self.line.request(&request).map_err(refused)?;
        let (lease, shape) = match answer {
            Answer::XdpLink { lease, shape } => (lease, shape),
            Answer::NoXdpLink { why } => return Err(why),
            _ => return Err(refused(unexpected())),
        };
        let socket = self.socket(lease, fd).map_err(refused)?;
        // Without the memory the socket is dropped, and with it the lease.
        match self.line.request(&Request::XdpMemory { lease }).map_err(refused)? {
            (Answer::XdpMemory { .. }, Some(umem)) => {
                Ok(XdpLinkHandle { socket: Arc::new(socket), umem: Arc::new(umem), shape })
            }
            _ => Err(refused(unexpected())),
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

    fn pin(&self, socket: &Socket, pins: &[Pin]) -> Result<()> {
        let pins = pins.to_vec();
        self.line.execute(&Request::Pin { lease: leased(socket)?, pins })
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
        match self.line.request(&datagrams(wanted))? {
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

    fn output(&self, key: u64, spec: &OutputSpec) -> Result<OutputHandle> {
        self.request_output(key, spec, true)
    }

    fn prepare_output(&self, key: u64, spec: &OutputSpec) -> Result<OutputHandle> {
        self.request_output(key, spec, false)
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

    fn hooks(&self, interface: &InterfaceRef<'_>, of: Direction) -> HostHooks {
        match self.line.request(&Request::Hooks { interface: interface.into(), of }) {
            Ok((Answer::Hooks { v4, v6 }, None)) => HostHooks { v4, v6 },
            Ok(_) => HostHooks::unreadable(unexpected()),
            Err(error) => HostHooks::unreadable(error),
        }
    }

    fn xdp_link(
        &self,
        wanted: &XdpLinkRequest<'_>,
    ) -> std::result::Result<XdpLinkHandle, XdpObstacle> {
        link::until_free(|| self.request_link(wanted))
    }

    /// Nothing to do: the supervisor keeps its privileges.
    fn keep_spares(&self, _: usize) -> Result<()> {
        Ok(())
    }

    fn expect(&self, calls: &mut dyn Iterator<Item = ExpectedCall>) {
        self.line.expect(calls.map(|call| match call {
            ExpectedCall::Output { key, spec } => Request::Output { key, is_connected: true, spec },
            ExpectedCall::Join { interface: (index, name), group, sources } => {
                let sources = sources.into_vec();
                Request::Join { interface: InterfaceId { index, name }, group, sources }
            }
            ExpectedCall::GroHelper { interface: (index, name), group, port } => {
                Request::GroHelper { interface: InterfaceId { index, name }, group, port }
            }
            ExpectedCall::Datagrams { interface: (index, name), group, port } => {
                let interface = InterfaceRef { index, name: &name };
                datagrams(&udp_input::UdpInputRequest::on(interface, group, port))
            }
        }));
    }

    fn forget_expected(&self) {
        self.line.forget_expected();
    }

    fn release_unclaimed(&self) -> Result<()> {
        self.line.execute(&Request::ReleaseUnclaimed {})
    }
}

fn datagrams(wanted: &udp_input::UdpInputRequest<'_>) -> Request {
    Request::Datagrams {
        interface: (&wanted.interface).into(),
        group: wanted.group,
        is_broadcast: wanted.is_broadcast,
        is_everywhere: wanted.is_everywhere,
        is_beside_own: wanted.is_beside_own,
        port: wanted.port,
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
