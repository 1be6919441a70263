//! Network namespaces for tests: each test thread gets its own, which is removed with it.

use std::env;
use std::fmt::Debug;
use std::io::{Write, stderr};
use std::net::UdpSocket;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, CpuSet, sched_getcpu, sched_setaffinity, unshare};
use nix::unistd::Pid;

use super::InterfaceRef;

/// The two ends of the cable from [`with_cable`].
pub(crate) const NEAR: &str = "near0";
pub(crate) const FAR: &str = "far0";

/// Runs the test in a namespace of its own, with loopback up. If namespaces are not permitted it
/// says so and skips the test, or fails in CI. The test stays on one CPU, so that the loopback
/// delivers in the order of sending.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let body = || {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            assert!(env::var_os("CI").is_none(), "CI must allow network namespaces: {errno}");
            writeln!(stderr(), "skipped: no network namespace may be made here ({errno})").unwrap();
            return;
        }
        stay_on_this_cpu();
        ip("link set lo up");
        test();
    };
    if let Err(panic) = thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}

/// The same with a cable between two interfaces of the namespace, 10.9.0.1 and 10.9.0.2.
pub(crate) fn with_cable(test: impl FnOnce() + Send + 'static) {
    in_namespace(|| {
        ip(&format!("link add {NEAR} type veth peer name {FAR}"));
        for (name, address) in [(NEAR, "10.9.0.1/24"), (FAR, "10.9.0.2/24")] {
            ip(&format!("address add {address} dev {name}"));
            ip(&format!("link set {name} up"));
        }
        // Before the kernel has noticed the carrier, datagrams are lost although sends succeed.
        for name in [NEAR, FAR] {
            wait_until("the cable is up", || {
                ip(&format!("-o link show {name}")).contains("state UP")
            });
        }
        test();
    });
}

/// Runs an ignored test again in a process of its own.
pub(crate) fn rerun(test: &str) {
    let mut command = Command::new(env::current_exe().unwrap());
    let output = command.args(["--ignored", "--exact", test]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Takes all capabilities from the calling thread.
pub(crate) fn without_rights() {
    for set in [caps::CapSet::Effective, caps::CapSet::Permitted] {
        caps::clear(None, set).unwrap();
    }
}

/// Waits until everything sent on the loopback, and the answers, are delivered.
pub(crate) fn settle() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..2 {
        socket.send_to(b"settled", socket.local_addr().unwrap()).unwrap();
        socket.recv(&mut [0; 16]).unwrap();
    }
}

/// Runs the `ip` command in the namespace of the thread, and returns what it prints.
pub(crate) fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

/// Runs the `tc` command in the namespace of the thread.
pub(crate) fn tc(arguments: &str) {
    run("tc", arguments);
}

/// Whether nftables' command is missing, so that the test is skipped; it fails in CI.
pub(crate) fn lacks_nft() -> bool {
    let is_missing = Command::new("nft").arg("--version").output().is_err();
    if is_missing {
        assert!(env::var_os("CI").is_none(), "CI must have nft");
        writeln!(stderr(), "skipped: nft is missing").unwrap();
    }
    is_missing
}

/// Runs the `nft` command in the namespace of the thread.
pub(crate) fn nft(arguments: &str) {
    run("nft", arguments);
}

fn run(command: &str, arguments: &str) -> String {
    let output = Command::new(command).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{command} {arguments}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The interface with this name.
pub(crate) fn interface(name: &str) -> InterfaceRef<'_> {
    InterfaceRef { index: nix::net::if_::if_nametoindex(name).unwrap(), name }
}

/// Waits until the condition holds, for a few seconds at most.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::yield_now();
    }
}

/// Waits until `read` gives this. What a test closes can stay open for a moment: a command that a
/// neighbouring test starts has copies of all descriptors until it executes its program.
pub(crate) fn wait_for<T: PartialEq + Debug>(expected: T, mut read: impl FnMut() -> T) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let seen = read();
        if seen == expected {
            return;
        }
        assert!(Instant::now() < deadline, "expected {expected:?}, still {seen:?}");
        thread::yield_now();
    }
}

/// Lets the thread run on any CPU, to send traffic in parallel with the test.
pub(crate) fn run_on_any_cpu() {
    let mut cpus = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        cpus.set(cpu).unwrap();
    }
    sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
}

fn stay_on_this_cpu() {
    let mut cpus = CpuSet::new();
    cpus.set(sched_getcpu().unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
}
