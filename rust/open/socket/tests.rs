//! Limits and rights, in processes of their own: both belong to the whole process.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use std::os::fd::AsFd;

use super::*;

/// Runs one of the tests below again, as a process that is prepared by `prepare`.
fn again(test: &str, prepare: impl FnOnce(&mut Command)) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", &format!("open::socket::tests::{test}")]);
    prepare(&mut command);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn descriptors_are_made_room_for() {
    again("in_a_process_with_few_descriptors", |_| {});
}

#[test]
fn a_missing_right_is_named() {
    again("in_a_process_without_rights", |command| {
        if nix::unistd::geteuid().is_root() {
            command.uid(65534);
        }
    });
}

#[test]
#[ignore = "run by descriptors_are_made_room_for, in a process of its own"]
fn in_a_process_with_few_descriptors() {
    setrlimit(Resource::RLIMIT_NOFILE, 24, 60).unwrap();
    let mut sockets = Vec::new();
    let error = loop {
        match open(libc::AF_INET, libc::SOCK_DGRAM, "a test") {
            Ok(socket) => sockets.push(socket),
            Err(error) => break error.to_string(),
        }
    };
    assert!(sockets.len() > 40, "{}", sockets.len());
    assert!(error.contains("all 60 descriptors") && error.contains("hard limit is 60"), "{error}");
}

#[test]
#[ignore = "run by a_missing_right_is_named, in a process of its own"]
fn in_a_process_without_rights() {
    let error = open(libc::AF_PACKET, libc::SOCK_RAW, "lo").unwrap_err();
    assert!(matches!(error, Error::Permission(_)));
    assert!(error.to_string().starts_with("CAP_NET_RAW is missing"), "{error}");

    let socket = open(libc::AF_INET, libc::SOCK_DGRAM, "a test").unwrap();
    let bytes = receive_buffer(socket.as_fd(), 1 << 30, "a test").unwrap();
    assert!(bytes < 1 << 30, "net.core.rmem_max holds without CAP_NET_ADMIN");
}
