//! The system calls of the control process: Python's event loop, threads that resolve host names,
//! files that are read, and modules that are loaded on first use.

use libc::{PROT_EXEC, c_int, c_long};

use super::{Calls, bits, is, is_null, this_process};

pub(super) fn calls() -> Calls {
    let calls = Calls::default().add(ITSELF).add(FILES).add(WAITING).add(SOCKETS);
    #[cfg(target_arch = "x86_64")]
    let calls = calls.add(OLD);
    let calls = memory(threads(reading(calls)));
    sockets(calls).add_if(libc::SYS_prlimit64, [is(0, 0), is_null(2)])
}

/// Calls that the C library can do without if the kernel lacks them: their flags are in memory,
/// which no filter can see. [`calls`] allows them, so this answer is the stricter of the two.
pub(super) fn missing() -> Calls {
    Calls::default().add([libc::SYS_clone3])
}

const ITSELF: [c_long; 29] = [
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_getcpu,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
];

/// Data is written only to connections or memfds: files are opened for reading only.
const FILES: [c_long; 23] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_fchmod,
    libc::SYS_memfd_create,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_unlinkat,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_close,
    libc::SYS_close_range,
];

const WAITING: [c_long; 7] = [
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
];

const SOCKETS: [c_long; 14] = [
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_shutdown,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
];

/// Calls of this architecture that newer calls supersede.
#[cfg(target_arch = "x86_64")]
const OLD: [c_long; 10] = [
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_unlink,
    libc::SYS_dup2,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_time,
];

fn reading(calls: Calls) -> Calls {
    const CHANGES: c_int = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | O_TMPFILE;
    // Without O_DIRECTORY, which O_TMPFILE includes and which only reads.
    const O_TMPFILE: c_int = libc::O_TMPFILE & !libc::O_DIRECTORY;
    let calls = calls.add_if(libc::SYS_openat, [bits(2, CHANGES, libc::O_RDONLY)]);
    #[cfg(target_arch = "x86_64")]
    let calls = calls.add_if(libc::SYS_open, [bits(1, CHANGES, libc::O_RDONLY)]);
    let commands = [
        libc::F_DUPFD,
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_ADD_SEALS,
        libc::F_GET_SEALS,
    ];
    let add = |calls: Calls, command| calls.add_if(libc::SYS_fcntl, [is(1, command)]);
    commands.into_iter().fold(calls, add)
}

/// Threads, but no processes, and signals only within the process.
fn threads(calls: Calls) -> Calls {
    calls
        .add([libc::SYS_clone3])
        .add_if(libc::SYS_clone, [bits(0, libc::CLONE_THREAD, libc::CLONE_THREAD)])
        .add_if(libc::SYS_tgkill, [is(0, this_process())])
        .add_if(libc::SYS_prctl, [is(0, libc::PR_SET_NAME)])
}

/// Executable memory is mapped only from files: Python's modules and those of the name service.
fn memory(calls: Calls) -> Calls {
    let not_run = |argument| bits(argument, PROT_EXEC, 0);
    calls
        .add([libc::SYS_munmap, libc::SYS_madvise, libc::SYS_brk])
        .add_if(libc::SYS_mmap, [not_run(2)])
        .add_if(libc::SYS_mmap, [bits(3, libc::MAP_ANONYMOUS, 0)])
        .add_if(libc::SYS_mprotect, [not_run(2)])
        .add_if(libc::SYS_mremap, [bits(3, !libc::MREMAP_MAYMOVE, 0)])
}

fn sockets(calls: Calls) -> Calls {
    /// The bits of a socket's type without its flags.
    const KIND: c_int = 0xf;
    /// `sizeof(struct sockaddr_nl)`: shorter than the address of any other relevant family.
    const NETLINK_ADDRESS_BYTES: c_int = 12;
    let kinds = [
        (libc::AF_UNIX, libc::SOCK_STREAM),
        (libc::AF_UNIX, libc::SOCK_DGRAM),
        // Sockets for queries to name servers and devices.
        (libc::AF_INET, libc::SOCK_DGRAM),
        (libc::AF_INET, libc::SOCK_STREAM),
        (libc::AF_INET6, libc::SOCK_DGRAM),
        (libc::AF_INET6, libc::SOCK_STREAM),
    ];
    let options = [
        (libc::SOL_SOCKET, libc::SO_SNDBUF),
        (libc::SOL_SOCKET, libc::SO_RCVBUF),
        (libc::SOL_SOCKET, libc::SO_REUSEADDR),
        (libc::SOL_SOCKET, libc::SO_PASSCRED),
        (libc::IPPROTO_IP, libc::IP_RECVERR),
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    ];
    let requests: [libc::Ioctl; 8] = [
        libc::FIONBIO,
        libc::FIONREAD,
        libc::FIOCLEX,
        libc::TCGETS,
        libc::SIOCGIFMTU,
        libc::SIOCGIFINDEX,
        libc::SIOCGIFNAME,
        libc::SIOCETHTOOL,
    ];
    let calls = kinds.into_iter().fold(calls, |calls, (family, kind)| {
        calls.add_if(libc::SYS_socket, [is(0, family), bits(1, KIND, kind)])
    });
    let calls = options.into_iter().fold(calls, |calls, (level, name)| {
        calls.add_if(libc::SYS_setsockopt, [is(1, level), is(2, name)])
    });
    let calls = requests
        .into_iter()
        .fold(calls, |calls, request| calls.add_if(libc::SYS_ioctl, [super::request(request)]));
    calls
        .add_if(libc::SYS_socket, [is(0, libc::AF_NETLINK), is(2, libc::NETLINK_ROUTE)])
        .add_if(libc::SYS_bind, [is(2, NETLINK_ADDRESS_BYTES)])
        .add_if(libc::SYS_socketpair, [is(0, libc::AF_UNIX)])
}
