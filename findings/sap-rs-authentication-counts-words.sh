#!/usr/bin/env bash
# sap-rs 0.9.0 (crates.io) takes the length of a session announcement's authentication data as
# bytes. It counts words of four bytes, so three quarters of the signature stay in front of what
# follows: a signed announcement has a payload type of binary rubbish that ends in
# "application/sdp", and one that leaves the payload type out, as it may, is an error. With
# "auth_data" the package writes the wrong length itself, so its two sides understand each other,
# and nobody else does.
# RFC 2974, section 6, "Authentication Length": the number of 32 bit words behind the header.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Rust and crates.io.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "authentication-counts-words"
version = "0.0.0"
edition = "2021"

[dependencies]
sap-rs = "=0.9.0"
TOML
cat >src/main.rs <<'RUST'
use sap_rs::{decode_sap, encode_sap};

const DESCRIPTION: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=news\r\nt=0 0\r\n";
const WORD: usize = 4;
/// Version 1, no padding, CMS, then the signature; as long as an ECDSA one.
const AUTHENTICATION: [u8; 64] = {
    let mut data = [0xAB; 64];
    data[0] = 0x21;
    data
};

fn announce(authentication: &[u8], payload_type: &str) -> Vec<u8> {
    let mut message = vec![0x20, (authentication.len() / WORD) as u8, 0x12, 0x34, 192, 0, 2, 1];
    message.extend(authentication);
    message.extend(payload_type.as_bytes());
    message.extend(DESCRIPTION.as_bytes());
    message
}

/// The payload type, if the message is read.
fn read(message: &[u8]) -> Result<Option<String>, String> {
    match decode_sap(message) {
        Ok(found) => Ok(found.payload_type),
        Err(error) => Err(error.to_string()),
    }
}

fn main() {
    let plain = announce(&[], "application/sdp\0");
    let signed = read(&announce(&AUTHENTICATION, "application/sdp\0"));
    let short = read(&announce(&AUTHENTICATION, ""));
    let mut own = decode_sap(&plain).expect("a plain announcement is read");
    own.auth_data = Some("!".repeat(AUTHENTICATION.len()));
    let own = encode_sap(&own);
    println!("unsigned: {:?}", read(&plain));
    println!("unsigned, no payload type: {:?}", read(&announce(&[], "")));
    println!("signed: {signed:?}");
    println!("signed, no payload type: {short:?}");
    println!("length written for 64 bytes: {}, meant: {}", own[1], AUTHENTICATION.len() / WORD);
    let right = Ok(Some("application/sdp".into()));
    let is_so = read(&plain) == right
        && read(&announce(&[], "")) == Ok(None)
        && signed.is_ok_and(|one| one.is_some_and(|one| one.len() > 40))
        && short.is_err()
        && usize::from(own[1]) == AUTHENTICATION.len()
        && read(&own) == right;
    std::process::exit(i32::from(!is_so));
}
RUST
nice cargo run --quiet
