//! How long the parser takes a frame: plain frames whose checksum is trusted, and verification.
//!
//! The frames of one benchmark differ in addresses and ports and are read in turn, so that the
//! processor cannot learn one frame by heart; together they stay within its first cache.

use std::hint::black_box;
use std::time::Instant;

use _native::packet::{ChecksumState, FrameMeta, parse};
use criterion::{Criterion, Throughput};
use etherparse::PacketBuilder;

/// Frames of a benchmark.
const FRAMES: u8 = 16;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let short = [0x5a; 64];
    let full = [0x5a; 1400];
    measure(&mut criterion, "ipv4 trusted", ChecksumState::Trusted, &v4_frames(&short));
    measure(&mut criterion, "ipv6 trusted", ChecksumState::Trusted, &v6_frames(&short));
    measure(&mut criterion, "ipv4 verified 64", ChecksumState::Unverified, &v4_frames(&short));
    measure(&mut criterion, "ipv4 verified 1400", ChecksumState::Unverified, &v4_frames(&full));
    measure(&mut criterion, "ipv6 verified 1400", ChecksumState::Unverified, &v6_frames(&full));
    criterion.final_summary();
}

fn measure(criterion: &mut Criterion, name: &str, checksum: ChecksumState, frames: &[Vec<u8>]) {
    let meta = black_box(FrameMeta { vlan: None, checksum, segment_size: 0 });
    assert!(frames.iter().all(|frame| parse(frame, meta).is_ok()), "every frame is valid");
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let start = Instant::now();
            for (_, frame) in (0..iterations).zip(frames.iter().cycle()) {
                black_box(&parse(frame, meta));
            }
            start.elapsed()
        });
    });
    group.finish();
}

fn v4_frames(payload: &[u8]) -> Vec<Vec<u8>> {
    (0..FRAMES)
        .map(|number| {
            let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [1, 0, 0x5e, 1, 1, number])
                .ipv4([10, 0, 0, 5], [239, 1, 1, number], 9)
                .udp(40_000, 5000 + u16::from(number));
            let mut frame = vec![0; builder.size(payload.len())];
            assert!(builder.write_to_slice(&mut frame, payload).is_ok(), "the frame is built");
            frame
        })
        .collect()
}

fn v6_frames(payload: &[u8]) -> Vec<Vec<u8>> {
    let source = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    (0..FRAMES)
        .map(|number| {
            let group = [0xff, 0x3e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number];
            let builder =
                PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [0x33, 0x33, 0, 0, 0, number])
                    .ipv6(source, group, 9)
                    .udp(40_000, 5000 + u16::from(number));
            let mut frame = vec![0; builder.size(payload.len())];
            assert!(builder.write_to_slice(&mut frame, payload).is_ok(), "the frame is built");
            frame
        })
        .collect()
}
