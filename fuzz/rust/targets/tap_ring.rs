//! The ring of a tap: whatever a writer, or whoever has taken it over, has put there, its reader ends
//! and finds only records. Of a ring that nobody else writes to, it finds each record or counts it as
//! lost.
#![no_main]

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use _native::sys::memory::SharedWords;
use _native::tap::{MIN_RING_WORDS, RECORD_BYTES, RingReader, RingWriter, Step, TapRecord};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Event<'a> {
    Write { frame: &'a [u8], repeats: u8, kept: u32, rule: u64, output: Option<u16> },
    Read { most: u8 },
    Damage { place: u16, word: u64 },
}

fuzz_target!(|events: Vec<Event<'_>>| {
    let words = SharedWords::create(MIN_RING_WORDS).expect("memory for the ring");
    let fd = || words.fd().try_clone_to_owned().expect("a descriptor");
    let writer = RingWriter::open(fd()).expect("a ring");
    let mut reader = RingReader::open(fd()).expect("a ring");
    let (mut unread, mut is_damaged) = (VecDeque::new(), false);
    let mut written = 0_u64;
    for event in events {
        match event {
            Event::Write { frame, repeats, kept, rule, output } => {
                let frame = frame.repeat(repeats.into());
                let record = record(rule, output, frame.len());
                writer.write(record, &frame, kept);
                let kept = usize::try_from(kept).unwrap_or(RECORD_BYTES);
                let kept = frame.len().min(kept).min(RECORD_BYTES);
                unread.push_back((written, record.rule, record.output, frame[..kept].to_vec()));
                written += 1;
            }
            Event::Read { most } => {
                for _ in 0..most {
                    let Some((record, bytes)) = reader.read() else { break };
                    if is_damaged {
                        continue;
                    }
                    while unread.front().is_some_and(|(number, ..)| *number < record.sequence) {
                        unread.pop_front();
                    }
                    let known = unread.pop_front();
                    assert_eq!(known, Some((record.sequence, record.rule, record.output, bytes)));
                }
            }
            Event::Damage { place, word } => {
                is_damaged = true;
                words.words()[usize::from(place) % 4096].store(word, Ordering::Relaxed);
            }
        }
    }
    let mut left = 0_u64;
    while reader.read().is_some() {
        left += 1;
        assert!(left <= words.words().len() as u64, "the reader does not end");
    }
});

fn record(rule: u64, output: Option<u16>, bytes: usize) -> TapRecord {
    TapRecord {
        sequence: 0,
        time_ns: 1,
        arrived_ns: 2,
        datagram: 3,
        rule: rule >> 16,
        rules: 1,
        step: Step::Matched,
        output: output.filter(|&output| output != u16::MAX),
        errno: 0,
        ifindex: 4,
        frame_len: u32::try_from(bytes).unwrap_or(u32::MAX),
    }
}
