#!/usr/bin/env bash
# vban 0.1.0-alpha1 (crates.io) refuses each packet of a VBAN sender. It wants bit 3 of the format
# byte to be set, which is reserved and 0, and has an error for all others. Who sets the bit before
# handing a packet over finds the frame numbers with their bytes reversed: 1 is 16777216, and two
# frames in a row look like a gap of 16 million.
# VBAN protocol specification, "Data Format": bits 0 to 2 are the data type, bit 3 is reserved (0),
# bits 4 to 7 the codec. The frame number is little-endian, as pyvban 0.1.1 (PyPI) has it too.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Rust and crates.io.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "needs-the-reserved-bit"
version = "0.0.0"
edition = "2021"

[dependencies]
vban = "=0.1.0-alpha1"
TOML
cat >src/main.rs <<'RUST'
use std::convert::TryFrom;
use vban::{Error, Packet};

const RESERVED: u8 = 0x08;
const SIGNED_16_BIT: u8 = 1;
const RATE_48000: u8 = 3;

/// A packet of one stereo sample, PCM.
fn build(format: u8, frame: u32) -> Vec<u8> {
    let mut packet = b"VBAN".to_vec();
    packet.extend([RATE_48000, 0, 1, format]);
    packet.extend(b"stage\0\0\0\0\0\0\0\0\0\0\0");
    packet.extend(frame.to_le_bytes());
    packet.extend([0; 4]);
    packet
}

fn read(packet: &[u8]) -> Result<u32, &'static str> {
    match Packet::try_from(packet) {
        Ok(found) => Ok(found.header().frame_number()),
        Err(Error::MalformedFormat) => Err("malformed format"),
        Err(Error::MissingMagicNumber) => Err("missing magic number"),
    }
}

fn main() {
    let sent = read(&build(SIGNED_16_BIT, 1));
    let changed = [1, 2].map(|frame| read(&build(SIGNED_16_BIT | RESERVED, frame)));
    println!("frame 1 as it is sent: {sent:?}");
    println!("frames 1 and 2 with the reserved bit: {changed:?}");
    let is_so = sent == Err("malformed format") && changed == [Ok(1 << 24), Ok(2 << 24)];
    std::process::exit(i32::from(!is_so));
}
RUST
nice cargo run --quiet
