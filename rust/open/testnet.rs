//! Network namespaces for tests: each test thread gets its own, which ends with it.

use std::io::{Write, stderr};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use super::InterfaceRef;

/// Both ends of the cable that [`with_cable`] lays.
pub(crate) const NEAR: &str = "near0";
pub(crate) const FAR: &str = "far0";

/// Runs the test in a namespace of its own, whose loopback is up; says so where it may not.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let body = || {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            writeln!(stderr(), "skipped: no network namespace may be made here ({errno})").unwrap();
            return;
        }
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
        test();
    });
}

/// Runs the `ip` command in the namespace of the thread.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).stdin(Stdio::null()).status();
    assert!(status.unwrap().success(), "ip {arguments}");
}

/// The interface of this name.
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
