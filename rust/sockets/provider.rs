//! Who opens and sets up the sockets of a relay: this process ([`super::local`]), or another one
//! that has the rights for it. It must not know rules, nor what comes in or goes out.
//!
//! Whatever is asked for with a descriptor in hand, is asked of the opener that it came from.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::closer::Closer;
use super::{InterfaceRef, udp_input};
use crate::addr::Addr;
use crate::error::Result;
use crate::spec::OutputSpec;
use crate::sys::packet_ring::{PacketRing, RingShape};

/// Opens sockets, and does all to them that configures them; reading from them, sending and
/// asking for their counters is done by who has them. Errors are those of the module that opens
/// the kind of socket.
pub trait SocketProvider: Send + Sync {
    /// AF_PACKET sockets that queue frames ([`super::packet`]), as many as were asked for.
    ///
    /// # Errors
    /// A missing right, an interface that is gone, a limit.
    fn frames(&self, wish: &PacketSocketRequest<'_>) -> Result<Vec<PacketSocketHandle>>;

    /// Has it pass other destinations from now on.
    ///
    /// # Errors
    /// The kernel's; the filter before stays.
    fn replace_filter(&self, socket: &Socket, blocks: &[(Addr, u8)]) -> Result<()>;

    /// Makes its interface take all multicast, or no longer.
    ///
    /// # Errors
    /// An interface that is gone.
    fn take_all_multicast(
        &self,
        socket: &Socket,
        interface: &InterfaceRef<'_>,
        on: bool,
    ) -> Result<()>;

    /// Becomes a member of a group, by sockets that receive nothing ([`super::joins`]).
    ///
    /// # Errors
    /// What the kernel refuses, naming the sysctl where a limit is met.
    fn join(&self, interface: &InterfaceRef<'_>, group: Addr, sources: &[Addr]) -> Result<()>;

    /// Takes one [`SocketProvider::join`] back.
    fn leave(&self, ifindex: u32, group: Addr, sources: &[Addr]);

    /// Has the IPv4 memberships of the interface reported to its network again, without leaving
    /// anything ([`super::igmp_query`]).
    ///
    /// # Errors
    /// A missing right; [`SocketProvider::leave`] and [`SocketProvider::join`] in a row do nearly the same.
    fn announce(&self, interface: &InterfaceRef<'_>) -> Result<()>;

    /// What can make the kernel merge datagrams of a group and port ([`super::gro_helper`]).
    ///
    /// # Errors
    /// As there; without it all works, only slower.
    fn gro_helper(
        &self,
        group: Addr,
        port: u16,
        interface: &InterfaceRef<'_>,
    ) -> Result<HelperSocket>;

    /// The same wherever the group arrives ([`super::gro_helper::open_anywhere`]).
    ///
    /// # Errors
    /// As there; without it all works, only slower.
    fn gro_helper_anywhere(&self, group: Addr, port: u16) -> Result<HelperSocket>;

    /// The same for a port of any group; `None` when a program has it.
    ///
    /// # Errors
    /// A missing right.
    fn gro_helper_for_port(
        &self,
        v4: bool,
        port: u16,
        is_beside_own: bool,
    ) -> Result<Option<HelperSocket>>;

    /// Has the kernel merge what a helper is asked about, or no longer.
    ///
    /// # Errors
    /// The kernel's.
    fn merge(&self, helper: &HelperSocket, on: bool) -> Result<()>;

    /// What keeps the host from answering for a local port; `None` where nothing has to.
    ///
    /// # Errors
    /// A missing right.
    fn port_guard(
        &self,
        address: Addr,
        port: u16,
        interface: &InterfaceRef<'_>,
        is_beside_own: bool,
    ) -> Result<Option<HelperSocket>>;

    /// A socket of the `udp` ingress that tells TTL and traffic class ([`super::udp_input`]).
    ///
    /// # Errors
    /// A missing right, a port that is taken, an interface or address that is not there.
    fn datagrams(&self, wish: &udp_input::UdpInputRequest<'_>) -> Result<UdpInputHandle>;

    /// Makes such a socket a member of its group for these sources, or for any.
    ///
    /// # Errors
    /// What the kernel refuses, naming the sysctl where a limit is met.
    fn join_socket(
        &self,
        socket: &Socket,
        ifindex: u32,
        group: Addr,
        sources: &[Addr],
    ) -> Result<()>;

    /// Ends its membership for these sources, or altogether.
    fn leave_socket(&self, socket: &Socket, ifindex: u32, group: Addr, sources: &[Addr]);

    /// Turns its membership for any source into one for these, without a leave; there must be
    /// some.
    ///
    /// # Errors
    /// As [`SocketProvider::join_socket`]; it stays a membership for any source then.
    fn narrow_socket(
        &self,
        socket: &Socket,
        ifindex: u32,
        group: Addr,
        sources: &[Addr],
    ) -> Result<()>;

    /// A socket that copies leave by, connected ([`super::output`]).
    ///
    /// # Errors
    /// A missing right, an interface or address that is not there, a host without a route.
    fn output(&self, owner: &OutputOwner<'_>, spec: &OutputSpec) -> Result<OutputHandle>;

    /// The same with all that takes a right, but connected to nobody yet.
    ///
    /// # Errors
    /// A missing right.
    fn prepare_output(&self, owner: &OutputOwner<'_>, spec: &OutputSpec) -> Result<OutputHandle>;

    /// Has an output's socket follow its interface and addresses; says the largest payload.
    ///
    /// # Errors
    /// As [`SocketProvider::output`]; then the socket is connected to nobody.
    fn reconnect(&self, socket: &Socket, spec: &OutputSpec) -> Result<u16>;

    /// Has the kernel look for the host on the link that the copies of an output are handed to
    /// ([`super::netlink::routes::resolve_host`]).
    ///
    /// # Errors
    /// As there; the first copy does the same.
    fn resolve_host(&self, socket: &Socket, spec: &OutputSpec) -> Result<()>;

    /// Keeps sockets for interfaces that come when it is not permitted to open any.
    ///
    /// # Errors
    /// A missing right.
    fn keep_spares(&self, count: usize) -> Result<()>;

    /// All that is needed has been asked for: what a relay before this one had, and this one has
    /// not claimed, is closed.
    ///
    /// # Errors
    /// Nobody is there to do it.
    fn release_unclaimed(&self) -> Result<()>;
}

/// AF_PACKET sockets to be opened.
#[derive(Clone, Copy, Debug)]
pub struct PacketSocketRequest<'a> {
    /// Where the frames arrive.
    pub interface: InterfaceRef<'a>,
    /// The destinations that pass, as [`super::filter::destinations`] takes them.
    pub blocks: &'a [(Addr, u8)],
    /// How many of this process share the frames; each flow comes to one.
    pub sockets: u16,
    /// The packet ring that they are to lie in.
    pub ring: Option<RingShape>,
}

/// An AF_PACKET socket.
#[derive(Debug)]
pub struct PacketSocketHandle {
    /// The socket.
    pub socket: Socket,
    /// The receive buffer that it got, in bytes.
    pub receive_buffer_bytes: usize,
    /// Whether every frame has a `virtio_net_hdr` in front.
    pub vnet_hdr: bool,
    /// Where the frames lie, if in a ring.
    pub ring: Option<PacketRing>,
    /// Frames that the one who had the socket before had in hand when it died.
    pub lost_frames: u64,
}

/// A socket of the `udp` ingress.
#[derive(Debug)]
pub struct UdpInputHandle {
    /// The socket.
    pub socket: Socket,
    /// The receive buffer that it got, in bytes.
    pub receive_buffer_bytes: usize,
}

/// A socket of an output.
#[derive(Debug)]
pub struct OutputHandle {
    /// The socket.
    pub socket: Socket,
    /// The send buffer that it got, in bytes.
    pub send_buffer_bytes: usize,
    /// The largest payload that the path takes without fragments; 0 while it is not connected.
    pub max_segment: u16,
}

/// Whose an output is, the same for every relay that has the rule.
#[derive(Clone, Copy, Debug)]
pub struct OutputOwner<'a> {
    /// The rule's id.
    pub rule: &'a str,
    /// Which of the rule's outputs.
    pub number: u16,
}

/// A descriptor that this process uses, and may have to give back.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    lease: Option<Lease>,
    closer: Option<Closer>,
}

/// A socket that only has to be there, wherever it is open.
#[derive(Debug)]
pub struct HelperSocket {
    what: HelperLocation,
}

#[derive(Debug)]
enum HelperLocation {
    Here { fd: OwnedFd },
    There { lease: Lease },
}

impl HelperSocket {
    /// The socket, where it is open in this process.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.what {
            HelperLocation::Here { fd } => Some(fd.as_fd()),
            HelperLocation::There { .. } => None,
        }
    }

    /// The number of its lease, where it is open in another one.
    #[must_use]
    pub fn lease(&self) -> Option<u64> {
        match &self.what {
            HelperLocation::Here { .. } => None,
            HelperLocation::There { lease } => Some(lease.id),
        }
    }
}

/// The right to something that another process holds for this one; given back when dropped.
pub struct Lease {
    id: u64,
    lender: Arc<dyn Lender>,
}

/// Who gives leases.
pub trait Lender: Send + Sync {
    /// A lease is over. It must neither block nor fail: any thread may drop one.
    fn return_lease(&self, id: u64);
}

impl Socket {
    /// With the lease that it is held under.
    #[must_use]
    pub fn leased(fd: OwnedFd, lease: Lease) -> Self {
        Self { fd, lease: Some(lease), closer: None }
    }

    /// One that takes the kernel long to close.
    #[must_use]
    pub fn closed_by(fd: OwnedFd, closer: Closer) -> Self {
        Self { fd, lease: None, closer: Some(closer) }
    }

    /// The number of its lease, if it has one.
    #[must_use]
    pub fn lease(&self) -> Option<u64> {
        self.lease.as_ref().map(|lease| lease.id)
    }
}

impl Drop for Socket {
    /// Whoever closes the last descriptor waits for the kernel: another one does that.
    fn drop(&mut self) {
        if let Some(closer) = &self.closer
            && let Ok(last) = self.fd.try_clone()
        {
            closer.close(last);
        }
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Self { fd, lease: None, closer: None }
    }
}

impl AsFd for Socket {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for HelperSocket {
    fn from(fd: OwnedFd) -> Self {
        Self { what: HelperLocation::Here { fd } }
    }
}

impl From<Lease> for HelperSocket {
    fn from(lease: Lease) -> Self {
        Self { what: HelperLocation::There { lease } }
    }
}

impl Lease {
    /// The lease that `lender` knows by this number.
    #[must_use]
    pub fn new(id: u64, lender: Arc<dyn Lender>) -> Self {
        Self { id, lender }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.id)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.lender.return_lease(self.id);
    }
}
