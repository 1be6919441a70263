use super::{FeedPlace, MergeMode, MergeSpec, Merger};

const RTP: MergeSpec = MergeSpec { mode: MergeMode::Rtp, late: true };

fn rtp(ssrc: u32, number: u64) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(u16::try_from(number % 65_536).unwrap_or(0).to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(ssrc.to_be_bytes());
    packet
}

fn mold(first: u64, count: u16) -> Vec<u8> {
    let mut packet = b"SESSION001".to_vec();
    packet.extend(first.to_be_bytes());
    packet.extend(count.to_be_bytes());
    (0..count).for_each(|_| packet.extend([0, 1, 7]));
    packet
}

/// The numbers that are sent of these, each with its feed.
fn sent(merger: &mut Merger, numbers: impl IntoIterator<Item = (u8, u64)>) -> Vec<u64> {
    let mut sent = Vec::new();
    for (leg, number) in numbers {
        let place = merger.place(leg, &rtp(7, number), 0);
        if merger.sends(place) {
            sent.push(number);
        }
    }
    sent
}

#[test]
fn each_number_is_sent_once_across_the_wrap() {
    let mut merger = Merger::new(RTP);
    let both = (65_000..67_000).flat_map(|number| [(0, number), (1, number)]);
    assert_eq!(sent(&mut merger, both), (65_000..67_000).collect::<Vec<_>>());
    assert_eq!((merger.missing(0), merger.missing(1), merger.lost()), (0, 0, 0));
}

#[test]
fn what_one_feed_lost_comes_from_the_other() {
    let mut merger = Merger::new(RTP);
    let near = (0..2000_u64).filter(|number| number % 10 != 3).map(|number| (0, number));
    let behind = (0..2000_u64).filter(|number| number % 7 != 5).map(|number| (1, number));
    let mut order: Vec<_> = near.map(|one| (one.1, one)).collect();
    order.extend(behind.map(|one| (one.1 + 50, one)));
    order.sort_by_key(|(at, _)| *at);
    let mut out = sent(&mut merger, order.into_iter().map(|(_, one)| one));
    out.sort_unstable();
    let lost = |number: &u64| number % 10 == 3 && number % 7 == 5;
    assert_eq!(out, (0..2000).filter(|number| !lost(number)).collect::<Vec<_>>());
    assert_eq!(merger.lost(), (0..2000).filter(lost).count() as u64);
    assert_eq!(merger.missing(0), 200);
}

#[test]
fn late_numbers_are_dropped_on_request() {
    let mut merger = Merger::new(MergeSpec { late: false, ..RTP });
    assert_eq!(sent(&mut merger, [(0, 1), (0, 3), (1, 1), (1, 2), (1, 3), (0, 4)]), [1, 3, 4]);
}

#[test]
fn a_gap_of_all_feeds_costs_nothing_more() {
    let mut merger = Merger::new(RTP);
    let numbers = (0..100).chain(5_000..5_100);
    let both = numbers.clone().flat_map(|number| [(0, number), (1, number)]);
    assert_eq!(sent(&mut merger, both), numbers.collect::<Vec<_>>());
    assert_eq!(merger.lost(), 4_900);
}

#[test]
fn a_restart_is_recognised_while_the_other_feed_is_behind() {
    let mut merger = Merger::new(RTP);
    let before = (30_000..31_000).flat_map(|number| [(0, number), (1, number - 100)]);
    sent(&mut merger, before);
    // The first feed has begun anew, while the other one still delivers what was before.
    let after = (0..100).flat_map(|number| [(0, number), (1, 30_900 + number)]);
    let out = sent(&mut merger, after.chain((0..100).map(|number| (1, number))));
    // The last number of the first feed was 30 999, so nothing of the other one is new.
    assert_eq!(out, (3..100).chain(0..3).collect::<Vec<_>>());
    assert_eq!(merger.restarts(), 1);
}

#[test]
fn another_source_is_a_restart() {
    let mut merger = Merger::new(RTP);
    sent(&mut merger, (0..100).map(|number| (0, number)));
    let places = (100..200).map(|number| merger.place(1, &rtp(8, number), 0));
    let dropped = places.filter(|place| *place == FeedPlace::OutOfSequence).count();
    assert_eq!((dropped, merger.restarts()), (3, 1));
}

/// Numbers of a generator that repeats exactly.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    *state >> 33
}

/// Merges a good feed with a rogue one; returns how many of the good numbers were sent, and how
/// many datagrams in all.
fn with_rogue(late: bool, rogue: &mut dyn FnMut(u64) -> u64) -> (usize, usize) {
    let mut merger = Merger::new(MergeSpec { late, ..RTP });
    let (mut good, mut all) = (0, 0);
    for number in 0..200_000 {
        let now_us = number * 100;
        for (leg, number) in [(0, number), (1, rogue(number))] {
            let place = merger.place(leg, &rtp(7, number), now_us);
            all += usize::from(merger.sends(place));
            good += usize::from(merger.sends(place) && leg == 0);
        }
    }
    (good, all)
}

#[test]
fn a_rogue_feed_neither_stops_nor_floods_the_output() {
    for late in [true, false] {
        let mut state = 1;
        let rogues: [&mut dyn FnMut(u64) -> u64; 4] = [
            &mut |_| 17,
            &mut |_| random(&mut state),
            // A piece of the past, again and again.
            &mut |number| 40_000 + number % 500,
            &mut |number| number / 2,
        ];
        for (which, rogue) in rogues.into_iter().enumerate() {
            let (good, all) = with_rogue(late, rogue);
            // Numbers that are due from both may come from the rogue feed.
            assert!(good >= 198_000, "{which}: {good} of the good numbers");
            assert!(all <= 202_000, "{which}: {all} datagrams");
        }
    }
}

#[test]
fn messages_of_other_packets_are_new_if_one_of_them_is() {
    let mut merger = Merger::new(MergeSpec { mode: MergeMode::Mold, late: true });
    let skew_us = Some(5);
    assert_eq!(merger.place(0, &mold(1, 3), 10), FeedPlace::First);
    assert_eq!(merger.place(1, &mold(1, 2), 15), FeedPlace::Duplicate { skew_us });
    assert_eq!(merger.place(1, &mold(3, 2), 15), FeedPlace::First);
    assert_eq!(merger.place(0, &mold(4, 1), 20), FeedPlace::Duplicate { skew_us });
    // Heartbeats of one feed, until it is silent.
    assert_eq!(merger.place(0, &mold(5, 0), 30), FeedPlace::First);
    assert_eq!(merger.place(1, &mold(5, 0), 40), FeedPlace::Duplicate { skew_us: None });
    assert_eq!(merger.place(1, &mold(5, 0), 4_000_000), FeedPlace::First);
}

#[test]
fn payloads_are_the_same_for_a_second() {
    let mut merger = Merger::new(MergeSpec { mode: MergeMode::Hash, late: true });
    assert_eq!(merger.place(0, b"one", 1), FeedPlace::First);
    assert_eq!(merger.place(1, b"two", 2), FeedPlace::First);
    assert_eq!(merger.place(1, b"one", 5), FeedPlace::Duplicate { skew_us: Some(4) });
    assert_eq!(merger.place(0, b"one", 6), FeedPlace::Duplicate { skew_us: None });
    assert_eq!(merger.place(1, b"one", 2_000_000), FeedPlace::First);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn modes() -> impl Strategy<Value = MergeMode> {
        let seq = |(offset, bits, little_endian)| MergeMode::Seq { offset, bits, little_endian };
        let bits = prop::sample::select(vec![16_u8, 24, 32, 48, 64]);
        let seq = (0..40_u16, bits, any::<bool>()).prop_map(seq);
        prop_oneof![Just(MergeMode::Rtp), Just(MergeMode::Mold), Just(MergeMode::Hash), seq]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_have_a_place(
            mode in modes(),
            datagrams in prop::collection::vec(
                (0..4_u8, prop::collection::vec(any::<u8>(), 0..60)), 0..100
            ),
        ) {
            let mut merger = Merger::new(MergeSpec { mode, late: true });
            for (at, (leg, datagram)) in (0_u64..).zip(&datagrams) {
                merger.place(*leg, datagram, at);
                prop_assert!(merger.missing(*leg) <= 1 << 40 || mode != MergeMode::Rtp);
            }
        }
    }
}
