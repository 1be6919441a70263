#!/usr/bin/env bash
# scte35 0.2.0 (crates.io) reads three commands in a layout that is not the standard's. An empty
# bandwidth_reservation(), which encoders send to keep the rate of the PID, is an error: five bytes
# are taken from what follows. So is a private_command(), as two bytes of its identifier are taken
# and the third for a length. A splice_schedule() is read without its count of events: it comes out
# with the identifier and flags of no event and without its time, and only a warning says that its
# length is odd.
# SCTE 35, syntax of the commands: bandwidth_reservation() has no fields; private_command() begins
# with an identifier of 32 bits and has no length of its own; splice_schedule() begins with
# splice_count.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Rust and crates.io.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "commands-in-another-layout"
version = "0.0.0"
edition = "2021"

[dependencies]
scte35 = "=0.2.0"
TOML
cat >src/main.rs <<'RUST'
use scte35::{parse_splice_info_section, SpliceCommand, SpliceInfoSection};

const SPLICE_NULL: u8 = 0;
const SPLICE_SCHEDULE: u8 = 4;
const BANDWIDTH_RESERVATION: u8 = 7;
const PRIVATE_COMMAND: u8 = 0xff;
const EVENT: u32 = 0x77;
const TIME: u32 = 1_400_000_000;

fn checksum(data: &[u8]) -> [u8; 4] {
    let step = |crc: u32, _| crc << 1 ^ (crc >> 31) * 0x04C1_1DB7;
    let add = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte) << 24, step);
    data.iter().fold(u32::MAX, add).to_be_bytes()
}

fn build(kind: u8, command: &[u8]) -> Vec<u8> {
    let length = command.len() as u8;
    let mut section = vec![0xfc, 0x30, 17 + length, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xf0, length, kind];
    section.extend(command);
    section.extend([0, 0]);
    section.extend(checksum(&section));
    section
}

/// A schedule of one event of a whole programme, without a duration.
fn schedule() -> Vec<u8> {
    let mut command = vec![1];
    command.extend(EVENT.to_be_bytes());
    command.extend([0x7f, 0xdf]);
    command.extend(TIME.to_be_bytes());
    command.extend([0, 1, 0, 0]);
    command
}

fn read(kind: u8, command: &[u8]) -> Result<SpliceInfoSection, String> {
    parse_splice_info_section(&build(kind, command)).map_err(|error| error.to_string())
}

fn main() {
    let null = read(SPLICE_NULL, &[]);
    let reservation = read(BANDWIDTH_RESERVATION, &[]);
    let private = read(PRIVATE_COMMAND, b"TEST\x01\x02\x03");
    println!("splice_null: {:?}", null.as_ref().map(|one| &one.splice_command));
    println!("bandwidth_reservation: {:?}", reservation.as_ref().map(|one| &one.splice_command));
    println!("private_command: {:?}", private.as_ref().map(|one| &one.splice_command));
    let found = read(SPLICE_SCHEDULE, &schedule());
    println!("splice_schedule: {:?}", found.as_ref().map(|one| &one.splice_command));
    println!("meant: event {EVENT} at {TIME}");
    let is_schedule_wrong = match found.map(|one| one.splice_command) {
        Ok(SpliceCommand::SpliceSchedule(one)) => {
            one.splice_event_id != EVENT && one.utc_splice_time.is_none()
        }
        _ => false,
    };
    let is_so = null.is_ok() && reservation.is_err() && private.is_err() && is_schedule_wrong;
    std::process::exit(i32::from(!is_so));
}
RUST
nice cargo run --quiet
