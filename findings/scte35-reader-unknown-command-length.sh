#!/usr/bin/env bash
# scte35-reader 0.16.0 (crates.io) drops each SCTE 35 message whose splice_command_length is 0xFFF, as
# "too long". Equipment that follows the first editions of the standard has nothing else in that
# field, and later editions keep the value for it. The message goes to the log only, as an error:
# without a logger the cues of such an encoder are simply not there, and each break is missed.
# SCTE 35, semantics of splice_info_section(): 0xFFF "provides backwards compatibility and shall be
# ignored by downstream equipment"; the command itself tells where it ends.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Rust and crates.io.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "unknown-command-length"
version = "0.0.0"
edition = "2021"

[dependencies]
mpeg2ts-reader = "=0.18.2"
scte35-reader = "=0.16.0"
TOML
cat >src/main.rs <<'RUST'
use mpeg2ts_reader::psi::{SectionCommonHeader, WholeCompactSyntaxPayloadParser};
use mpeg2ts_reader::{demultiplex, packet_filter_switch};
use scte35_reader::{
    Scte35SectionProcessor, SpliceCommand, SpliceDescriptors, SpliceInfoHeader, SpliceInfoProcessor,
};
use std::{cell::RefCell, rc::Rc};

packet_filter_switch! {
    Filter<Context> {
        Null: demultiplex::NullPacketFilter<Context>,
    }
}
mpeg2ts_reader::demux_context!(Context, Filter);
impl Context {
    fn do_construct(&mut self, _: demultiplex::FilterRequest<'_, '_>) -> Filter {
        Filter::Null(Default::default())
    }
}

const TIME_SIGNAL: u8 = 6;
const CUE_TIME: u64 = 90_000 * 3600;

#[derive(Default)]
struct Cues(Rc<RefCell<Vec<String>>>);

impl SpliceInfoProcessor for Cues {
    fn process(&self, _: SpliceInfoHeader<'_>, command: SpliceCommand, _: SpliceDescriptors<'_>) {
        self.0.borrow_mut().push(format!("{command:?}"));
    }
}

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

fn build_time_signal(command_length: u16) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 0, 0, 0];
    body.extend([0xff, 0xf0 | (command_length >> 8) as u8, command_length as u8]);
    body.push(TIME_SIGNAL);
    body.extend((0xfe << 32 | CUE_TIME).to_be_bytes()[3..].iter());
    body.extend([0, 0]);
    let mut section = vec![0xfc];
    section.extend((0x3000 | (body.len() as u16 + 4)).to_be_bytes());
    section.extend(body);
    section.extend(crc32(&section));
    section
}

fn read(section: &[u8]) -> Vec<String> {
    let cues = Rc::default();
    let mut processor = Scte35SectionProcessor::new(Cues(Rc::clone(&cues)));
    let header = SectionCommonHeader::new(&section[..SectionCommonHeader::SIZE]);
    processor.section(&mut Context::new(), &header, section);
    cues.take()
}

fn main() {
    let (known, unknown) = (read(&build_time_signal(5)), read(&build_time_signal(0xfff)));
    println!("length 5:     {known:?}");
    println!("length 0xFFF: {unknown:?}");
    let is_read = known.len() == 1 && known[0].contains(&CUE_TIME.to_string());
    std::process::exit(i32::from(!(is_read && unknown.is_empty())));
}
RUST
nice cargo run --quiet
