//! The filters, run in an interpreter like the kernel's, on calls that no test could make.

use libc::{MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE};
use seccompiler::sock_filter;

use super::*;
use crate::sys::ring::{REGISTER_BUFFERS, SEND_FLAGS};

const FIRST: u16 = 16;
const CHANNEL: u16 = 5;

/// The kernel's constant for the calls of this architecture (<linux/audit.h>), and for a compatible
/// one.
const HERE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
const NARROWER: u32 = if cfg!(target_arch = "x86_64") { 0x4000_0003 } else { 0x4000_0028 };

/// A filter's result for a call with these arguments (seccomp(2), `struct seccomp_data`).
fn answer(program: &[sock_filter], audit: u32, call: c_long, arguments: &[i64]) -> u32 {
    let mut data = u32::try_from(call).unwrap().to_ne_bytes().to_vec();
    data.extend(audit.to_ne_bytes());
    data.extend([0; 8]);
    for at in 0..6 {
        data.extend(arguments.get(at).copied().unwrap_or(0).to_ne_bytes());
    }
    let (mut at, mut held) = (0, 0);
    loop {
        let step = &program[at];
        at += 1;
        let mut jump = |is: bool| at += usize::from(if is { step.jt } else { step.jf });
        match step.code {
            0x20 => {
                let from = step.k as usize;
                held = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
            }
            0x54 => held &= step.k,
            0x15 => jump(held == step.k),
            0x25 => jump(held > step.k),
            0x35 => jump(held >= step.k),
            0x05 => at += step.k as usize,
            0x06 => return step.k,
            code => panic!("a step that no filter has: {code:#x}"),
        }
    }
}

const ALLOWED: u32 = 0x7fff_0000;
const REFUSED: u32 = 0x0005_0000 | 1;
const KILLED: u32 = 0x8000_0000;

/// Checks calls, each with its arguments and whether the role's filter permits it.
fn check(calls: Calls, cases: &[(c_long, &[i64], bool)]) {
    let program = calls.program(Miss::Refused, SeccompAction::Allow).unwrap();
    for &(call, arguments, passes) in cases {
        let expected = if passes { ALLOWED } else { REFUSED };
        assert_eq!(answer(&program, HERE, call, arguments), expected, "{call} {arguments:?}");
    }
}

fn anonymous(prot: c_int) -> [i64; 5] {
    [0, 4096, prot.into(), (MAP_PRIVATE | MAP_ANONYMOUS).into(), -1]
}

fn mapping(len: i64, prot: c_int, fd: i64) -> [i64; 5] {
    [0, len, prot.into(), MAP_SHARED.into(), fd]
}

const DATA: c_int = PROT_READ | PROT_WRITE;

#[test]
fn a_worker_writes_to_its_own_descriptors_only() {
    let (own, foreign): (&[i64], &[i64]) = (&[15], &[16]);
    let command = |command: c_int| [16, command.into(), 3];
    let wait_not = i64::from(libc::MSG_DONTWAIT);
    let cases: [(c_long, &[i64], bool); 27] = [
        (libc::SYS_write, own, true),
        (libc::SYS_write, foreign, false),
        (libc::SYS_write, &[-1], false),
        // The kernel uses only the lower half of the number.
        (libc::SYS_write, &[1 << 32 | 16], false),
        (libc::SYS_sendto, own, true),
        (libc::SYS_sendto, foreign, false),
        // An AF_XDP socket sends its ring; nothing that is told in the call itself is sent.
        (libc::SYS_sendto, &[16, 0, 0, wait_not, 0, 0], true),
        (libc::SYS_sendto, &[16, 0, 0, 0, 0, 0], false),
        (libc::SYS_sendto, &[16, 0x1000, 0, wait_not, 0, 0], false),
        (libc::SYS_sendto, &[16, 0, 60, wait_not, 0, 0], false),
        (libc::SYS_sendto, &[16, 0, 0, wait_not, 0x1000, 20], false),
        (libc::SYS_sendmsg, foreign, false),
        (libc::SYS_pread64, own, true),
        (libc::SYS_pread64, foreign, false),
        (libc::SYS_sendmmsg, own, false),
        (libc::SYS_close, own, false),
        (libc::SYS_close, foreign, true),
        (libc::SYS_dup3, &[16, 5, libc::O_CLOEXEC as i64], true),
        (libc::SYS_dup3, &[16, 4, libc::O_CLOEXEC as i64], false),
        (libc::SYS_fcntl, &command(libc::F_DUPFD), false),
        (libc::SYS_fcntl, &command(libc::F_DUPFD_CLOEXEC), false),
        (libc::SYS_fcntl, &command(libc::F_SETFL), true),
        (libc::SYS_fcntl, &command(libc::F_GET_SEALS), true),
        (libc::SYS_fcntl, &command(libc::F_ADD_SEALS), false),
        (libc::SYS_lseek, &[16, 0, libc::SEEK_END.into()], true),
        (libc::SYS_recvmsg, foreign, true),
        (libc::SYS_dup, own, false),
    ];
    check(worker::calls(FIRST, CHANNEL, false), &cases);
}

#[test]
fn a_worker_maps_no_executable_memory_and_no_transmit_ring() {
    let ring = i64::from(crate::sys::packet_ring::BLOCK_BYTES);
    let xdp = |offset: i64, prot: c_int| {
        let [address, len, prot, flags, fd] = mapping(4096, prot, 20);
        [address, len, prot, flags, fd, offset]
    };
    let (send, sent) = (libc::XDP_PGOFF_TX_RING, 0x1_8000_0000);
    let cases: [(c_long, &[i64], bool); 14] = [
        (libc::SYS_mmap, &xdp(send, DATA), true),
        (libc::SYS_mmap, &xdp(sent, DATA), true),
        (libc::SYS_mmap, &xdp(send, DATA | PROT_EXEC), false),
        (libc::SYS_mmap, &xdp(4096, DATA), false),
        // The fill ring, which only receiving needs.
        (libc::SYS_mmap, &xdp(0x1_0000_0000, DATA), false),
        (libc::SYS_mmap, &anonymous(DATA), true),
        (libc::SYS_mmap, &anonymous(DATA | PROT_EXEC), false),
        (libc::SYS_mmap, &mapping(ring + 4096, DATA, 20), true),
        (libc::SYS_mmap, &mapping(ring + 4096, DATA | PROT_EXEC, 20), false),
        (libc::SYS_mmap, &mapping(4096, DATA, 20), false),
        (libc::SYS_mmap, &mapping(ring, DATA, 20), false),
        (libc::SYS_mprotect, &[0, 4096, PROT_READ.into()], true),
        (libc::SYS_mprotect, &[0, 4096, PROT_EXEC.into()], false),
        (libc::SYS_pkey_mprotect, &[0, 4096, PROT_READ.into()], false),
    ];
    check(worker::calls(FIRST, CHANNEL, false), &cases);
}

#[test]
fn a_worker_changes_no_socket_but_its_time_stamps_and_starts_nothing() {
    let me = i64::from(this_process());
    let option = |name: c_int| [16, libc::SOL_SOCKET.into(), name.into()];
    let cases: [(c_long, &[i64], bool); 15] = [
        (libc::SYS_io_uring_enter, &[9], true),
        (libc::SYS_io_uring_register, &[9, REGISTER_BUFFERS.into()], true),
        // IORING_REGISTER_FILES.
        (libc::SYS_io_uring_register, &[9, 2], false),
        (libc::SYS_socket, &[libc::AF_UNIX.into()], false),
        (libc::SYS_bind, &[16], false),
        (libc::SYS_connect, &[16], false),
        (libc::SYS_setsockopt, &option(libc::SO_TIMESTAMPNS), true),
        (libc::SYS_setsockopt, &option(libc::SO_ATTACH_FILTER), false),
        (libc::SYS_clone, &[libc::CLONE_THREAD.into()], false),
        (libc::SYS_clone3, &[], false),
        (libc::SYS_openat, &[libc::AT_FDCWD.into()], false),
        (libc::SYS_kill, &[me], false),
        (libc::SYS_tgkill, &[me, me, 6], true),
        (libc::SYS_tgkill, &[1, 1, 9], false),
        (libc::SYS_prlimit64, &[0, 7, 0x1000], false),
    ];
    check(worker::calls(FIRST, CHANNEL, false), &cases);
}

#[test]
fn a_worker_without_io_uring_receives_and_sends_on_every_socket() {
    let sends = |flags: c_int| [16, 0, flags.into()];
    let calls = || worker::calls(FIRST, CHANNEL, false);
    let without: [(c_long, &[i64], bool); 2] =
        [(libc::SYS_recvmmsg, &[16], false), (libc::SYS_sendmsg, &sends(SEND_FLAGS), false)];
    check(calls(), &without);
    let cases: [(c_long, &[i64], bool); 4] = [
        (libc::SYS_recvmmsg, &[16], true),
        (libc::SYS_sendmsg, &sends(SEND_FLAGS), true),
        (libc::SYS_sendmsg, &sends(0), false),
        (libc::SYS_sendmmsg, &[16], false),
    ];
    check(worker::by_poll(calls()), &cases);
}

#[test]
fn a_worker_queries_devices_but_does_not_change_them() {
    let ethtool = i64::try_from(libc::SIOCETHTOOL).unwrap();
    let up = i64::try_from(libc::SIOCSIFFLAGS).unwrap();
    let cases: [(c_long, &[i64], bool); 3] = [
        (libc::SYS_ioctl, &[7, ethtool], true),
        (libc::SYS_ioctl, &[16, ethtool], false),
        (libc::SYS_ioctl, &[7, up], false),
    ];
    check(worker::calls(FIRST, CHANNEL, false), &cases);
}

#[test]
fn a_control_process_only_reads_resolves_names_and_starts_threads() {
    let at: i64 = libc::AT_FDCWD.into();
    let socket = |family: c_int, kind: c_int| [family.into(), kind.into(), 0_i64];
    let open = |flags: c_int| [at, 0, flags.into()];
    let thread: i64 = (libc::CLONE_VM | libc::CLONE_THREAD).into();
    let cases: [(c_long, &[i64], bool); 20] = [
        (libc::SYS_openat, &open(libc::O_RDONLY | libc::O_CLOEXEC), true),
        (libc::SYS_openat, &open(libc::O_RDONLY | libc::O_DIRECTORY), true),
        (libc::SYS_openat, &open(libc::O_WRONLY), false),
        (libc::SYS_openat, &open(libc::O_RDONLY | libc::O_CREAT), false),
        (libc::SYS_openat, &open(libc::O_TMPFILE | libc::O_RDWR), false),
        (libc::SYS_socket, &socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC), true),
        (libc::SYS_socket, &socket(libc::AF_INET6, libc::SOCK_DGRAM), true),
        (libc::SYS_socket, &socket(libc::AF_NETLINK, libc::SOCK_RAW), true),
        (libc::SYS_socket, &socket(libc::AF_INET, libc::SOCK_RAW), false),
        (libc::SYS_socket, &socket(libc::AF_PACKET, libc::SOCK_DGRAM), false),
        (libc::SYS_socket, &socket(libc::AF_ALG, libc::SOCK_STREAM), false),
        // Binding a netlink socket, and an IPv4 socket.
        (libc::SYS_bind, &[9, 0, 12], true),
        (libc::SYS_bind, &[9, 0, 16], false),
        (libc::SYS_setsockopt, &[9, libc::SOL_SOCKET.into(), libc::SO_ATTACH_FILTER.into()], false),
        (libc::SYS_clone, &[thread], true),
        (libc::SYS_clone, &[libc::SIGCHLD.into()], false),
        (libc::SYS_kill, &[1, 9], false),
        (libc::SYS_mmap, &anonymous(DATA | PROT_EXEC), false),
        (libc::SYS_mmap, &mapping(4096, PROT_READ | PROT_EXEC, 9), true),
        (libc::SYS_io_uring_enter, &[9], false),
    ];
    check(control::calls(), &cases);
}

#[test]
fn lethal_calls_kill_and_are_on_no_list() {
    let lethal = lethal::calls(false);
    let program = lethal::calls(false).program(Miss::Allowed, SeccompAction::KillProcess).unwrap();
    for &call in lethal.rules.keys() {
        assert_eq!(answer(&program, HERE, call, &[]), KILLED, "{call}");
    }
    assert_eq!(answer(&program, HERE, libc::SYS_openat, &[]), ALLOWED);
    for calls in [worker::calls(FIRST, CHANNEL, false), control::calls(), control::missing()] {
        assert!(calls.rules.keys().all(|call| !lethal.rules.contains_key(call)));
    }
}

#[test]
fn a_worker_reads_and_writes_maps_only_if_the_kernel_relays() {
    let unsent = i64::try_from(libc::TIOCOUTQ).unwrap();
    let cases: [(c_long, &[i64], bool); 12] = [
        (libc::SYS_bpf, &[1], true),
        (libc::SYS_bpf, &[2], true),
        (libc::SYS_bpf, &[3], true),
        (libc::SYS_bpf, &[4], true),
        (libc::SYS_bpf, &[15], true),
        // The kernel uses only the lower half of the number.
        (libc::SYS_bpf, &[1 << 32 | 1], true),
        // Creating, loading, pinning, opening by name and by number, attaching.
        (libc::SYS_bpf, &[0], false),
        (libc::SYS_bpf, &[5], false),
        (libc::SYS_bpf, &[6], false),
        (libc::SYS_bpf, &[7], false),
        (libc::SYS_bpf, &[14], false),
        (libc::SYS_bpf, &[28], false),
    ];
    check(worker::calls(FIRST, CHANNEL, true), &cases);
    check(worker::calls(FIRST, CHANNEL, true), &[(libc::SYS_ioctl, &[16, unsent], true)]);
    let lethal = lethal::calls(true).program(Miss::Allowed, SeccompAction::KillProcess).unwrap();
    for (call, arguments, passes) in cases {
        let expected = if passes { ALLOWED } else { KILLED };
        assert_eq!(answer(&lethal, HERE, call, arguments), expected, "{arguments:?}");
    }
    let none = worker::calls(FIRST, CHANNEL, false);
    check(none, &[(libc::SYS_bpf, &[1], false), (libc::SYS_ioctl, &[16, unsent], false)]);
}

#[test]
fn a_call_by_the_numbers_of_another_machine_kills() {
    let calls = worker::calls(FIRST, CHANNEL, false);
    let program = calls.program(Miss::Refused, SeccompAction::Allow).unwrap();
    assert_eq!(answer(&program, HERE, libc::SYS_getpid, &[]), ALLOWED);
    assert_eq!(answer(&program, NARROWER, libc::SYS_getpid, &[]), KILLED);
}
