#!/usr/bin/env bash
# mpeg2ts 0.6.1 (crates.io) makes an error of each packet whose PID no table has named yet. Who joins
# a multicast midway begins with such packets, and PIDs that no PMT lists never end. The error also
# leaves the reader inside the packet, behind its header: who goes on gets up to 184 more errors for
# the rest of it, and where this rest looks like a header, a packet that was never sent and swallows
# half of the next one. If each picture has such a spot, it never finds back to the tables.
# ISO/IEC 13818-1, section 2.4.4: a decoder finds its PIDs in the tables, which repeat; what precedes
# them, and the PIDs that they do not name, it skips.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Rust and crates.io.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "unlisted-pid"
version = "0.0.0"
edition = "2021"

[dependencies]
mpeg2ts = "=0.6.1"
TOML
cat >src/main.rs <<'RUST'
use mpeg2ts::ts::{ReadTsPacket, TsPacketReader};

const PACKET: usize = 188;
const PMT: u16 = 0x1000;
const VIDEO: u16 = 0x100;
const SERVICES: u16 = 0x11;

fn crc32(data: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte) << 24;
        for _ in 0..8 {
            let polynomial = if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 };
            crc = crc << 1 ^ polynomial;
        }
    }
    crc.to_be_bytes()
}

fn build_packet(pid: u16, starts: bool, counter: u8, payload: &[u8]) -> Vec<u8> {
    let start = if starts { 0x4000 } else { 0 };
    let mut packet = vec![0x47];
    packet.extend((start | pid).to_be_bytes());
    packet.push(0x10 | counter);
    packet.extend(payload);
    packet.resize(PACKET, 0xff);
    packet
}

fn build_table(pid: u16, counter: u8, table: u8, number: u16, entries: &[u8]) -> Vec<u8> {
    let mut section = vec![table];
    section.extend((0xb000 | (9 + entries.len() as u16)).to_be_bytes());
    section.extend(number.to_be_bytes());
    section.extend([0xc1, 0, 0]);
    section.extend(entries);
    section.extend(crc32(&section));
    section.insert(0, 0);
    build_packet(pid, true, counter, &section)
}

/// PAT, PMT and a picture of `parts` packets, with `bytes` somewhere in each.
fn build_round(counter: u8, parts: u8, bytes: &[u8]) -> Vec<u8> {
    let mut pat = 1u16.to_be_bytes().to_vec();
    pat.extend((0xe000 | PMT).to_be_bytes());
    let mut pmt = (0xe000 | VIDEO).to_be_bytes().to_vec();
    pmt.extend([0xf0, 0, 2]);
    pmt.extend((0xe000 | VIDEO).to_be_bytes());
    pmt.extend([0xf0, 0]);
    let mut packets = build_table(0, counter, 0, 1, &pat);
    packets.extend(build_table(PMT, counter, 2, 1, &pmt));
    for part in 0..parts {
        let mut picture = vec![0x55; 184];
        if part == 0 {
            picture[..9].copy_from_slice(&[0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0]);
        }
        picture[100..100 + bytes.len()].copy_from_slice(bytes);
        packets.extend(build_packet(VIDEO, part == 0, (counter * parts + part) & 15, &picture));
    }
    packets
}

/// Packets read, those of the service table among them, and errors.
fn read(stream: &[u8]) -> (usize, usize, usize) {
    let mut reader = TsPacketReader::new(stream);
    let (mut packets, mut services, mut errors) = (0, 0, 0);
    loop {
        match reader.read_ts_packet() {
            Ok(Some(packet)) => {
                packets += 1;
                services += usize::from(packet.header.pid.as_u16() == SERVICES);
            }
            Ok(None) => return (packets, services, errors),
            Err(_) => errors += 1,
        }
    }
}

fn main() {
    let looks_like_a_header = [0x47, 0, SERVICES as u8, 0x10];
    let read_both = |bytes: &[u8]| {
        let stream: Vec<u8> = (0..10).flat_map(|round| build_round(round, 3, bytes)).collect();
        (read(&stream), read(&stream[4 * PACKET..]))
    };
    let (whole, midway) = read_both(&[]);
    let (also_whole, astray) = read_both(&looks_like_a_header);
    println!("(packets, service tables, errors)");
    println!("from the first table on, 50 packets:  {whole:?}");
    println!("joined one packet before the tables:  {midway:?}");
    println!("the same, a header in each picture:    {astray:?}");
    let is_still_so = whole == (50, 0, 0)
        && also_whole == whole
        && midway == (45, 0, 1 + 184)
        && astray.0 == astray.1
        && astray.2 > 1000;
    std::process::exit(i32::from(!is_still_so));
}
RUST
nice cargo run --quiet
