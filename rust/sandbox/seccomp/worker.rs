//! The system calls of a worker while it relays, after all of its threads have started. It gets
//! sockets in messages, and receives and sends through the ring, or through the memory of an AF_XDP
//! socket; it opens nothing, and changes nothing about a socket but whether it reports time stamps.

use libc::{PROT_EXEC, c_int};

use super::lethal::ON_MAPS;
use super::{Calls, at_least, below, bits, is, is_long, is_null, longer, this_process};
use crate::sys::packet_ring::BLOCK_BYTES;
use crate::sys::ring::{REGISTER_BUFFERS, SEND_FLAGS};

pub(super) fn calls(first_foreign_fd: u16, channel_fd: u16, uses_maps: bool) -> Calls {
    let calls = Calls::default().add(EVERYWHERE);
    let calls = if uses_maps { maps(calls) } else { calls };
    #[cfg(target_arch = "x86_64")]
    let calls = calls.add([libc::SYS_poll]);
    memory(descriptors(calls, first_foreign_fd, channel_fd))
        .add_if(libc::SYS_io_uring_register, [is(1, REGISTER_BUFFERS.into())])
        .add_if(libc::SYS_setsockopt, [is(1, libc::SOL_SOCKET), is(2, libc::SO_TIMESTAMPNS)])
        .add_if(libc::SYS_prctl, [is(0, libc::PR_SET_NAME)])
        .add_if(libc::SYS_tgkill, [is(0, this_process())])
        .add_if(libc::SYS_prlimit64, [is(0, 0), is_null(2)])
}

/// Receiving and sending without io_uring: on every descriptor, as a ring may.
pub(super) fn by_poll(calls: Calls) -> Calls {
    calls.add([libc::SYS_recvmmsg]).add_if(libc::SYS_sendmsg, [is(2, SEND_FLAGS)])
}

const EVERYWHERE: [libc::c_long; 25] = [
    // Relaying.
    libc::SYS_io_uring_enter,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_ppoll,
    // Threads that have just started, wait for each other and end.
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_sigaltstack,
    // Time and identity.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getrandom,
    // Memory that is freed.
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_brk,
];

/// Changing rules in the kernel. One moves there once the sockets of its outputs have sent all that
/// they had, which is queried.
fn maps(calls: Calls) -> Calls {
    ON_MAPS
        .iter()
        .fold(calls, |calls, command| calls.add_if(libc::SYS_bpf, [is(0, *command)]))
        .add_if(libc::SYS_ioctl, [super::request(libc::TIOCOUTQ)])
}

/// The offsets of the rings of frames to send, and of frames that were sent.
const XDP_RINGS: [u64; 2] =
    [libc::XDP_PGOFF_TX_RING.cast_unsigned(), libc::XDP_UMEM_PGOFF_COMPLETION_RING];

/// Descriptors of the process itself may be written; received ones may only be closed.
fn descriptors(calls: Calls, first_foreign_fd: u16, channel_fd: u16) -> Calls {
    let own = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_pread64,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_shutdown,
    ];
    let own =
        own.into_iter().fold(calls, |calls, call| calls.add_if(call, [below(0, first_foreign_fd)]));
    // An AF_XDP socket sends its ring with an empty message to nobody. On any other that a worker
    // is handed this sends no more than the ring of the worker may.
    let empty = [is_null(1), is_null(2), is(3, libc::MSG_DONTWAIT), is_null(4), is(5, 0)];
    let own = own.add_if(libc::SYS_sendto, empty);
    // Queries of a device; changing one takes a capability.
    let asked: [libc::Ioctl; 2] = [libc::SIOCGIFMTU, libc::SIOCETHTOOL];
    let asked = asked.into_iter().fold(own, |calls, request| {
        calls.add_if(libc::SYS_ioctl, [below(0, first_foreign_fd), super::request(request)])
    });
    let asked = asked.add_if(libc::SYS_ioctl, [super::request(libc::FIONBIO)]);
    // The last one is asked before memory is mapped that is shared with another process.
    let flags = [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_GET_SEALS];
    flags
        .into_iter()
        .fold(asked, |calls, command| calls.add_if(libc::SYS_fcntl, [is(1, command)]))
        .add_if(libc::SYS_lseek, [is(2, libc::SEEK_END)])
        .add_if(libc::SYS_close, [at_least(0, first_foreign_fd)])
        .add_if(libc::SYS_dup3, [is(1, c_int::from(channel_fd)), is(2, libc::O_CLOEXEC)])
}

/// Memory, but not executable, and of received descriptors only packet rings, the memory of AF_XDP
/// frames, and two rings of AF_XDP sockets. A mapping of an AF_PACKET socket no longer than one
/// block would be that of one without a ring, which could then send; it begins at 0, where a worker
/// maps no ring of AF_XDP.
fn memory(calls: Calls) -> Calls {
    let not_run = bits(2, PROT_EXEC, 0);
    let calls = XDP_RINGS
        .into_iter()
        .fold(calls, |calls, offset| calls.add_if(libc::SYS_mmap, [not_run, is_long(5, offset)]));
    calls
        .add_if(libc::SYS_mmap, [not_run, bits(3, libc::MAP_ANONYMOUS, libc::MAP_ANONYMOUS)])
        .add_if(libc::SYS_mmap, [not_run, longer(1, BLOCK_BYTES)])
        .add_if(libc::SYS_mprotect, [not_run])
        .add_if(libc::SYS_mremap, [bits(3, !libc::MREMAP_MAYMOVE, 0)])
}
