#!/usr/bin/env bash
# sdp-rs 0.2.1 (crates.io) reads the number behind an IPv6 group as a TTL. There it is the number of
# groups: "ff3e::8000:1/3" stands for three groups in a row, the layers of one stream, and the
# package gives one group with a TTL of 3. A receiver that joins what it is told gets the base layer
# only; a sender that takes the number for its hop limit reaches two routers. With IPv4 both are
# right.
# RFC 8866, section 5.7: "IPv6 multicast does not use TTL scoping", so no TTL may be there, and the
# number behind the slash counts the addresses.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Rust and crates.io.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "ipv6-count-read-as-ttl"
version = "0.0.0"
edition = "2021"

[dependencies]
sdp-rs = "=0.2.1"
TOML
cat >src/main.rs <<'RUST'
use sdp_rs::SessionDescription;
use std::convert::TryFrom;

/// The TTL and the number of addresses that are read from a connection line.
fn read(connection: &str) -> Option<(Option<u32>, Option<u32>)> {
    let lines = ["v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=layers", connection, "t=0 0", ""];
    let description = SessionDescription::try_from(lines.join("\r\n").as_str()).ok()?;
    let address = description.connection?.connection_address;
    Some((address.ttl, address.numaddr))
}

fn main() {
    let ipv4 = read("c=IN IP4 233.252.0.1/127/3");
    let ipv6 = read("c=IN IP6 ff3e::8000:1/3");
    println!("three groups, IPv4, TTL 127: (TTL, number) = {ipv4:?}");
    println!("three groups, IPv6:          (TTL, number) = {ipv6:?}, meant: Some((None, Some(3)))");
    let is_so = ipv4 == Some((Some(127), Some(3))) && ipv6 == Some((Some(3), None));
    std::process::exit(i32::from(!is_so));
}
RUST
nice cargo run --quiet
