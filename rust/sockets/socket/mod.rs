//! Shared basics of all sockets: creation, forced buffer sizes, scoped addresses, and error texts
//! for refusals of the kernel.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::c_int;
use nix::sys::resource::{Resource, getrlimit};
use socket2::{Protocol, SockRef, Socket, Type};

use crate::addr::Addr;
use crate::error::{Error, MissingRight, Result};
use crate::sys::sockopt;

/// Opens a socket, nonblocking and close-on-exec, with protocol 0. `target` names its purpose in
/// messages.
///
/// # Errors
/// [`Error::Permission`] naming CAP_NET_RAW for AF_PACKET; [`Error::Os`] otherwise.
pub(crate) fn open(family: c_int, kind: c_int, target: &str) -> Result<OwnedFd> {
    open_protocol(family, kind, None, target)
}

/// The number of the calling thread's network namespace, which no other one has until the next boot.
///
/// # Errors
/// No descriptor is left; the kernel has no such numbers (before Linux 5.14).
pub(crate) fn namespace_cookie() -> Result<u64> {
    const TARGET: &str = "the network namespace";
    let socket = open(libc::AF_INET, libc::SOCK_DGRAM, TARGET)?;
    let mut words = [0_u32; 2];
    sockopt::get(socket.as_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, &mut words)
        .map_err(|e| Error::os("reading the cookie", TARGET, e))?;
    let [low, high] = words.map(u32::to_ne_bytes);
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&low);
    bytes[4..].copy_from_slice(&high);
    Ok(u64::from_ne_bytes(bytes))
}

/// Opens a socket that sends complete IP packets, headers included, and receives nothing.
///
/// # Errors
/// [`Error::Permission`] naming CAP_NET_RAW; [`Error::Os`] otherwise.
pub(crate) fn open_raw(family: c_int, target: &str) -> Result<OwnedFd> {
    open_protocol(family, libc::SOCK_RAW, Some(libc::IPPROTO_RAW.into()), target)
}

/// Opens a socket of a netlink(7) protocol.
///
/// # Errors
/// EPROTONOSUPPORT if the kernel does not have the protocol.
pub(crate) fn open_netlink(protocol: c_int, target: &str) -> Result<OwnedFd> {
    open_protocol(libc::AF_NETLINK, libc::SOCK_RAW, Some(protocol.into()), target)
}

fn open_protocol(
    family: c_int,
    kind: c_int,
    protocol: Option<Protocol>,
    target: &str,
) -> Result<OwnedFd> {
    let socket = Socket::new_raw(family.into(), Type::from(kind).nonblocking().cloexec(), protocol);
    socket.map(OwnedFd::from).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if family == libc::AF_PACKET => lacks_net_raw(
            "CAP_NET_RAW is missing: the ingress packet needs it".to_owned(),
            "use --ingress udp",
        ),
        Some(libc::EPERM | libc::EACCES) if protocol.is_some() => lacks_net_raw(
            format!(
                "CAP_NET_RAW is missing: keeping the sender's port (sport=keep) on {target} needs it"
            ),
            "leave it out",
        ),
        Some(libc::EMFILE) => Error::os("opening a socket", target, descriptors_used_up()),
        Some(libc::ENFILE) => Error::os(
            "opening a socket",
            target,
            io::Error::other("the host has reached its limit of open files; raise fs.file-max"),
        ),
        _ => Error::os("opening a socket", target, error),
    })
}

fn lacks_net_raw(sentence: String, alternative: &'static str) -> Error {
    Error::Permission(MissingRight::of("CAP_NET_RAW", sentence, Some(alternative)))
}

/// The address family constant.
pub(crate) fn family(address: Addr) -> c_int {
    if address.is_v4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// The address with a port, and with the interface if its IPv6 scope requires one (RFC 4007).
pub(crate) fn endpoint(address: Addr, port: u16, ifindex: u32) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
        IpAddr::V6(ip) => {
            SocketAddrV6::new(ip, port, 0, if needs_interface(address) { ifindex } else { 0 })
                .into()
        }
    }
}

/// Whether the address is ambiguous without an interface: link-local IPv6 unicast, and IPv6
/// multicast of interface-local and link-local scope.
pub(crate) fn needs_interface(address: Addr) -> bool {
    let IpAddr::V6(ip) = address.ip() else { return false };
    let [a, b, ..] = ip.octets();
    ip.is_unicast_link_local() || (a == 0xff && matches!(b & 0x0f, 1 | 2))
}

/// Sets an integer option; `call` names it in the message.
pub(crate) fn set(
    fd: BorrowedFd<'_>,
    (level, name): (c_int, c_int),
    value: c_int,
    call: &'static str,
    target: &str,
) -> Result<()> {
    sockopt::set(fd, level, name, value).map_err(|error| refused(call, target, error))
}

/// Binds the socket to one interface.
///
/// # Errors
/// ENODEV if the interface is gone.
pub(crate) fn bind_to_interface(fd: BorrowedFd<'_>, ifindex: u32, target: &str) -> Result<()> {
    sockopt::set(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, ifindex)
        .map_err(|error| refused("binding to the interface", target, error))
}

/// Binds to an address and port.
///
/// # Errors
/// [`Error::Permission`] naming CAP_NET_BIND_SERVICE for a port below 1024.
pub(crate) fn bind(fd: BorrowedFd<'_>, address: SocketAddr, target: &str) -> Result<()> {
    SockRef::from(&fd).bind(&address.into()).map_err(|error| {
        if error.raw_os_error() == Some(libc::EACCES) {
            let sentence = format!(
                "CAP_NET_BIND_SERVICE is missing: port {} needs it (net.ipv4.ip_unprivileged_port_start)",
                address.port()
            );
            return Error::Permission(MissingRight::of("CAP_NET_BIND_SERVICE", sentence, None));
        }
        match address.port() {
            0 => refused("binding", target, error),
            port => refused("binding", &format!("{target}, port {port}"), error),
        }
    })
}

/// Lets several sockets bind to one group and port, each receiving only groups it has joined.
pub(crate) fn share_group(fd: BorrowedFd<'_>, group: Addr, target: &str) -> Result<()> {
    set(fd, (libc::SOL_SOCKET, libc::SO_REUSEADDR), 1, "sharing the group", target)?;
    let all = if group.is_v4() {
        (libc::IPPROTO_IP, libc::IP_MULTICAST_ALL)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_ALL)
    };
    set(fd, all, 0, "limiting reception to joined groups", target)
}

/// Lets other sockets that also call this function bind to the same address and port. With
/// SO_REUSEPORT instead, the kernel may choose the first match over one that is bound to the
/// interface (`udp6_lib_lookup2`).
pub(crate) fn share_port(fd: BorrowedFd<'_>, target: &str) -> Result<()> {
    set(fd, (libc::SOL_SOCKET, libc::SO_REUSEADDR), 1, "sharing the port", target)
}

/// Binds a socket to an address of this host that no other program may share. `is_beside_own` says
/// whether other sockets of this program have it, bound by this function or after [`share_port`].
///
/// # Errors
/// EADDRINUSE if another program has it.
pub(crate) fn bind_own(
    fd: BorrowedFd<'_>,
    endpoint: SocketAddr,
    is_beside_own: bool,
    target: &str,
) -> Result<()> {
    match bind(fd, endpoint, target) {
        // Enable sharing only now: a socket that starts with it could bind beside another program.
        Err(Error::Os { source, .. })
            if is_beside_own && source.raw_os_error() == Some(libc::EADDRINUSE) =>
        {
            share_port(fd, target)?;
            bind(fd, endpoint, target)
        }
        bound => bound.and_then(|()| share_port(fd, target)),
    }
}

/// Sets the receive buffer to `bytes`, beyond the limits if permitted, and returns the actual size
/// in the same unit. The kernel accounts for twice as much, for its own headers.
pub(crate) fn receive_buffer(fd: BorrowedFd<'_>, bytes: usize, target: &str) -> Result<usize> {
    buffer(fd, [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF], bytes, target)
}

/// As [`receive_buffer`], for the send buffer.
pub(crate) fn send_buffer(fd: BorrowedFd<'_>, bytes: usize, target: &str) -> Result<usize> {
    buffer(fd, [libc::SO_SNDBUFFORCE, libc::SO_SNDBUF], bytes, target)
}

/// The total number of datagrams that the kernel dropped because the socket was not read in time;
/// it never decreases.
///
/// # Errors
/// The kernel's answer.
pub(crate) fn drops(fd: BorrowedFd<'_>) -> io::Result<u64> {
    // SO_MEMINFO returns nine words (linux/sock_diag.h, SK_MEMINFO_VARS); the last one is drops.
    let mut words = [0_u32; 9];
    sockopt::get(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut words)?;
    let [.., dropped] = words;
    Ok(dropped.into())
}

/// The bytes that were sent but have not left the host, including the kernel's overhead.
///
/// # Errors
/// The kernel's answer.
pub(crate) fn unsent(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // SK_MEMINFO_WMEM_ALLOC.
    let mut words = [0_u32; 9];
    sockopt::get(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut words)?;
    let [_, _, unsent, ..] = words;
    Ok(unsent)
}

/// Attaches a filter that passes nothing.
pub(crate) fn drop_all(fd: BorrowedFd<'_>, target: &str) -> Result<()> {
    sockopt::attach_filter(fd, &super::filter::nothing())
        .map_err(|error| refused("attaching a filter", target, error))
}

/// The kernel's refusal as an error for the user.
pub(crate) fn refused(call: &'static str, target: &str, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EPERM) => Error::Permission(MissingRight::of(
            "CAP_NET_ADMIN or CAP_NET_RAW",
            format!("CAP_NET_ADMIN or CAP_NET_RAW is missing: {call} on {target} is not permitted"),
            None,
        )),
        _ => Error::os(call, target, error),
    }
}

fn buffer(
    fd: BorrowedFd<'_>,
    [force, plain]: [c_int; 2],
    bytes: usize,
    target: &str,
) -> Result<usize> {
    let asked = c_int::try_from(bytes).unwrap_or(c_int::MAX / 2);
    if sockopt::set(fd, libc::SOL_SOCKET, force, asked).is_err() {
        set(fd, (libc::SOL_SOCKET, plain), asked, "setting the buffer size", target)?;
    }
    let mut booked: c_int = 0;
    sockopt::get(fd, libc::SOL_SOCKET, plain, &mut booked)
        .map_err(|error| Error::os("reading the buffer size", target, error))?;
    Ok(usize::try_from(booked).unwrap_or(0) / 2)
}

/// The error for a used-up descriptor limit, with its remedy.
pub(crate) fn descriptors_used_up() -> io::Error {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
    io::Error::other(format!(
        "all {soft} descriptors of this process are used, and its hard limit is {hard}; \
         raise it (ulimit -n, or LimitNOFILE= of the service)"
    ))
}

#[cfg(test)]
mod tests;
