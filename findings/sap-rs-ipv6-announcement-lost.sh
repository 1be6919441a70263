#!/usr/bin/env bash
# sap-rs 0.9.0 (crates.io) looks for the address type of a session announcement one bit beside its
# place, at the reserved bit. It never sees an IPv6 source: the first four bytes of the address
# become an IPv4 source, the other twelve the beginning of the description, which then is not one.
# Every announcement of an IPv6 sender is an error in the log, those of its own encoder too, which
# sets the right bit.
# RFC 2974, section 6: behind the three bits of the version comes A, 1 for an IPv6 source of 128
# bits, and behind that R, which announcers set to 0.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Rust and crates.io.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "ipv6-announcement-lost"
version = "0.0.0"
edition = "2021"

[dependencies]
sap-rs = "=0.9.0"
sdp = "=0.17.2"
TOML
cat >src/main.rs <<'RUST'
use sap_rs::{decode_sap, encode_sap, SessionAnnouncement};
use sdp::SessionDescription;
use std::io::Cursor;

const ADDRESS_TYPE: u8 = 0x10;

fn announce(source: &str) -> Vec<u8> {
    let family = if source.contains(':') { "IP6" } else { "IP4" };
    let text = format!("v=0\r\no=- 1 1 IN {family} {source}\r\ns=news\r\nt=0 0\r\n");
    let description = SessionDescription::unmarshal(&mut Cursor::new(text)).expect("valid SDP");
    encode_sap(&SessionAnnouncement::new(description).expect("an address as source"))
}

fn read(message: &[u8]) -> Result<String, String> {
    match decode_sap(message) {
        Ok(found) => Ok(found.originating_source.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn main() {
    let (ipv4, ipv6) = (announce("192.0.2.1"), announce("2001:db8::1"));
    println!("IPv4: {:?}", read(&ipv4));
    println!("IPv6: {:?}", read(&ipv6));
    let is_right_bit_written = ipv4[0] & ADDRESS_TYPE == 0 && ipv6[0] & ADDRESS_TYPE != 0;
    let is_so = is_right_bit_written
        && read(&ipv4) == Ok("192.0.2.1".into())
        && read(&ipv6).is_err();
    std::process::exit(i32::from(!is_so));
}
RUST
nice cargo run --quiet
