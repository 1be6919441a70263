//! Questions to a network device, and one setting, by name, in the namespace of the socket that
//! asks. It must not know what the answers are for.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_char, ifreq};

/// `ETHTOOL_GGRO` of <linux/ethtool.h>.
const ETHTOOL_GGRO: u32 = 0x2b;

/// `ETHTOOL_SGRO` of the same.
const ETHTOOL_SGRO: u32 = 0x2c;

/// `struct ethtool_value` of <linux/ethtool.h>.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// The MTU of the device in bytes.
///
/// # Errors
/// ENODEV when no device has this name (any more).
pub fn mtu(socket: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let mut request = request(name)?;
    ioctl(socket, libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: SIOCGIFMTU filled this member, and any bits make an int.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(mtu.unsigned_abs())
}

/// Whether generic receive offload is on.
///
/// # Errors
/// The kernel's answer, EOPNOTSUPP for one.
pub fn gro(socket: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    ethtool(socket, name, EthtoolValue { cmd: ETHTOOL_GGRO, data: 0 }).map(|data| data != 0)
}

/// Switches generic receive offload on or off.
///
/// # Errors
/// The kernel's answer, EPERM for one.
pub fn set_gro(socket: BorrowedFd<'_>, name: &str, on: bool) -> io::Result<()> {
    ethtool(socket, name, EthtoolValue { cmd: ETHTOOL_SGRO, data: on.into() }).map(drop)
}

fn ethtool(socket: BorrowedFd<'_>, name: &str, mut value: EthtoolValue) -> io::Result<u32> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = (&raw mut value).cast::<c_char>();
    ioctl(socket, libc::SIOCETHTOOL, &mut request)?;
    Ok(value.data)
}

fn request(name: &str) -> io::Result<ifreq> {
    // SAFETY: `ifreq` is numbers and a null pointer when all zero.
    let mut request: ifreq = unsafe { zeroed() };
    if name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    Ok(request)
}

fn ioctl(socket: BorrowedFd<'_>, call: libc::Ioctl, request: &mut ifreq) -> io::Result<()> {
    // SAFETY: both calls read and write one `ifreq`, and what its data pointer names: an
    // `EthtoolValue` of the caller that outlives the call.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), call, std::ptr::from_mut(request)) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
