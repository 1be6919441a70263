//! The interface for opening and setting up a relay's sockets, implemented by this process
//! ([`super::local`]) or by another one that has the privileges.
//!
//! Calls that take a socket go to the provider that opened it.

mod lease;

use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use lease::{HelperSocket, Lease, Lender, Socket};

use super::filter::Pin;
use super::netlink::netfilter::Direction;
use super::xdp::hooks::HostHooks;
use super::xdp::obstacle::XdpObstacle;
use super::{InterfaceRef, udp_input};
use crate::addr::Addr;
use crate::error::Result;
use crate::spec::OutputSpec;
use crate::sys::packet_ring::{PacketRing, RingShape};
use crate::sys::xdp_socket::XdpShape;

/// Opens sockets and configures them; their owner reads, sends and queries the counters. Errors are
/// those of the module for the kind of socket.
pub trait SocketProvider: Send + Sync {
    /// Opens AF_PACKET sockets that queue frames ([`super::packet`]), as many as requested.
    ///
    /// # Errors
    /// A missing privilege, a missing interface, a limit.
    fn frames(&self, request: &PacketSocketRequest<'_>) -> Result<Vec<PacketSocketHandle>>;

    /// Makes the socket pass other destinations from now on.
    ///
    /// # Errors
    /// The kernel's; the previous filter stays.
    fn replace_filter(&self, socket: &Socket, blocks: &[(Addr, u8)]) -> Result<()>;

    /// Decides which socket of its group gets the datagrams for these destinations
    /// ([`super::packet::pin`]).
    ///
    /// # Errors
    /// As there; all go where they went before.
    fn pin(&self, socket: &Socket, pins: &[Pin]) -> Result<()>;

    /// Makes the socket's interface receive all multicast, or stops that.
    ///
    /// # Errors
    /// The interface is gone.
    fn take_all_multicast(
        &self,
        socket: &Socket,
        interface: &InterfaceRef<'_>,
        on: bool,
    ) -> Result<()>;

    /// Joins a group, on sockets that receive nothing ([`super::joins`]).
    ///
    /// # Errors
    /// The kernel's, naming the sysctl if a limit is reached.
    fn join(&self, interface: &InterfaceRef<'_>, group: Addr, sources: &[Addr]) -> Result<()>;

    /// Reverts one [`SocketProvider::join`].
    fn leave(&self, ifindex: u32, group: Addr, sources: &[Addr]);

    /// Makes the kernel report the IPv4 memberships of the interface again, without leaving any
    /// group ([`super::igmp_query`]).
    ///
    /// # Errors
    /// A missing privilege; [`SocketProvider::leave`] followed by [`SocketProvider::join`] has
    /// nearly the same effect.
    fn announce(&self, interface: &InterfaceRef<'_>) -> Result<()>;

    /// Opens a socket that can make the kernel merge datagrams of a group and port
    /// ([`super::gro_helper`]).
    ///
    /// # Errors
    /// As there; everything works without it, only slower.
    fn gro_helper(
        &self,
        group: Addr,
        port: u16,
        interface: &InterfaceRef<'_>,
    ) -> Result<HelperSocket>;

    /// The same for any interface the group arrives on ([`super::gro_helper::open_anywhere`]).
    ///
    /// # Errors
    /// As there; everything works without it, only slower.
    fn gro_helper_anywhere(&self, group: Addr, port: u16) -> Result<HelperSocket>;

    /// The same for a port of any group; `None` if a program has the port.
    ///
    /// # Errors
    /// A missing privilege.
    fn gro_helper_for_port(
        &self,
        v4: bool,
        port: u16,
        is_beside_own: bool,
    ) -> Result<Option<HelperSocket>>;

    /// Switches merging for the flow of a helper on or off.
    ///
    /// # Errors
    /// The kernel refuses the option.
    fn merge(&self, helper: &HelperSocket, on: bool) -> Result<()>;

    /// Opens a socket that keeps the host from answering for a local port; `None` if none is
    /// needed.
    ///
    /// # Errors
    /// A missing privilege.
    fn port_guard(
        &self,
        address: Addr,
        port: u16,
        interface: &InterfaceRef<'_>,
        is_beside_own: bool,
    ) -> Result<Option<HelperSocket>>;

    /// Opens a socket of the `udp` ingress that reports TTL and traffic class
    /// ([`super::udp_input`]).
    ///
    /// # Errors
    /// A missing privilege, a port in use, a missing interface or address.
    fn datagrams(&self, request: &udp_input::UdpInputRequest<'_>) -> Result<UdpInputHandle>;

    /// Joins the group of such a socket for `sources`, or for any source if there are none.
    ///
    /// # Errors
    /// The kernel's, naming the sysctl if a limit is reached.
    fn join_socket(
        &self,
        socket: &Socket,
        ifindex: u32,
        group: Addr,
        sources: &[Addr],
    ) -> Result<()>;

    /// Ends its membership for `sources`, or for all if there are none.
    fn leave_socket(&self, socket: &Socket, ifindex: u32, group: Addr, sources: &[Addr]);

    /// Changes its membership for any source into one for `sources`, which must not be empty,
    /// without leaving the group.
    ///
    /// # Errors
    /// As [`SocketProvider::join_socket`]; the membership then stays one for any source.
    fn narrow_socket(
        &self,
        socket: &Socket,
        ifindex: u32,
        group: Addr,
        sources: &[Addr],
    ) -> Result<()>;

    /// Opens a connected socket that sends copies ([`super::output`]). `key` is that of the output
    /// ([`crate::spec::RuleSpec::output_keys`]).
    ///
    /// # Errors
    /// A missing privilege, a missing interface or address, a host without a route.
    fn output(&self, key: u64, spec: &OutputSpec) -> Result<OutputHandle>;

    /// Does everything of [`SocketProvider::output`] that needs a privilege, without connecting.
    ///
    /// # Errors
    /// A missing privilege.
    fn prepare_output(&self, key: u64, spec: &OutputSpec) -> Result<OutputHandle>;

    /// Connects an output's socket again after a change of its interface or addresses; returns the
    /// largest payload.
    ///
    /// # Errors
    /// As [`SocketProvider::output`]; the socket is then unconnected.
    fn reconnect(&self, socket: &Socket, spec: &OutputSpec) -> Result<u16>;

    /// Makes the kernel resolve the host on the link that an output's copies are handed to
    /// ([`super::netlink::routes::resolve_host`]).
    ///
    /// # Errors
    /// As there; otherwise the first copy starts the resolution.
    fn resolve_host(&self, socket: &Socket, spec: &OutputSpec) -> Result<()>;

    /// What this host does to the datagrams of its sockets on an interface, and would not do to
    /// frames of XDP ([`super::xdp::hooks`]).
    fn hooks(&self, interface: &InterfaceRef<'_>, of: Direction) -> HostHooks;

    /// Opens a socket that sends frames on a queue of an interface ([`super::xdp`]). If the queue
    /// is in use, waits a tenth of a second for it.
    ///
    /// # Errors
    /// What is in the way.
    fn xdp_link(
        &self,
        request: &XdpLinkRequest<'_>,
    ) -> std::result::Result<XdpLinkHandle, XdpObstacle>;

    /// Announces calls that follow in this order, until [`SocketProvider::forget_expected`]. A
    /// provider in another process works on them in advance; one that is not made is undone.
    fn expect(&self, _calls: &mut dyn Iterator<Item = ExpectedCall>) {}

    /// Ends what [`SocketProvider::expect`] has begun.
    fn forget_expected(&self) {}

    /// Keeps sockets for interfaces that appear when no more can be opened.
    ///
    /// # Errors
    /// A missing privilege.
    fn keep_spares(&self, count: usize) -> Result<()>;

    /// Signals that everything needed was requested: sockets of a previous relay that this one has
    /// not claimed are closed.
    ///
    /// # Errors
    /// The provider is gone.
    fn release_unclaimed(&self) -> Result<()>;
}

/// A call of a [`SocketProvider`] that will follow. Interfaces are an index and a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExpectedCall {
    /// [`SocketProvider::output`].
    Output {
        /// As there.
        key: u64,
        /// As there.
        spec: OutputSpec,
    },
    /// [`SocketProvider::join`].
    Join {
        /// As there.
        interface: (u32, String),
        /// As there.
        group: Addr,
        /// As there.
        sources: Box<[Addr]>,
    },
    /// [`SocketProvider::gro_helper`].
    GroHelper {
        /// As there.
        interface: (u32, String),
        /// As there.
        group: Addr,
        /// As there.
        port: u16,
    },
    /// [`SocketProvider::datagrams`], for a group.
    Datagrams {
        /// As there.
        interface: (u32, String),
        /// As there.
        group: Addr,
        /// As there.
        port: u16,
    },
}

/// A request for AF_PACKET sockets.
#[derive(Clone, Copy, Debug)]
pub struct PacketSocketRequest<'a> {
    /// The interface on which the frames arrive.
    pub interface: InterfaceRef<'a>,
    /// The destinations to pass, as for [`super::filter::destinations`].
    pub blocks: &'a [(Addr, u8)],
    /// How many sockets of this process share the frames; each flow goes to one.
    pub sockets: u16,
    /// The packet ring to set up.
    pub ring: Option<RingShape>,
}

/// An AF_PACKET socket.
#[derive(Debug)]
pub struct PacketSocketHandle {
    /// The descriptor and its owner.
    pub socket: Socket,
    /// The actual receive buffer in bytes.
    pub receive_buffer_bytes: usize,
    /// Whether every frame has a `virtio_net_hdr` in front.
    pub vnet_hdr: bool,
    /// The mapped ring, if the socket has one.
    pub ring: Option<PacketRing>,
    /// Frames that the socket's previous owner had claimed when it died.
    pub lost_frames: u64,
}

/// A socket of the `udp` ingress.
#[derive(Debug)]
pub struct UdpInputHandle {
    /// The socket.
    pub socket: Socket,
    /// The actual receive buffer in bytes.
    pub receive_buffer_bytes: usize,
}

/// A socket of an output.
#[derive(Debug)]
pub struct OutputHandle {
    /// The socket.
    pub socket: Socket,
    /// The actual send buffer in bytes.
    pub send_buffer_bytes: usize,
    /// The largest payload in bytes that the path takes without fragmentation; 0 while unconnected.
    pub max_segment: u16,
}

/// A request for an XDP link.
#[derive(Clone, Copy, Debug)]
pub struct XdpLinkRequest<'a> {
    /// The interface that sends the frames.
    pub interface: InterfaceRef<'a>,
    /// The number of the transmit queue, counted from 0: each worker has its own.
    pub queue: u32,
}

/// An XDP link, to be mapped by [`crate::sys::xdp_socket::XdpSender`].
#[derive(Debug)]
pub struct XdpLinkHandle {
    /// The AF_XDP socket.
    pub socket: Arc<Socket>,
    /// The memory of its frames.
    pub umem: Arc<OwnedFd>,
    /// The shape of the memory and the rings.
    pub shape: XdpShape,
}
