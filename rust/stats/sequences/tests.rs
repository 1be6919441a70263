use proptest::prelude::*;

use super::*;

const RTP: SequenceSpec = SequenceSpec::Rtp { clock_hz: 90_000 };

/// The sequence after these datagrams, a millisecond apart.
fn counted(spec: SequenceSpec, datagrams: impl IntoIterator<Item = Vec<u8>>) -> Sequence {
    let mut sequence = told(spec);
    for (at, datagram) in (1..).zip(datagrams) {
        count(&mut sequence, &datagram, at * 1_000_000);
    }
    sequence
}

/// A sequence of which the rule says this.
fn told(spec: SequenceSpec) -> Sequence {
    let mut sequence = Sequence::new();
    sequence.tell(spec);
    sequence
}

/// Counts a datagram in a turn of its own.
fn count(sequence: &mut Sequence, datagram: &[u8], arrival_ns: u64) {
    sequence.count(datagram, datagram.len(), arrival_ns);
    sequence.end_turn();
}

/// Lost, duplicated, reordered, gaps, largest gap and resets.
fn facts(sequence: &Sequence) -> [u64; 6] {
    let at = [
        word::LOST,
        word::DUPLICATED,
        word::REORDERED,
        word::GAPS,
        word::LARGEST_GAP,
        word::RESETS,
    ];
    at.map(|at| sequence.words[at])
}

fn rtp_from(source: u32, number: u16) -> Vec<u8> {
    let mut bytes = vec![0x80, 33];
    bytes.extend(number.to_be_bytes());
    // 90 ticks are a millisecond.
    bytes.extend((u32::from(number) * 90).to_be_bytes());
    bytes.extend(source.to_be_bytes());
    bytes.extend([0; 20]);
    bytes
}

fn rtp(number: u16) -> Vec<u8> {
    rtp_from(7, number)
}

fn mold(session: &[u8; 10], first: u64, messages: u16) -> Vec<u8> {
    let mut bytes = session.to_vec();
    bytes.extend(first.to_be_bytes());
    bytes.extend(messages.to_be_bytes());
    (0..messages).for_each(|_| bytes.extend([0, 3, 1, 2, 3]));
    bytes
}

/// Seven packets of one PID that begin with this one.
fn ts(first: u64) -> Vec<u8> {
    (first..first + 7).flat_map(|number| ts_packet(0x100, 0x10, number)).collect()
}

fn ts_packet(pid: u16, control: u8, number: u64) -> Vec<u8> {
    let [high, low] = pid.to_be_bytes();
    let counter = number.to_le_bytes()[0] & 15;
    let mut packet = vec![0x47, high, low, control | counter];
    packet.extend(number.to_be_bytes());
    packet.resize(188, 0);
    packet
}

#[test]
fn rtp_numbers_wrap_and_gaps_count_until_they_are_filled() {
    let numbers = [65_533, 65_534, 1, 2, 65_535, 2, 3].map(rtp);
    assert_eq!(facts(&counted(RTP, numbers)), [1, 1, 1, 1, 2, 0]);
    let all = (0..=u16::MAX).chain(0..=u16::MAX).chain(0..=u16::MAX).map(rtp);
    assert_eq!(facts(&counted(RTP, all)), [0; 6]);
}

#[test]
fn a_sender_that_begins_anew_is_a_reset_and_one_stray_datagram_is_not() {
    let stray = [1, 2, 3, 30_000, 4, 5].map(rtp);
    let sequence = counted(RTP, stray);
    assert_eq!((facts(&sequence), sequence.words[word::UNFIT]), ([0; 6], 1));
    let anew = [1, 2, 3, 30_000, 30_001, 30_002].map(rtp);
    let sequence = counted(RTP, anew);
    assert_eq!((facts(&sequence), sequence.words[word::UNFIT]), ([0, 0, 0, 0, 0, 1], 0));
    let other = (0..10).map(rtp).chain((5..10).map(|number| rtp_from(8, number)));
    let sequence = counted(RTP, other);
    assert_eq!((facts(&sequence)[5], sequence.words[word::NUMBERED]), (1, 15));
}

#[test]
fn mold_counts_messages_and_heartbeats_show_what_is_missing() {
    let a = b"SESSION001";
    let first = vec![mold(a, 1, 3), mold(a, 4, 2), mold(a, 6, 0), mold(a, 9, 0), mold(a, 9, 1)];
    assert_eq!(facts(&counted(SequenceSpec::Mold, first)), [3, 0, 0, 1, 3, 0]);
    let late = vec![mold(a, 1, 3), mold(a, 6, 2), mold(a, 4, 2), mold(a, 4, 2), mold(a, 7, 2)];
    assert_eq!(facts(&counted(SequenceSpec::Mold, late)), [0, 3, 2, 1, 2, 0]);
    let next = vec![mold(a, 1, 3), mold(b"SESSION002", 1, 2), mold(b"SESSION002", 3, 2)];
    assert_eq!(facts(&counted(SequenceSpec::Mold, next)), [0, 0, 0, 0, 0, 1]);
}

#[test]
fn ts_counters_count_packets_with_a_payload_only() {
    let all = [0, 7, 14, 21].map(ts);
    assert_eq!(facts(&counted(SequenceSpec::Ts, all)), [0; 6]);
    let gap = [0, 7, 21].map(ts);
    assert_eq!(facts(&counted(SequenceSpec::Ts, gap)), [7, 0, 0, 1, 7, 0]);
    let twice = [0, 7, 7, 14].map(ts);
    assert_eq!(facts(&counted(SequenceSpec::Ts, twice)), [0, 7, 0, 0, 0, 0]);
    let mut adaptation = ts_packet(0x100, 0x20, 1);
    adaptation[4] = 183;
    let between = vec![ts_packet(0x100, 0x10, 1), adaptation, ts_packet(0x100, 0x10, 2)];
    assert_eq!(facts(&counted(SequenceSpec::Ts, between)), [0; 6]);
    let mut announced = ts_packet(0x100, 0x30, 9);
    (announced[4], announced[5]) = (1, 0x80);
    let jump = vec![ts_packet(0x100, 0x10, 1), announced, ts_packet(0x100, 0x10, 10)];
    assert_eq!(facts(&counted(SequenceSpec::Ts, jump)), [0; 6]);
    let others = (0..100).flat_map(|pid| [ts_packet(pid, 0x10, 1), ts_packet(pid, 0x10, 2)]);
    assert_eq!(facts(&counted(SequenceSpec::Ts, others)), [0; 6]);
}

#[test]
fn ts_in_rtp_is_counted_apart() {
    let datagram = |number: u16, first| {
        let mut bytes = rtp(number)[..12].to_vec();
        bytes.extend(ts(first));
        bytes
    };
    let some = (0..20).filter(|number| *number != 12);
    // The sender lacked packets itself.
    let all = some.map(|number| datagram(number, u64::from(number) * 7 + u64::from(number >= 15)));
    let sequence = counted(SequenceSpec::Auto, all);
    assert_eq!((facts(&sequence), sequence.words[word::TS_LOST]), ([1, 0, 0, 1, 1, 0], 8));
    assert_eq!(sequence.words[word::FORMAT] & TS_IN_RTP, TS_IN_RTP);
}

#[test]
fn formats_are_recognised_after_enough_datagrams_in_sequence() {
    let known = |datagrams: Vec<Vec<u8>>| {
        let sequence = counted(SequenceSpec::Auto, datagrams);
        let basis = Basis::of(&sequence.words);
        (basis == Basis::Recognised).then(|| Format::names(sequence.words[word::FORMAT]).unwrap().0)
    };
    assert_eq!(known((0..8).map(rtp).collect()), Some("rtp"));
    assert_eq!(known((0..7).map(rtp).collect()), None);
    assert_eq!(known((0..8).map(|at| ts(at * 7)).collect()), Some("ts"));
    assert_eq!(known((0..8).map(|at| mold(b"A         ", at, 1)).collect()), Some("mold"));
    let probe = |sequence| {
        crate::packet::ProbeHeader { stream: 1, sequence, sent_ns: 2 }.to_bytes().to_vec()
    };
    assert_eq!(known((0..8).map(probe).collect()), Some("mcr"));
    assert_eq!(known((0..200).map(|at| vec![0x80; 20 + at]).collect()), None);
    assert_eq!(known((0..200_u16).map(|at| rtp(at.wrapping_mul(5000))).collect()), None);
    // Another format later on.
    let both = (0..20).map(rtp).chain((0..40).map(|at| ts(at * 7)));
    assert_eq!(known(both.collect()), Some("ts"));
}

#[test]
fn nothing_is_read_where_a_rule_says_so() {
    let sequence = counted(SequenceSpec::None, (0..50).map(rtp));
    assert_eq!(sequence.words, [0; WORDS]);
}

#[test]
fn numbers_at_any_place_are_counted() {
    let spec = |bits, little_endian| SequenceSpec::Field { offset: 3, bits, little_endian };
    let big = |number: u64| [[9; 3].as_slice(), &number.to_be_bytes()].concat();
    let little = |number: u64| [[9; 3].as_slice(), &number.to_le_bytes()].concat();
    let numbers = [250, 251, 255, 256, 252, 252, 257];
    for bits in [8, 16, 24, 32, 48, 64] {
        let low = numbers.map(little);
        assert_eq!(facts(&counted(spec(bits, true), low)), [2, 1, 1, 1, 3, 0], "{bits}");
        let high = numbers.map(|number| big(number << (64 - u64::from(bits))));
        assert_eq!(facts(&counted(spec(bits, false), high)), [2, 1, 1, 1, 3, 0], "{bits}");
    }
    let sequence = counted(spec(64, false), vec![vec![0; 10]; 5]);
    assert_eq!((sequence.words[word::UNFIT], sequence.words[word::NUMBERED]), (5, 0));
}

#[test]
fn merged_datagrams_count_like_single_ones() {
    let mut sequence = told(RTP);
    let merged: Vec<u8> = [1, 2, 4, 5, 5].map(rtp).concat();
    sequence.count(&merged, 32, 1_000_000);
    assert_eq!(facts(&sequence), [1, 1, 0, 1, 1, 0]);
}

#[test]
fn even_arrivals_have_no_jitter_and_fill_one_bucket() {
    let mut sequence = told(RTP);
    for number in 0..1000_u16 {
        let late = if number >= 500 && number % 2 == 0 { 100_000 } else { 0 };
        let arrival_ns = 1_000_000_000 + u64::from(number) * 1_000_000 + late;
        count(&mut sequence, &rtp(number), arrival_ns);
        if number == 499 {
            assert!(sequence.words[word::JITTER] / 16 < 1000);
        }
    }
    // Each is 100 us earlier or later than the one before.
    let jitter_ns = sequence.words[word::JITTER] / 16;
    assert!((95_000..105_000).contains(&jitter_ns), "{jitter_ns}");
    let filled = (0..GAP_BUCKETS).filter(|at| gap_count(&sequence.words, *at) > 0);
    for at in filled.clone() {
        let end = bucket_end_us(at).unwrap();
        assert!((900.0..2000.0).contains(&end), "{end}");
    }
    assert_eq!(filled.map(|at| gap_count(&sequence.words, at)).sum::<u64>(), 999);
}

#[test]
fn the_times_within_a_turn_count_with_their_mean() {
    let mut sequence = told(RTP);
    for (number, arrival_us) in [(1, 1000), (2, 1010), (3, 1200), (4, 5000)] {
        sequence.count(&rtp(number), 32, arrival_us * 1000);
        if number == 3 {
            sequence.end_turn();
        }
    }
    sequence.end_turn();
    let filled = (0..GAP_BUCKETS).map(|at| (bucket_end_us(at), gap_count(&sequence.words, at)));
    let filled: Vec<_> = filled.filter(|(_, count)| *count > 0).collect();
    assert_eq!(filled, [(Some(131.072), 2), (Some(4194.304), 1)]);
}

#[test]
fn a_successor_continues_the_numbers() {
    let before = counted(RTP, (0..100).map(rtp));
    let mut sequence = Sequence::resumed(&before.words);
    sequence.tell(RTP);
    for number in [103, 104] {
        count(&mut sequence, &rtp(number), 1);
    }
    assert_eq!((facts(&sequence)[0], sequence.words[word::NUMBERED]), (3, 102));
}

fn any_spec() -> impl Strategy<Value = SequenceSpec> {
    prop_oneof![
        Just(SequenceSpec::Auto),
        Just(SequenceSpec::Ts),
        Just(SequenceSpec::Mold),
        Just(SequenceSpec::Mcr),
        any::<u32>().prop_map(|clock_hz| SequenceSpec::Rtp { clock_hz }),
        (0_u16..40, prop::sample::select(vec![8, 16, 24, 32, 48, 64]), any::<bool>()).prop_map(
            |(offset, bits, little_endian)| SequenceSpec::Field { offset, bits, little_endian }
        ),
    ]
}

proptest! {
    #[test]
    fn any_datagrams_are_taken_without_a_panic(
        spec in any_spec(),
        resumed in prop::collection::vec(any::<u64>(), WORDS),
        datagrams in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..400), any::<usize>(), any::<u64>()),
            0..40,
        ),
    ) {
        let mut sequence = Sequence::resumed(resumed.as_slice().first_chunk().unwrap());
        sequence.tell(spec);
        for (bytes, segment, arrival_ns) in datagrams {
            sequence.count(&bytes, segment % 500, arrival_ns);
            if arrival_ns % 2 == 0 {
                sequence.end_turn();
            }
        }
    }

    #[test]
    fn within_the_window_it_agrees_with_a_set(
        base: u64,
        steps in prop::collection::vec(0..1000_u64, 1..200),
        bits in prop::sample::select(vec![16_u8, 32, 64]),
    ) {
        let spec = SequenceSpec::Field { offset: 0, bits, little_endian: true };
        let datagrams = steps.iter().map(|step| base.wrapping_add(*step).to_le_bytes().to_vec());
        let [lost, duplicated, reordered, ..] = facts(&counted(spec, datagrams));
        let (mut seen, mut expected, mut highest) = (std::collections::HashSet::new(), [0; 2], 0);
        for step in &steps {
            if !seen.insert(*step) {
                expected[0] += 1;
            } else if *step < highest {
                expected[1] += 1;
            }
            highest = highest.max(*step);
        }
        let lowest = steps.iter().min().copied().unwrap_or(0);
        let missing = highest - lowest + 1 - seen.len() as u64;
        prop_assert_eq!([lost, duplicated, reordered], [missing, expected[0], expected[1]]);
    }
}
