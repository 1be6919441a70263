//! Queries about BPF programs (bpf(2)); none is loaded or attached here.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// From <linux/bpf.h>.
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_CGROUP_INET_EGRESS: u32 = 1;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
const BPF_F_QUERY_EFFECTIVE: u32 = 1;

/// The part `query` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct ProgramQuery {
    /// The descriptor of a control group, or the index of an interface.
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    /// Where to store the ids; none are wanted.
    prog_ids: u64,
    count: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The number of BPF programs that the kernel runs for each frame that the stack sends on an
/// interface (tcx). They are not visible as queueing disciplines or filters.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN; ENODEV if the interface is gone.
pub fn egress_programs(ifindex: u32) -> io::Result<u32> {
    count(ProgramQuery { target: ifindex, attach_type: BPF_TCX_EGRESS, ..ProgramQuery::default() })
}

/// The same for each frame that the interface receives.
///
/// # Errors
/// As [`egress_programs`].
pub fn ingress_programs(ifindex: u32) -> io::Result<u32> {
    count(ProgramQuery { target: ifindex, attach_type: BPF_TCX_INGRESS, ..ProgramQuery::default() })
}

/// The number of BPF programs that the kernel runs for each packet that a socket of a control group
/// sends, those of the groups above it included. `group` is its directory.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN; EBADF for another descriptor than that of a control group.
pub fn group_egress_programs(group: BorrowedFd<'_>) -> io::Result<u32> {
    count(ProgramQuery {
        target: group.as_raw_fd().unsigned_abs(),
        attach_type: BPF_CGROUP_INET_EGRESS,
        query_flags: BPF_F_QUERY_EFFECTIVE,
        ..ProgramQuery::default()
    })
}

fn count(mut query: ProgramQuery) -> io::Result<u32> {
    // SAFETY: the kernel reads and writes at most the given size, which is that of `query`; the
    // pointers in it are null, so that it writes nowhere else.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<ProgramQuery>())
    };
    if result == 0 {
        return Ok(query.count);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // A kernel without such programs (tcx: before 6.6), or without BPF.
        Some(libc::EINVAL | libc::ENOSYS) => Ok(0),
        _ => Err(error),
    }
}

/// A program for tests.
#[cfg(test)]
pub(crate) mod attached {
    use std::os::fd::{FromRawFd, OwnedFd};

    use super::*;

    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_LINK_CREATE: libc::c_int = 28;
    const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
    const BPF_PROG_TYPE_CGROUP_SKB: u32 = 8;

    /// Calls bpf(2) with the first words of its attributes; returns the descriptor that it makes.
    fn bpf(command: libc::c_int, words: &mut [u64]) -> OwnedFd {
        // SAFETY: the kernel reads at most the size of `words`; pointers among them name statics.
        let fd = unsafe {
            libc::syscall(libc::SYS_bpf, command, words.as_mut_ptr(), size_of_val(words))
        };
        let fd = libc::c_int::try_from(fd).unwrap();
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: the kernel has just created this descriptor, so nothing else owns it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    /// Attaches a program that passes everything to what leaves the interface, until dropped.
    pub(crate) fn attach(ifindex: u32) -> [OwnedFd; 2] {
        // r0 = 0; exit
        static CODE: [u64; 2] = [0xb7, 0x95];
        attach_to(BPF_PROG_TYPE_SCHED_CLS, &CODE, ifindex, BPF_TCX_EGRESS)
    }

    /// The same for what sockets of a control group send.
    pub(crate) fn attach_to_group(group: BorrowedFd<'_>) -> [OwnedFd; 2] {
        // r0 = 1; exit
        static CODE: [u64; 2] = [1 << 32 | 0xb7, 0x95];
        let group = group.as_raw_fd().unsigned_abs();
        attach_to(BPF_PROG_TYPE_CGROUP_SKB, &CODE, group, BPF_CGROUP_INET_EGRESS)
    }

    fn attach_to(kind: u32, code: &'static [u64; 2], target: u32, place: u32) -> [OwnedFd; 2] {
        static LICENSE: &std::ffi::CStr = c"GPL";
        let half = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        // `expected_attach_type` is in the ninth word.
        let mut load = [0; 9];
        load[0] = half(kind, 2);
        load[1] = code.as_ptr() as u64;
        load[2] = LICENSE.as_ptr() as u64;
        load[8] = half(0, if kind == BPF_PROG_TYPE_CGROUP_SKB { place } else { 0 });
        let program = bpf(BPF_PROG_LOAD, &mut load);
        let number = program.as_raw_fd().unsigned_abs();
        let mut link = [half(number, target), half(place, 0), 0, 0];
        let link = bpf(BPF_LINK_CREATE, &mut link);
        [program, link]
    }
}
