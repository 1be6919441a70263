#!/usr/bin/env bash
# smpte2022-1-fec 0.3.0 (crates.io) gives a recovered packet the right payload under a wrong header.
# It adds 12 to the parity's timestamp, so the packet's is off by a few ticks or by thousands. Payload
# type and SSRC are the exclusive or of the packets that arrived: of an even number, as in a row of
# five, both are 0. A receiver drops the packet as one of another stream or format, or its jitter
# jumps, whenever the protection has worked.
# SMPTE 2022-1 builds on RFC 2733; section 8 there: timestamp and payload type come from the recovery
# fields of the parity, the SSRC from the media stream.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Rust and crates.io.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "recovered-header"
version = "0.0.0"
edition = "2021"

[dependencies]
smpte2022-1-fec = "=0.3.0"
TOML
cat >src/main.rs <<'RUST'
use smpte2022_1_fec::{heap_pool, BufferPool, Decoder, Packet, PacketStatus, Receiver};
use std::{cell::RefCell, rc::Rc};

const COLUMNS: u16 = 5;
const ROWS: u16 = 4;
const BLOCK: u16 = COLUMNS * ROWS;
const MP2T: u8 = 33;
const PARITY: u8 = 96;
const SSRC: u32 = 0x1234_5678;

fn timestamp(number: u16) -> u32 {
    900_000 + u32::from(number) * 631
}

fn payload(number: u16) -> Vec<u8> {
    (0..1316).map(|at: u16| (at * 7 + number * 31) as u8).collect()
}

fn build_rtp(kind: u8, number: u16, stamp: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, kind];
    packet.extend(number.to_be_bytes());
    packet.extend(stamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

fn build_media(number: u16) -> Vec<u8> {
    build_rtp(MP2T, number, timestamp(number), SSRC, &payload(number))
}

/// Parity of `count` media packets, `offset` numbers apart, from `base` on.
fn build_parity(is_row: bool, number: u16, base: u16, offset: u16, count: u16) -> Vec<u8> {
    let members = (0..count).map(|index| base + index * offset);
    let (mut kind, mut length, mut stamp, mut parity) = (0, 0, 0, vec![0; 1316]);
    for member in members {
        let bytes = payload(member);
        kind ^= MP2T;
        length ^= bytes.len() as u16;
        stamp ^= timestamp(member);
        parity.iter_mut().zip(bytes).for_each(|(sum, byte)| *sum ^= byte);
    }
    let mut header = base.to_be_bytes().to_vec();
    header.extend(length.to_be_bytes());
    header.extend([0x80 | kind, 0, 0, 0]);
    header.extend(stamp.to_be_bytes());
    header.extend([if is_row { 0x40 } else { 0 }, offset as u8, count as u8, 0]);
    header.extend(parity);
    build_rtp(PARITY, number, timestamp(base), 0, &header)
}

struct Recovered(Rc<RefCell<Vec<Vec<u8>>>>);

impl<P: Packet> Receiver<P> for Recovered {
    fn receive(&mut self, packets: impl Iterator<Item = (P, PacketStatus)>) {
        let recovered = packets.filter(|(_, status)| *status == PacketStatus::Recovered);
        self.0.borrow_mut().extend(recovered.map(|(packet, _)| packet.payload().to_vec()));
    }
}

/// The packet that the decoder makes of `lost`, from its row's or its column's parity.
fn recover(lost: u16, by_row: bool) -> Vec<u8> {
    let pool = heap_pool::HeapPool::new(200, 1500);
    let allocate = |bytes: &[u8]| {
        let mut packet = pool.allocate().unwrap();
        packet.truncate(bytes.len());
        packet.payload_mut().copy_from_slice(bytes);
        std::iter::once(packet)
    };
    let found = Rc::new(RefCell::new(Vec::new()));
    let decoder_pool = heap_pool::HeapPool::new(50, 1500);
    let mut decoder = Decoder::new(decoder_pool, Recovered(found.clone()));
    for number in 0..4 * BLOCK {
        if number == BLOCK {
            let geometry = build_parity(false, 0, 0, COLUMNS, ROWS);
            decoder.add_column_packets(allocate(&geometry)).unwrap();
        }
        if number != lost {
            decoder.add_main_packets(allocate(&build_media(number))).unwrap();
        }
        if number == 2 * BLOCK - 1 && by_row {
            let base = lost - lost % COLUMNS;
            let parity = build_parity(true, 0, base, 1, COLUMNS);
            decoder.add_row_packets(allocate(&parity)).unwrap();
        } else if number == 2 * BLOCK - 1 {
            let base = BLOCK + lost % COLUMNS;
            let parity = build_parity(false, 1, base, COLUMNS, ROWS);
            decoder.add_column_packets(allocate(&parity)).unwrap();
        }
    }
    let recovered = found.borrow();
    assert_eq!(recovered.len(), 1);
    recovered[0].clone()
}

fn describe(packet: &[u8]) -> (u8, u32, u32) {
    let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
    (packet[1] & 0x7f, word(4), word(8))
}

fn main() {
    let lost = BLOCK + 7;
    let (by_row, by_column) = (recover(lost, true), recover(lost, false));
    assert_eq!((&by_row[12..], &by_column[12..]), (&payload(lost)[..], &payload(lost)[..]));
    let sent = describe(&build_media(lost));
    println!("(payload type, timestamp, SSRC) sent: {sent:?}");
    println!("recovered from a row of {COLUMNS}: {:?}", describe(&by_row));
    println!("recovered from a column of {ROWS}: {:?}", describe(&by_column));
    let (row, column) = (describe(&by_row), describe(&by_column));
    let is_row_wrong = row.0 == 0 && row.1 != sent.1 && row.2 == 0;
    let is_column_wrong = column.0 == sent.0 && column.1 != sent.1 && column.2 == sent.2;
    std::process::exit(i32::from(!(is_row_wrong && is_column_wrong)));
}
RUST
nice cargo run --quiet
