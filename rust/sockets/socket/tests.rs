//! Privileges, tested in a process of its own because they belong to the whole process.

use std::os::fd::AsFd;

use nix::unistd::{Uid, geteuid, setuid};

use super::*;
use crate::sockets::testnet::rerun;

#[test]
fn a_missing_privilege_is_named() {
    rerun("sockets::socket::tests::process_without_privileges");
}

#[test]
#[ignore = "run by a_missing_privilege_is_named, in a process of its own"]
fn process_without_privileges() {
    // Not before the program begins: another user may not be able to execute it below /root.
    if geteuid().is_root() {
        setuid(Uid::from_raw(65534)).unwrap();
    }
    let error = open(libc::AF_PACKET, libc::SOCK_RAW, "lo").unwrap_err();
    assert!(matches!(error, Error::Permission(_)));
    assert!(error.to_string().starts_with("CAP_NET_RAW is missing"), "{error}");

    let socket = open(libc::AF_INET, libc::SOCK_DGRAM, "a test").unwrap();
    let bytes = receive_buffer(socket.as_fd(), 1 << 30, "a test").unwrap();
    assert!(bytes < 1 << 30, "net.core.rmem_max holds without CAP_NET_ADMIN");
}
