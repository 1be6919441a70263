//! Opens the sockets of the traffic tools. It must not know datagrams.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU32;
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::pacing::SLICE;
use super::{Source, Target};
use crate::error::{Error, Result};
use crate::sys::sockopt;

/// Asked for as the receive buffer: a second of 250 Mbit/s, so that a pause of this process
/// does not look like loss.
const RECEIVE_BUFFER_BYTES: i32 = 32 << 20;

/// A socket that sends to `target` and waits, at most `SLICE` a call, while its buffer is full.
/// The buffer keeps the system's size, so that a sender waits here and does not overrun the
/// interface's queue.
pub(super) fn sender(target: &Target) -> Result<Socket> {
    let name = target.address.to_string();
    let socket = udp(target.address)?;
    let set = |call: &'static str, result: std::io::Result<()>| {
        result.map_err(|source| Error::os(call, name.clone(), source))
    };
    set("setting the TTL", set_ttl(&socket, target))?;
    set("setting the DSCP", set_dscp(&socket, target))?;
    if let Some(priority) = target.priority {
        set("setting the priority", socket.set_priority(priority))?;
    }
    set("choosing the interface", set_interface(&socket, target))?;
    set("waiting for room", socket.set_write_timeout(Some(SLICE)))?;
    // A full interface queue is reported as ENOBUFS only to those who ask (ip(7), IP_RECVERR).
    set("asking for errors", ask_for_errors(&socket, target.address))?;
    let local = SocketAddr::new(target.source.unwrap_or(any(target.address)), target.source_port);
    set("binding the source", socket.bind(&local.into()))?;
    set("connecting", socket.connect(&scoped(target.address, target.interface)))?;
    Ok(socket)
}

/// A socket that hears `source` and nothing else, and never waits.
pub(super) fn receiver(source: &Source) -> Result<Socket> {
    let name = SocketAddr::new(source.address, source.port).to_string();
    let address = SocketAddr::new(source.address, source.port);
    let socket = udp(address)?;
    let set = |call: &'static str, result: std::io::Result<()>| {
        result.map_err(|source| Error::os(call, name.clone(), source))
    };
    let fd = socket.as_fd();
    if sockopt::set(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES).is_err() {
        let asked = sockopt::set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER_BYTES);
        set("setting the receive buffer", asked)?;
    }
    let stamps = sockopt::set(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1);
    set("asking for timestamps", stamps)?;
    if source.gro {
        set("asking for merged datagrams", sockopt::set(fd, libc::SOL_UDP, libc::UDP_GRO, 1))?;
    }
    if source.address.is_multicast() {
        // Several listeners of a group on one host each get a copy.
        set("sharing the port", socket.set_reuse_address(true))?;
        set("limiting to own groups", hear_own_groups_only(&socket, source.address))?;
        set("binding", socket.bind(&scoped(address, source.interface)))?;
        join(&socket, source)?;
    } else {
        set("choosing the interface", bind_interface(&socket, source.address, source.interface))?;
        set("binding", socket.bind(&scoped(address, source.interface)))?;
    }
    Ok(socket)
}

fn udp(address: SocketAddr) -> Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))
        .map_err(|source| Error::os("opening a socket", address.to_string(), source))?;
    if address.is_ipv6() {
        socket
            .set_only_v6(true)
            .map_err(|source| Error::os("limiting to IPv6", address.to_string(), source))?;
    }
    Ok(socket)
}

fn any(address: SocketAddr) -> IpAddr {
    match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// IPv6 addresses of link scope mean something only together with an interface.
fn scoped(address: SocketAddr, interface: u32) -> SockAddr {
    match address {
        SocketAddr::V4(_) => address.into(),
        SocketAddr::V6(v6) => SocketAddrV6::new(*v6.ip(), v6.port(), 0, interface).into(),
    }
}

fn set_ttl(socket: &Socket, target: &Target) -> std::io::Result<()> {
    let ttl = u32::from(target.ttl);
    match (target.address.is_ipv4(), target.address.ip().is_multicast()) {
        (true, true) => socket.set_multicast_ttl_v4(ttl),
        (true, false) => socket.set_ttl_v4(ttl),
        (false, true) => socket.set_multicast_hops_v6(ttl),
        (false, false) => socket.set_unicast_hops_v6(ttl),
    }
}

fn set_dscp(socket: &Socket, target: &Target) -> std::io::Result<()> {
    // The DSCP is the upper six bits of the byte (RFC 2474).
    let byte = u32::from(target.dscp) << 2;
    match target.address {
        SocketAddr::V4(_) => socket.set_tos_v4(byte),
        SocketAddr::V6(_) => socket.set_tclass_v6(byte),
    }
}

fn set_interface(socket: &Socket, target: &Target) -> std::io::Result<()> {
    if !target.address.ip().is_multicast() {
        return bind_interface(socket, target.address.ip(), target.interface);
    }
    match target.address {
        SocketAddr::V4(_) => {
            let any = libc::in_addr { s_addr: 0 };
            let index = libc::c_int::try_from(target.interface).map_err(std::io::Error::other)?;
            let request = libc::ip_mreqn { imr_multiaddr: any, imr_address: any, imr_ifindex: index };
            sockopt::set(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MULTICAST_IF, request)?;
            socket.set_multicast_loop_v4(target.loopback)
        }
        SocketAddr::V6(_) => {
            socket.set_multicast_if_v6(target.interface)?;
            socket.set_multicast_loop_v6(target.loopback)
        }
    }
}

fn bind_interface(socket: &Socket, address: IpAddr, interface: u32) -> std::io::Result<()> {
    match (NonZeroU32::new(interface), address) {
        (None, _) => Ok(()),
        (index, IpAddr::V4(_)) => socket.bind_device_by_index_v4(index),
        (index, IpAddr::V6(_)) => socket.bind_device_by_index_v6(index),
    }
}

fn ask_for_errors(socket: &Socket, address: SocketAddr) -> std::io::Result<()> {
    let (level, name) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    sockopt::set(socket.as_fd(), level, name, 1)
}

fn hear_own_groups_only(socket: &Socket, group: IpAddr) -> std::io::Result<()> {
    match group {
        IpAddr::V4(_) => socket.set_multicast_all_v4(false),
        IpAddr::V6(_) => socket.set_multicast_all_v6(false),
    }
}
