//! Socket addresses in the kernel's format.

use std::io;
use std::mem::zeroed;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_int, sa_family_t, sockaddr_storage, socklen_t};

/// The libc constants in the width of the fields and arguments.
const AF_UNSPEC: sa_family_t = 0;
const AF_PACKET: sa_family_t = 17;
const ETH_P_ALL: u16 = 0x0003;
const SOCKADDR_BYTES: socklen_t = 16;
const SOCKADDR_LL_BYTES: socklen_t = 20;
const STORAGE_BYTES: socklen_t = 128;

/// The address in the format of RFC 3678 requests.
#[must_use]
pub fn storage(address: SocketAddr) -> sockaddr_storage {
    let address = socket2::SockAddr::from(address);
    // SAFETY: `sockaddr_storage` consists of numbers; all zero is AF_UNSPEC.
    let mut storage: sockaddr_storage = unsafe { zeroed() };
    // SAFETY: socket2 holds `len()` initialised bytes at `as_ptr()`, never more than a
    // `sockaddr_storage` has, and `storage` is a separate local.
    unsafe {
        ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            (&raw mut storage).cast::<u8>(),
            address.len() as usize,
        );
    }
    storage
}

/// The IP address and port in an address that the kernel has written; `None` for another family.
#[must_use]
pub fn internet(name: &sockaddr_storage) -> Option<SocketAddr> {
    let mut storage = socket2::SockAddrStorage::zeroed();
    // SAFETY: the storage has the size and alignment of a `sockaddr_storage`.
    let copy: &mut sockaddr_storage = unsafe { storage.view_as() };
    *copy = *name;
    // SAFETY: all bytes of the storage are initialised, and the family says which it holds.
    let address = unsafe { socket2::SockAddr::new(storage, STORAGE_BYTES) };
    address.as_socket()
}

/// Binds an AF_PACKET socket to every protocol of one interface: `ETH_P_ALL`.
///
/// # Errors
/// ENODEV if the interface is gone.
pub fn bind_link_layer(fd: BorrowedFd<'_>, ifindex: c_int) -> io::Result<()> {
    // SAFETY: `sockaddr_ll` consists of numbers; the relevant fields are set below.
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
/// The kernel's; InvalidInput for another kind of socket.
pub fn bound_interface(fd: BorrowedFd<'_>) -> io::Result<c_int> {
    link_layer_name(fd).map(|address| address.sll_ifindex)
}

/// The hardware type of that interface, such as ARPHRD_ETHER.
///
/// # Errors
/// The kernel's; InvalidInput for another kind of socket.
pub fn bound_hardware(fd: BorrowedFd<'_>) -> io::Result<u16> {
    link_layer_name(fd).map(|address| address.sll_hatype)
}

fn link_layer_name(fd: BorrowedFd<'_>) -> io::Result<libc::sockaddr_ll> {
    // SAFETY: `sockaddr_ll` consists of numbers; all zero is AF_UNSPEC.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    let (place, mut len) = (&raw mut address, SOCKADDR_LL_BYTES);
    // SAFETY: the kernel writes at most `len` bytes to `address`, which has this length and
    // outlives the call; any bytes are a valid value.
    let rc = unsafe { libc::getsockname(fd.as_raw_fd(), place.cast(), &raw mut len) };
    match (rc, address.sll_family) {
        (0, AF_PACKET) => Ok(address),
        (0, _) => Err(io::ErrorKind::InvalidInput.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Disconnects a datagram socket from its peer.
///
/// # Errors
/// The kernel's.
pub fn disconnect(fd: BorrowedFd<'_>) -> io::Result<()> {
    let unspecified = libc::sockaddr { sa_family: AF_UNSPEC, sa_data: [0; 14] };
    // SAFETY: the kernel reads one `sockaddr`, which outlives the call.
    let rc = unsafe { libc::connect(fd.as_raw_fd(), &raw const unspecified, SOCKADDR_BYTES) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
