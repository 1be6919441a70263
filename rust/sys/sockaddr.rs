//! Socket addresses in the kernel's form. It must not know what they are used for.

use std::io;
use std::mem::zeroed;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_int, sa_family_t, sockaddr_storage, socklen_t};

/// These are constants of libc in the width of the fields and arguments that take them.
const AF_UNSPEC: sa_family_t = 0;
const AF_PACKET: sa_family_t = 17;
const ETH_P_ALL: u16 = 0x0003;
const SOCKADDR_BYTES: socklen_t = 16;
const SOCKADDR_LL_BYTES: socklen_t = 20;

/// The address in the form that RFC 3678 requests carry.
#[must_use]
pub fn storage(address: SocketAddr) -> sockaddr_storage {
    let address = socket2::SockAddr::from(address);
    // SAFETY: `sockaddr_storage` is numbers only; all zero is AF_UNSPEC.
    let mut storage: sockaddr_storage = unsafe { zeroed() };
    // SAFETY: socket2 holds `len()` initialised bytes at `as_ptr()`, never more than a
    // `sockaddr_storage` has, and `storage` is a local of its own.
    unsafe {
        ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            (&raw mut storage).cast::<u8>(),
            address.len() as usize,
        );
    }
    storage
}

/// Binds an AF_PACKET socket to every protocol of one interface: `ETH_P_ALL`.
///
/// # Errors
/// ENODEV when the interface is gone.
pub fn bind_link_layer(fd: BorrowedFd<'_>, ifindex: c_int) -> io::Result<()> {
    // SAFETY: `sockaddr_ll` is numbers only; the fields that count are set below.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = AF_PACKET;
    address.sll_protocol = ETH_P_ALL.to_be();
    address.sll_ifindex = ifindex;
    let address = &raw const address;
    // SAFETY: the kernel reads one `sockaddr_ll`, which outlives the call.
    let rc = unsafe { libc::bind(fd.as_raw_fd(), address.cast(), SOCKADDR_LL_BYTES) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The index of the interface that an AF_PACKET socket is bound to; 0 for all of them.
///
/// # Errors
/// The kernel's answer; InvalidInput for another kind of socket.
pub fn bound_interface(fd: BorrowedFd<'_>) -> io::Result<c_int> {
    link_layer_name(fd).map(|address| address.sll_ifindex)
}

/// The type of that interface, ARPHRD_ETHER for one.
///
/// # Errors
/// The kernel's answer; InvalidInput for another kind of socket.
pub fn bound_hardware(fd: BorrowedFd<'_>) -> io::Result<u16> {
    link_layer_name(fd).map(|address| address.sll_hatype)
}

fn link_layer_name(fd: BorrowedFd<'_>) -> io::Result<libc::sockaddr_ll> {
    // SAFETY: `sockaddr_ll` is numbers only; all zero is AF_UNSPEC.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    let (place, mut len) = (&raw mut address, SOCKADDR_LL_BYTES);
    // SAFETY: the kernel writes at most `len` bytes to `address`, which is as long and outlives
    // the call; any bytes make one.
    let rc = unsafe { libc::getsockname(fd.as_raw_fd(), place.cast(), &raw mut len) };
    match (rc, address.sll_family) {
        (0, AF_PACKET) => Ok(address),
        (0, _) => Err(io::ErrorKind::InvalidInput.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes back the address that a datagram socket is connected to.
///
/// # Errors
/// The kernel's answer.
pub fn disconnect(fd: BorrowedFd<'_>) -> io::Result<()> {
    let nobody = libc::sockaddr { sa_family: AF_UNSPEC, sa_data: [0; 14] };
    // SAFETY: the kernel reads one `sockaddr`, which outlives the call.
    let rc = unsafe { libc::connect(fd.as_raw_fd(), &raw const nobody, SOCKADDR_BYTES) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
