//! The calls of bpf(2) that the BPF library does not make in the needed form: an attachment that
//! never replaces another program, and maps of devices that cannot be changed any more.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long};

/// Commands of <linux/bpf.h>.
const BPF_MAP_CREATE: c_long = 0;
const BPF_MAP_FREEZE: c_long = 22;
const BPF_LINK_CREATE: c_long = 28;
/// `BPF_MAP_TYPE_DEVMAP` of `enum bpf_map_type`.
const DEVMAP: u32 = 14;
/// `BPF_XDP` of `enum bpf_attach_type`.
const XDP: u32 = 37;
/// The key of a device map, and a value with a program.
const DEVMAP_KEY_BYTES: u32 = 4;
const DEVMAP_VALUE_BYTES: u32 = 8;

/// Creates an empty map of this many devices.
///
/// # Errors
/// EPERM without CAP_BPF and CAP_NET_ADMIN; ENOMEM.
pub fn create_device_map(entries: u32) -> io::Result<OwnedFd> {
    let attributes = [DEVMAP, DEVMAP_KEY_BYTES, DEVMAP_VALUE_BYTES, entries, 0];
    adopt(call(BPF_MAP_CREATE, &attributes)?)
}

/// Makes a map read-only for all processes; programs may still write to it.
///
/// # Errors
/// The kernel's.
pub fn freeze_map(map: BorrowedFd<'_>) -> io::Result<()> {
    call(BPF_MAP_FREEZE, &[word(map)]).map(drop)
}

/// Attaches an XDP program to an interface, in a mode given by `XDP_FLAGS_*`, until the returned
/// descriptor and its duplicates are closed.
///
/// # Errors
/// EBUSY or EEXIST if another program is attached; otherwise the kernel's or the driver's.
pub fn attach_xdp(program: BorrowedFd<'_>, ifindex: u32, flags: u32) -> io::Result<OwnedFd> {
    adopt(call(BPF_LINK_CREATE, &[word(program), ifindex, XDP, flags])?)
}

/// A descriptor as a field of the attributes; it is never negative.
fn word(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// Runs a command whose attributes are numbers only, without pointers.
fn call(command: c_long, attributes: &[u32]) -> io::Result<c_long> {
    // SAFETY: the kernel reads as many bytes as the slice has; the attributes of the three commands
    // contain no pointers.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn adopt(number: c_long) -> io::Result<OwnedFd> {
    let fd = c_int::try_from(number).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just opened this descriptor for the caller, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
