//! What the reader of a ring gets, whatever the writer does meanwhile.

use std::os::fd::OwnedFd;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::packet::Discard;
use crate::stats::Loss;
use crate::sys::memory::SharedWords;

fn memory(words: usize) -> OwnedFd {
    SharedWords::create(words).unwrap().fd().try_clone_to_owned().unwrap()
}

fn ring(words: usize) -> (RingWriter, RingReader) {
    let fd = memory(words);
    (RingWriter::open(fd.try_clone().unwrap()).unwrap(), RingReader::open(fd).unwrap())
}

fn record(datagram: u64) -> TapRecord {
    TapRecord {
        sequence: 0,
        time_ns: 1,
        arrived_ns: 2,
        datagram,
        rule: 0xffff_1234_5678,
        rules: 3,
        step: Step::Lost(Loss::TooBig),
        output: Some(7),
        errno: 90,
        ifindex: 5,
        frame_len: 1000,
    }
}

fn low_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

#[test]
fn records_are_read_as_they_were_written() {
    let (writer, mut reader) = ring(MIN_RING_WORDS);
    let steps = Discard::ALL.map(Step::Discarded).into_iter().chain(Loss::ALL.map(Step::Lost));
    let unnamed = [false, true].map(|is_copy| Step::Unnamed { is_copy });
    let others = [Step::Matched, Step::Sent].into_iter().chain(unnamed);
    let steps: Vec<Step> = steps.chain(others).collect();
    for (number, step) in (0..).zip(&steps) {
        let output = (number % 2 == 1).then_some(4);
        let written = TapRecord { step: *step, output, ..record(number) };
        writer.write(written, &[7; 100], 33);
        let expected = TapRecord { sequence: number, ..written };
        assert_eq!(reader.read(), Some((expected, vec![7; 33])));
    }
    assert_eq!((reader.read(), reader.lost()), (None, 0));
}

#[test]
fn the_longest_frame_fits_the_smallest_ring_again_and_again() {
    let (writer, mut reader) = ring(MIN_RING_WORDS);
    for number in 0..50 {
        writer.write(record(number), &vec![low_byte(number); RECORD_BYTES], u32::MAX);
        let (read, bytes) = reader.read().unwrap();
        assert_eq!((read.datagram, bytes.len()), (number, RECORD_BYTES));
        assert!(bytes.iter().all(|byte| *byte == low_byte(number)));
    }
}

#[test]
fn what_was_overwritten_is_counted() {
    let (writer, mut reader) = ring(MIN_RING_WORDS);
    let total = 20_000;
    (0..total).for_each(|number| writer.write(record(number), &[0; 60], 60));
    let mut read = 0;
    while let Some((record, _)) = reader.read() {
        assert_eq!(record.datagram, record.sequence);
        read += 1;
    }
    assert!(read > 500, "half of the ring is left: {read}");
    assert_eq!(read + reader.lost(), total);
}

#[test]
fn a_later_writer_continues() {
    let fd = memory(MIN_RING_WORDS);
    let mut reader = RingReader::open(fd.try_clone().unwrap()).unwrap();
    for number in 0..3 {
        let writer = RingWriter::open(fd.try_clone().unwrap()).unwrap();
        writer.write(record(number), b"frame", 100);
    }
    let read: Vec<u64> = std::iter::from_fn(|| reader.read()).map(|(it, _)| it.sequence).collect();
    assert_eq!((read, reader.lost()), (vec![0, 1, 2], 0));
}

#[test]
fn a_slow_reader_never_gets_half_a_record() {
    let (writer, mut reader) = ring(MIN_RING_WORDS);
    let total = 200_000;
    let writing = thread::spawn(move || {
        for number in 0..total {
            let bytes = [low_byte(number); 96];
            writer.write(record(number), &bytes, 96);
        }
    });
    let mut read = 0;
    while !writing.is_finished() {
        while let Some((record, bytes)) = reader.read() {
            assert_eq!(bytes, [low_byte(record.datagram); 96]);
            read += 1;
        }
    }
    writing.join().unwrap();
    read += std::iter::from_fn(|| reader.read()).count() as u64;
    assert_eq!(read + reader.lost(), total);
}

#[test]
fn memory_that_is_no_ring_is_refused() {
    assert!(RingWriter::open(memory(100)).is_err());
    assert!(RingReader::open(memory(100)).is_err());
}

proptest! {
    /// A compromised worker may write anything.
    #[test]
    fn any_words_are_harmless(header in prop::collection::vec(any::<u64>(), 8), fill in any::<u64>()) {
        let fd = memory(MIN_RING_WORDS);
        let words = SharedWords::open(fd.try_clone().unwrap()).unwrap();
        let cells = words.words();
        cells.iter().for_each(|cell| cell.store(fill, std::sync::atomic::Ordering::Relaxed));
        for (cell, word) in cells.iter().zip(header) {
            cell.store(word, std::sync::atomic::Ordering::Relaxed);
        }
        let mut reader = RingReader::open(fd).unwrap();
        (0..10).for_each(|_| drop(reader.read()));
    }
}
