//! The connected sockets that send copies. They are set up once for the life of an output; being
//! connected, a send need not name an address.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use libc::c_int;
use socket2::SockRef;

use super::socket::{self, set};
use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::spec::{Choice, OutputSpec, Ttl};
use crate::sys::{sockaddr, sockopt};
use options::Options;

mod options;

/// The requested send buffer in bytes; it is an output's only queue.
pub const SEND_BUFFER_BYTES: usize = 4 << 20;

/// The largest UDP payload in an IPv4 datagram; mcr uses it for both families.
const MAX_PAYLOAD: u16 = 65507;

/// The port to connect to for sockets that name their peer with each send. The kernel delivers what
/// its peer sends to a connected socket before any other on the same port, so an input on the port
/// that copies are sent from would lose those datagrams. Nothing sends UDP from this port (tcpmux,
/// TCP only in practice).
const SILENT_PORT: u16 = 1;

/// An open output.
#[derive(Debug)]
pub struct OutputSocket {
    /// The descriptor, nonblocking and connected: to the first address and port of a range, or to
    /// another port if [`OutputSpec::names_peer`]. If the source port is preserved it is a raw
    /// socket that takes complete headers, because a UDP socket has only one source port.
    pub fd: OwnedFd,
    /// The actual send buffer, in the unit of [`SEND_BUFFER_BYTES`].
    pub send_buffer_bytes: usize,
    /// The largest payload in bytes that the path takes without fragmentation.
    pub max_segment: u16,
}

/// Opens the socket of an output.
///
/// [`Error::Permission`] for a privileged source port, or a preserved source without the privilege;
/// [`Error::Os`] for a missing interface or source address, or a host without a route.
pub fn open(spec: &OutputSpec) -> Result<OutputSocket> {
    let mut socket = prepare(spec)?;
    socket.max_segment = reconnect(socket.fd.as_fd(), spec)?;
    Ok(socket)
}

/// Opens the socket of an output whose interface does not exist yet, and does everything that needs
/// a privilege. [`reconnect`] does the rest, possibly after the privilege has been dropped.
///
/// # Errors
/// [`Error::Permission`] for a preserved source without the privilege.
pub fn prepare(spec: &OutputSpec) -> Result<OutputSocket> {
    let target = spec.to_string();
    let family = socket::family(spec.address);
    let owned = if spec.has_own_headers() {
        socket::open_raw(family, &target)?
    } else {
        socket::open(family, libc::SOCK_DGRAM, &target)?
    };
    let fd = owned.as_fd();
    let options = options::of(spec.address);
    mark(fd, spec, options, &target)?;
    let send_buffer_bytes = socket::send_buffer(fd, SEND_BUFFER_BYTES, &target)?;
    // Replies to the copies are not used; without this they would fill a buffer.
    socket::drop_all(fd, &target)?;
    permit(fd, spec, options, &target)?;
    Ok(OutputSocket { fd: owned, send_buffer_bytes, max_segment: 0 })
}

/// Selects interface and source address again, after a change of the interface, its addresses or
/// the routes. The socket keeps its buffers and its source port, which may have needed privileges
/// that were dropped since. It is unconnected for a moment, in which a send fails (EDESTADDRREQ).
/// Returns the largest payload, as [`open`] does.
///
/// # Errors
/// As [`open`]; the socket is then unconnected.
pub fn reconnect(fd: BorrowedFd<'_>, spec: &OutputSpec) -> Result<u16> {
    let target = spec.to_string();
    let options = options::of(spec.address);
    let port = port_for(fd, spec, &target)?;
    // This also removes the binding to an interface.
    disconnect(fd, &target)?;
    let_queue_drain(fd);
    choose_interface(fd, spec, options, &target)?;
    if spec.has_own_headers() || local_port(fd) == 0 {
        match bind_to(fd, spec, port, &target) {
            // Another program has taken the port that the kernel chose before.
            Err(_) if spec.source_port == Choice::Kernel => bind_to(fd, spec, 0, &target)?,
            bound => bound?,
        }
    }
    connect(fd, spec)
}

/// The source port to bind to; 0 for none. The kernel keeps a port of its own choice only until the
/// socket is disconnected, but a requested one until it is closed. So let it choose first, and then
/// request its choice.
fn port_for(fd: BorrowedFd<'_>, spec: &OutputSpec, target: &str) -> Result<u16> {
    match spec.source_port {
        Choice::Chosen(port) => return Ok(port),
        Choice::Keep => return Ok(0),
        Choice::Kernel => {}
    }
    if local_port(fd) == 0 {
        socket::bind(fd, socket::endpoint(any(spec), 0, 0), target)?;
    }
    Ok(local_port(fd))
}

fn disconnect(fd: BorrowedFd<'_>, target: &str) -> Result<()> {
    sockaddr::disconnect(fd).map_err(|error| Error::os("disconnecting", target, error))
}

/// Gives earlier datagrams time to leave before later ones, without blocking: a queueing discipline
/// may sort by source address.
fn let_queue_drain(fd: BorrowedFd<'_>) {
    const PATIENCE: Duration = Duration::from_millis(1);
    let start = Instant::now();
    while socket::unsent(fd).is_ok_and(|bytes| bytes > 0) && start.elapsed() < PATIENCE {
        thread::yield_now();
    }
}

/// The largest payload that the path takes now, from the route's MTU. The kernel compares the
/// segment size of UDP_SEGMENT with the same number.
///
/// # Errors
/// The kernel's, such as ENOTCONN.
pub fn path_segment(fd: BorrowedFd<'_>, spec: &OutputSpec) -> Result<u16> {
    let mut mtu = 0_u32;
    let (level, name) = options::of(spec.address).mtu;
    sockopt::get(fd, level, name, &mut mtu)
        .map_err(|error| Error::os("reading the MTU", spec.to_string(), error))?;
    let payload = mtu.saturating_sub(spec.ip_headers().into());
    Ok(u16::try_from(payload).unwrap_or(MAX_PAYLOAD).min(MAX_PAYLOAD))
}

/// The source address and port of a connected socket.
#[must_use]
pub fn local_endpoint(fd: BorrowedFd<'_>) -> Option<(Addr, u16)> {
    local(fd).map(|local| (local.ip().into(), local.port()))
}

/// Selects the interface by index; multicast then needs no route and no address.
fn choose_interface(
    fd: BorrowedFd<'_>,
    spec: &OutputSpec,
    options: &Options,
    target: &str,
) -> Result<()> {
    if !spec.address.is_multicast() {
        set_ttl(fd, options.unicast_ttl, spec.ttl, target)?;
        // The kernel's guard is for programs that send broadcasts by mistake; a rule names its
        // address.
        let broadcast = (libc::SOL_SOCKET, libc::SO_BROADCAST);
        set(fd, broadcast, 1, "permitting broadcasts", target)?;
        if spec.ifindex != 0 {
            socket::bind_to_interface(fd, spec.ifindex, target)?;
        }
        return Ok(());
    }
    let index = c_int::try_from(spec.ifindex)
        .map_err(|_| Error::Invalid(format!("no interface has the index {}", spec.ifindex)))?;
    let any = libc::in_addr { s_addr: 0 };
    let chosen = if spec.address.is_v4() {
        let request = libc::ip_mreqn { imr_multiaddr: any, imr_address: any, imr_ifindex: index };
        sockopt::set(fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, request)
    } else {
        sockopt::set(fd, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, index)
    };
    chosen.map_err(|error| socket::refused("choosing the interface", target, error))?;
    set_ttl(fd, options.multicast_ttl, spec.ttl, target)?;
    set(fd, options.multicast_loop, spec.multicast_loop.into(), "setting multicast loop", target)
}

fn set_ttl(fd: BorrowedFd<'_>, option: (c_int, c_int), ttl: Ttl, target: &str) -> Result<()> {
    match ttl {
        Ttl::Set(hops) => set(fd, option, hops.into(), "setting the TTL", target),
        Ttl::Keep | Ttl::Decrement => Ok(()),
    }
}

/// Sets the header fields of every copy, and how losses are reported.
fn mark(fd: BorrowedFd<'_>, spec: &OutputSpec, options: &Options, target: &str) -> Result<()> {
    // The lower two bits of the traffic class are ECN, which is not the relay's to set.
    let class = c_int::from(spec.dscp.unwrap_or(0)) << 2;
    set(fd, options.traffic_class, class, "setting the DSCP", target)?;
    // Without it, a full queueing discipline loses datagrams although sends succeed.
    set(fd, options.errors, 1, "enabling error reports", target)?;
    if spec.address.is_v4() {
        // A datagram larger than the MTU leaves in fragments, as it arrived, instead of being
        // dropped.
        let discover = (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
        set(fd, discover, libc::IP_PMTUDISC_DONT, "allowing fragments", target)?;
    }
    // After the DSCP, because IPv4 derives a priority from it.
    if let Some(priority) = spec.priority {
        let name = (libc::SOL_SOCKET, libc::SO_PRIORITY);
        set(fd, name, priority.into(), "setting the priority", target)?;
    }
    Ok(())
}

/// Sets the options that the source needs. Outputs may share a source port with each other, with
/// outputs of other programs, and with inputs of this one.
fn permit(fd: BorrowedFd<'_>, spec: &OutputSpec, options: &Options, target: &str) -> Result<()> {
    if spec.source == Choice::Keep && !spec.has_own_headers() {
        set(fd, options.any_source, 1, "keeping the sender's address (source=keep)", target)?;
    }
    if let Choice::Chosen(_) = spec.source_port {
        socket::share_port(fd, target)?;
    }
    Ok(())
}

/// Binds the socket if the output specifies a source.
fn bind_to(fd: BorrowedFd<'_>, spec: &OutputSpec, port: u16, target: &str) -> Result<()> {
    let source = if let Choice::Chosen(source) = spec.source { source } else { any(spec) };
    if source == any(spec) && port == 0 {
        return Ok(());
    }
    socket::bind(fd, socket::endpoint(source, port, spec.ifindex), target)
}

/// Connects a socket to the peer that it would otherwise name with each send, for callers that only
/// send.
///
/// # Errors
/// The kernel's, if there is no route.
pub fn connect_to_peer(fd: BorrowedFd<'_>, spec: &OutputSpec) -> Result<()> {
    if spec.names_peer() { connect_port(fd, spec, spec.port) } else { Ok(()) }
}

/// Connects the socket; returns the largest payload.
fn connect(fd: BorrowedFd<'_>, spec: &OutputSpec) -> Result<u16> {
    let port = if spec.names_peer() { SILENT_PORT } else { spec.port };
    connect_port(fd, spec, port)?;
    path_segment(fd, spec)
}

fn connect_port(fd: BorrowedFd<'_>, spec: &OutputSpec, port: u16) -> Result<()> {
    let peer = socket::endpoint(spec.address, port, spec.ifindex);
    let connected = SockRef::from(&fd).connect(&peer.into());
    connected.map_err(|error| socket::refused("connecting", &spec.to_string(), no_route(error)))
}

/// Maps the errors of all routes that lead nowhere (ip-route(8)) to the same one. For a socket that
/// may send broadcasts, given an address of its own family, the kernel returns EACCES for
/// `prohibit` and EINVAL for `blackhole`.
fn no_route(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EINVAL) => io::Error::from_raw_os_error(libc::EHOSTUNREACH),
        _ => error,
    }
}

/// The unspecified address.
fn any(spec: &OutputSpec) -> Addr {
    if spec.address.is_v4() { Addr::v4([0; 4]) } else { Addr::v6([0; 16]) }
}

fn local_port(fd: BorrowedFd<'_>) -> u16 {
    local(fd).map_or(0, |local| local.port())
}

fn local(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    SockRef::from(&fd).local_addr().ok()?.as_socket()
}

#[cfg(test)]
mod tests;
