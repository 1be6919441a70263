//! Socket options by number, for those without a library wrapper.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_void, socklen_t};

/// Types that are plain bytes to the kernel: any bit pattern is valid, and padding does not matter.
///
/// # Safety
/// The type has no pointers, and every bit pattern of its size is a valid value.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($type:ty),+ $(,)?) => {$(
        // SAFETY: a C structure or integer that consists of numbers, valid for any bits.
        unsafe impl Plain for $type {}
    )+};
}
plain!(
    c_int,
    u32,
    [u32; 2],
    [u32; 9],
    libc::ip_mreqn,
    libc::ipv6_mreq,
    libc::packet_mreq,
    libc::tpacket_req,
    libc::group_req,
    libc::group_source_req,
    libc::timeval,
    libc::xdp_mmap_offsets,
);

/// Sets the option `name` at `level` to `value`.
///
/// # Errors
/// The kernel's.
pub fn set<T: Plain>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: T) -> io::Result<()> {
    set_raw(fd, level, name, (&raw const value).cast(), size_of::<T>())
}

/// Sets the option `name` at `level` to a string, as for SO_BINDTODEVICE.
///
/// # Errors
/// The kernel's.
pub fn set_bytes(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: &[u8]) -> io::Result<()> {
    set_raw(fd, level, name, value.as_ptr().cast(), value.len())
}

fn set_raw(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: usize,
) -> io::Result<()> {
    let len = socklen_t::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: both callers pass a pointer to `len` bytes that outlive the call; the kernel only
    // reads them.
    let rc = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value, len) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads the option `name` at `level` into `value`; returns the number of bytes that the kernel
/// wrote.
///
/// # Errors
/// The kernel's; InvalidInput for options that do not write only to `value`: SO_GET_FILTER counts
/// in instructions, and one TCP option has addresses in its value.
pub fn get<T: Plain>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &mut T,
) -> io::Result<usize> {
    if level == libc::IPPROTO_TCP || (level, name) == (libc::SOL_SOCKET, libc::SO_GET_FILTER) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut len = socklen_t::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `value` has `len` writable bytes, and any bytes are a valid `T` (trait `Plain`).
    let rc = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(value).cast(),
            &raw mut len,
        )
    };
    if rc == 0 { Ok(len as usize) } else { Err(io::Error::last_os_error()) }
}

/// Attaches a classic BPF program, atomically replacing an earlier one.
///
/// # Errors
/// EINVAL for a malformed program or one over 4096 instructions, ENOMEM beyond
/// net.core.optmem_max, EPERM after SO_LOCK_FILTER.
pub fn attach_filter(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    set_program(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program)
}

/// Sets the option `name` at `level` to a classic BPF program.
///
/// # Errors
/// EINVAL for a malformed program or one over 4096 instructions.
pub fn set_program(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    program: &[libc::sock_filter],
) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    set_raw(fd, level, name, (&raw const program).cast(), size_of::<libc::sock_fprog>())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn no_value_is_longer_than_its_buffer() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        attach_filter(socket.as_fd(), &[libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 }; 9])
            .unwrap();
        let mut place = [[0_u32; 9]; 3];
        get(socket.as_fd(), libc::SOL_SOCKET, libc::SO_GET_FILTER, &mut place[1]).unwrap_err();
        assert_eq!(place, [[0; 9]; 3]);
    }
}
