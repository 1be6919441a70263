//! The sockets that copies leave by: connected, so that a send names no address, and set up
//! once for the life of the output. It must not know what is sent.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::c_int;
use socket2::SockRef;

use super::socket::{self, set};
use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::sys::sockopt;

/// The send buffer that is asked for, in bytes: an output's only queue.
pub const SEND_BUFFER_BYTES: usize = 4 << 20;

/// The largest UDP payload in an IPv4 datagram; mcr uses it for both families.
const MAX_PAYLOAD: u16 = 65507;

/// Where copies go, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutputSpec {
    /// The group or host.
    pub address: Addr,
    /// The UDP port.
    pub port: u16,
    /// The interface's index; 0 for a host that is reached by routing.
    pub ifindex: u32,
    /// The interface's name, for messages; empty by routing.
    pub interface: String,
    /// TTL or hop limit, 1 to 255.
    pub ttl: u8,
    /// The DiffServ code point (RFC 2474), 0 to 63.
    pub dscp: u8,
    /// The source address, one of this host's; the kernel chooses without.
    pub source: Option<Addr>,
    /// The source port; the kernel chooses without, once for the output's life.
    pub source_port: Option<u16>,
    /// Whether members on this host get the copies too.
    pub multicast_loop: bool,
    /// The kernel's priority for queueing, 0 to 6.
    pub priority: Option<u8>,
}

/// An open output.
#[derive(Debug)]
pub struct OutputSocket {
    /// The descriptor, nonblocking and connected.
    pub fd: OwnedFd,
    /// The send buffer that it got, in the unit of [`SEND_BUFFER_BYTES`].
    pub send_buffer_bytes: usize,
    /// The largest payload that the path takes without fragments.
    pub max_segment: u16,
}

/// Opens the socket of an output.
///
/// # Errors
/// [`Error::Permission`] for a source port that needs a right; [`Error::Os`] for an interface
/// or source address that is not there, or a host without a route.
pub fn open(spec: &OutputSpec) -> Result<OutputSocket> {
    let target = spec.to_string();
    let owned = socket::open(socket::family(spec.address), libc::SOCK_DGRAM, &target)?;
    let fd = owned.as_fd();
    let options = if spec.address.is_v4() { &V4 } else { &V6 };
    choose_interface(fd, spec, options, &target)?;
    mark(fd, spec, options, &target)?;
    let send_buffer_bytes = socket::send_buffer(fd, SEND_BUFFER_BYTES, &target)?;
    // What the other side sends back is nobody's; without this it would fill a buffer.
    socket::drop_all(fd, &target)?;
    bind(fd, spec, &target)?;
    let peer = socket::endpoint(spec.address, spec.port, spec.ifindex);
    SockRef::from(&fd)
        .connect(&peer.into())
        .map_err(|error| socket::refused("connecting", &target, error))?;
    let max_segment = max_segment(fd, options, &target)?;
    Ok(OutputSocket { fd: owned, send_buffer_bytes, max_segment })
}

impl std::fmt::Display for OutputSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.address.is_v4(), self.interface.as_str()) {
            (true, "") => write!(f, "{}:{}", self.address, self.port),
            (false, "") => write!(f, "[{}]:{}", self.address, self.port),
            (_, interface) => write!(f, "{}%{interface}:{}", self.address, self.port),
        }
    }
}

/// The options of one family that mean the same in both.
struct Options {
    unicast_ttl: (c_int, c_int),
    multicast_ttl: (c_int, c_int),
    multicast_loop: (c_int, c_int),
    traffic_class: (c_int, c_int),
    errors: (c_int, c_int),
    mtu: (c_int, c_int),
    /// Bytes of the IP and UDP headers.
    headers: u32,
}

const V4: Options = Options {
    unicast_ttl: (libc::IPPROTO_IP, libc::IP_TTL),
    multicast_ttl: (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
    multicast_loop: (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP),
    traffic_class: (libc::IPPROTO_IP, libc::IP_TOS),
    errors: (libc::IPPROTO_IP, libc::IP_RECVERR),
    mtu: (libc::IPPROTO_IP, libc::IP_MTU),
    headers: 28,
};

const V6: Options = Options {
    unicast_ttl: (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    multicast_ttl: (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS),
    multicast_loop: (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP),
    traffic_class: (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    errors: (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    mtu: (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    headers: 48,
};

/// Pins the interface, by index: no route and no address is needed for multicast.
fn choose_interface(
    fd: BorrowedFd<'_>,
    spec: &OutputSpec,
    options: &Options,
    target: &str,
) -> Result<()> {
    if !spec.address.is_multicast() {
        set(fd, options.unicast_ttl, spec.ttl.into(), "setting the TTL", target)?;
        // The kernel's guard is for programs that do not mean it: a rule names its address.
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
    set(fd, options.multicast_ttl, spec.ttl.into(), "setting the TTL", target)?;
    set(fd, options.multicast_loop, spec.multicast_loop.into(), "setting the loop", target)
}

/// Sets what every copy carries, and how its losses are told.
fn mark(fd: BorrowedFd<'_>, spec: &OutputSpec, options: &Options, target: &str) -> Result<()> {
    // The lower two bits of the traffic class are ECN, which is not the relay's to set.
    let class = c_int::from(spec.dscp) << 2;
    set(fd, options.traffic_class, class, "setting the DSCP", target)?;
    // Without it a full queueing discipline loses datagrams and the send reports success.
    set(fd, options.errors, 1, "asking for errors", target)?;
    if spec.address.is_v4() {
        // A datagram over the MTU leaves in fragments, as it came, rather than not at all.
        let discover = (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
        set(fd, discover, libc::IP_PMTUDISC_DONT, "allowing fragments", target)?;
    }
    // After the DSCP, from which IPv4 derives a priority of its own.
    if let Some(priority) = spec.priority {
        let name = (libc::SOL_SOCKET, libc::SO_PRIORITY);
        set(fd, name, priority.into(), "setting the priority", target)?;
    }
    Ok(())
}

/// Binds where a source is asked for. Outputs to different places may share a source port: they
/// are told apart by where they are connected to.
fn bind(fd: BorrowedFd<'_>, spec: &OutputSpec, target: &str) -> Result<()> {
    if spec.source.is_none() && spec.source_port.is_none() {
        return Ok(());
    }
    if spec.source_port.is_some() {
        let name = (libc::SOL_SOCKET, libc::SO_REUSEADDR);
        set(fd, name, 1, "sharing the source port", target)?;
    }
    let any = if spec.address.is_v4() { Addr::v4([0; 4]) } else { Addr::v6([0; 16]) };
    let source = spec.source.unwrap_or(any);
    let from = socket::endpoint(source, spec.source_port.unwrap_or(0), spec.ifindex);
    socket::bind(fd, from, target)
}

/// What the route's MTU leaves for the payload. It is the number that the kernel compares the
/// segments of UDP_SEGMENT with.
fn max_segment(fd: BorrowedFd<'_>, options: &Options, target: &str) -> Result<u16> {
    let mut mtu = 0_u32;
    let (level, name) = options.mtu;
    sockopt::get(fd, level, name, &mut mtu)
        .map_err(|error| Error::os("reading the MTU", target, error))?;
    let payload = mtu.saturating_sub(options.headers);
    Ok(u16::try_from(payload).unwrap_or(MAX_PAYLOAD).min(MAX_PAYLOAD))
}

#[cfg(test)]
mod tests;
