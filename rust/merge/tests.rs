use super::gap_tests::join_ahead;
use super::{FeedPlace, MergeMode, MergeSpec, Merger};

pub(super) const RTP: MergeSpec = MergeSpec { mode: MergeMode::Rtp, late: true, hold_us: 0 };

/// A packet whose time stamp goes on when its number wraps.
pub(super) fn rtp(ssrc: u32, number: u64) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(u16::try_from(number % 65_536).unwrap_or(0).to_be_bytes());
    packet.extend(u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet
}

pub(super) fn mold(first: u64, count: u16) -> Vec<u8> {
    mold_of(*b"SESSION001", first, count)
}

pub(super) fn mold_of(session: [u8; 10], first: u64, count: u16) -> Vec<u8> {
    let mut packet = session.to_vec();
    packet.extend(first.to_be_bytes());
    packet.extend(count.to_be_bytes());
    (0..count).for_each(|_| packet.extend([0, 1, 7]));
    packet
}

/// A merger whose datagrams arrive one every 100 us.
pub(super) struct PacedMerger {
    pub(super) merger: Merger,
    pub(super) now_us: u64,
}

impl PacedMerger {
    pub(super) fn new(spec: MergeSpec) -> Self {
        Self { merger: Merger::new(spec), now_us: 0 }
    }

    pub(super) fn place(&mut self, leg: u8, ssrc: u32, number: u64) -> FeedPlace {
        self.now_us += 100;
        self.merger.place(leg, &rtp(ssrc, number), self.now_us)
    }

    /// Returns the numbers that are sent of these, each with its feed.
    pub(super) fn send(&mut self, numbers: impl IntoIterator<Item = (u8, u64)>) -> Vec<u64> {
        let mut sent = Vec::new();
        for (leg, number) in numbers {
            let place = self.place(leg, 7, number);
            if self.merger.sends(place) {
                sent.push(number);
            }
        }
        sent
    }
}

#[test]
fn each_number_is_sent_once_across_the_wrap() {
    let mut merger = PacedMerger::new(RTP);
    let both = (65_000..67_000).flat_map(|number| [(0, number), (1, number)]);
    assert_eq!(merger.send(both), (65_000..67_000).collect::<Vec<_>>());
    assert_eq!(
        (merger.merger.missing(0), merger.merger.missing(1), merger.merger.lost()),
        (0, 0, 0)
    );
}

#[test]
fn what_one_feed_lost_comes_from_the_other() {
    let mut merger = PacedMerger::new(RTP);
    let near = (0..2000_u64).filter(|number| number % 10 != 3).map(|number| (0, number));
    let behind = (0..2000_u64).filter(|number| number % 7 != 5).map(|number| (1, number));
    let mut order: Vec<_> = near.map(|one| (one.1, one)).collect();
    order.extend(behind.map(|one| (one.1 + 50, one)));
    order.sort_by_key(|(at, _)| *at);
    let mut out = merger.send(order.into_iter().map(|(_, one)| one));
    out.sort_unstable();
    let lost = |number: &u64| number % 10 == 3 && number % 7 == 5;
    assert_eq!(out, (0..2000).filter(|number| !lost(number)).collect::<Vec<_>>());
    assert_eq!(merger.merger.lost(), (0..2000).filter(lost).count() as u64);
    assert_eq!(merger.merger.missing(0), 200);
}

#[test]
fn late_numbers_are_dropped_on_request() {
    let mut merger = PacedMerger::new(MergeSpec { late: false, ..RTP });
    assert_eq!(merger.send([(0, 1), (0, 3), (1, 1), (1, 2), (1, 3), (0, 4)]), [1, 3, 4]);
}

#[test]
fn a_gap_of_all_feeds_costs_nothing_more() {
    let mut merger = PacedMerger::new(RTP);
    for numbers in [0..100, 5_000..5_100] {
        let both = numbers.clone().flat_map(|number| [(0, number), (1, number)]);
        assert_eq!(merger.send(both), numbers.collect::<Vec<_>>());
        merger.now_us += 100_000;
    }
    assert_eq!(merger.merger.lost(), 4_900);
}

#[test]
fn a_restart_is_recognised_while_the_other_feed_is_behind() {
    let mut merger = PacedMerger::new(RTP);
    let before = (30_000..31_000).flat_map(|number| [(0, number), (1, number - 100)]);
    merger.send(before);
    merger.now_us += 10_000;
    // The first feed has begun anew, while the other one still delivers what was before.
    let after = (0..100).flat_map(|number| [(0, number), (1, 30_900 + number)]);
    let out = merger.send(after.chain((0..100).map(|number| (1, number))));
    // The last number of the first feed was 30 999, so nothing of the other one is new.
    assert_eq!(out, (3..100).chain(0..3).collect::<Vec<_>>());
    assert_eq!(merger.merger.restarts(), 1);
}

#[test]
fn another_source_is_a_restart() {
    let mut merger = PacedMerger::new(RTP);
    merger.send((0..100).map(|number| (0, number)));
    let places = (100..200).map(|number| merger.place(1, 8, number));
    let dropped = places.filter(|place| *place == FeedPlace::OutOfSequence).count();
    assert_eq!((dropped, merger.merger.restarts()), (3, 1));
}

#[test]
fn senders_that_share_a_port_are_merged_side_by_side() {
    let mut merger = PacedMerger::new(RTP);
    let mut sent = 0;
    for number in 0..2_000_u64 {
        // The first feed is 50 numbers ahead, and loses each tenth; the other loses each seventh.
        for (leg, number, lost) in [(0, number + 50, 10), (1, number, 7)] {
            for ssrc in (0..6).filter(|_| number % lost != 0) {
                let place = merger.place(leg, ssrc, number + 9_000 * u64::from(ssrc));
                sent += usize::from(merger.merger.sends(place));
            }
        }
    }
    // Both lose each seventieth of 2050 numbers, the first feed a tenth of the last 50; and of the
    // first sender, those before the first number of all are not sent.
    assert!((6 * 2_000 - 50..=6 * 2_020).contains(&sent), "{sent}");
}

#[test]
fn a_sender_that_joins_others_is_merged() {
    let mut merger = PacedMerger::new(RTP);
    let mut joined = 0;
    for number in 0..1_000 {
        merger.send([(0, number), (1, number)]);
        let places = [0, 1].map(|leg| merger.place(leg, 9, 60_000 + number));
        joined += places.into_iter().filter(|place| merger.merger.sends(*place)).count();
    }
    assert!(joined >= 997, "{joined}");
}

#[test]
fn a_restart_a_few_numbers_back_is_recognised() {
    for back in [40, 300, 5_000, 16_000] {
        let mut merger = PacedMerger::new(RTP);
        let before = (0..20_000).flat_map(|number| [(0, number), (1, number)]);
        assert_eq!(merger.send(before).len(), 20_000);
        // The other feed is 20 numbers behind.
        let after = (0..12_000_u64).flat_map(|number| {
            let behind =
                number.checked_sub(20).map_or(19_980 + number, |number| 20_000 - back + number);
            [(0, 20_000 - back + number), (1, behind)]
        });
        let out = merger.send(after).len();
        assert!((11_900..=12_000).contains(&out), "{back}: {out} of 12000");
        assert_eq!(merger.merger.restarts(), 1);
    }
}

#[test]
fn a_restart_on_the_feed_that_was_cut_is_recognised() {
    let mut merger = PacedMerger::new(RTP);
    assert_eq!(merger.send((0..5_000).map(|number| (0, number))).len(), 5_000);
    merger.now_us += 9_000_000;
    let sent = merger.send((1_000..3_000).map(|number| (1, number))).len();
    assert!(sent >= 1_900, "{sent}");
}

#[test]
fn repeats_of_a_network_are_no_restart() {
    let mut merger = PacedMerger::new(RTP);
    for start in (0..20_000).step_by(100) {
        let burst = (start..start + 100).chain(start + 70..start + 100);
        let numbers = burst.map(|number| (0, number));
        assert_eq!(merger.send(numbers).len(), 100);
    }
    assert_eq!(merger.merger.restarts(), 0);
}

/// Numbers of a generator that repeats exactly.
pub(super) fn random(state: &mut u64) -> u64 {
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
fn a_feed_with_numbers_of_its_own_does_not_take_over() {
    // As many datagrams as the good feed, or bursts of them; their numbers are those of others.
    let own = |number| [rtp(7, number), vec![1]].concat();
    for spec in [RTP, MergeSpec { late: false, ..RTP }] {
        let sent = join_ahead(spec, 10_000, own);
        assert!(sent.iter().all(|packet| packet.len() == rtp(7, 0).len()));
        assert_eq!(sent.len(), (0..20_000).filter(|number| number % 7 != 0).count());
    }
    for burst in [1, 60, 128] {
        let mut merger = PacedMerger::new(MergeSpec { late: false, ..RTP });
        let (mut good, mut all) = (0, 0);
        for number in 0..40_000_u64 {
            let rogue = if number % burst == 0 { number..number + burst } else { 0..0 };
            let now_us = number * 100;
            let rogue = rogue.map(|number| (1, number + 10_000));
            for (leg, number) in std::iter::once((0, number)).chain(rogue) {
                let packet = if leg == 0 { rtp(7, number) } else { own(number) };
                let place = merger.merger.place(leg, &packet, now_us);
                all += usize::from(merger.merger.sends(place));
                good += usize::from(merger.merger.sends(place) && leg == 0);
            }
        }
        assert_eq!((good, all), (40_000, 40_000), "{burst}");
    }
}

#[test]
fn messages_of_other_packets_are_new_if_one_of_them_is() {
    let mut merger = Merger::new(MergeSpec { mode: MergeMode::Mold, ..RTP });
    let skew_us = Some(5);
    assert_eq!(merger.place(0, &mold(1, 3), 10), FeedPlace::First);
    assert_eq!(merger.place(1, &mold(1, 2), 15), FeedPlace::Duplicate { skew_us });
    assert_eq!(merger.place(1, &mold(3, 2), 15), FeedPlace::First);
    assert_eq!(merger.place(0, &mold(4, 1), 20), FeedPlace::Duplicate { skew_us });
    // Heartbeats of one feed, until it is silent.
    assert_eq!(merger.place(0, &mold(5, 0), 30), FeedPlace::First);
    assert_eq!(merger.place(1, &mold(5, 0), 40), FeedPlace::Duplicate { skew_us: None });
    assert_eq!(merger.place(1, &mold(4, 0), 50), FeedPlace::Duplicate { skew_us: None });
    assert_eq!(merger.place(1, &mold(5, 0), 4_000_000), FeedPlace::First);
    // The end of the session, which the other feed has lost.
    let mut end = mold(5, 0);
    end[18..].copy_from_slice(&[0xff; 2]);
    assert_eq!(merger.place(0, &end, 4_100_000), FeedPlace::First);
    assert_eq!(merger.place(1, &mold(5, 0), 4_100_010), FeedPlace::Duplicate { skew_us: None });
    assert_eq!(merger.place(1, &end, 4_100_020), FeedPlace::Duplicate { skew_us: None });
}

#[test]
fn payloads_are_the_same_for_a_second() {
    let mut merger = Merger::new(MergeSpec { mode: MergeMode::Hash, ..RTP });
    assert_eq!(merger.place(0, b"one", 1), FeedPlace::First);
    assert_eq!(merger.place(1, b"two", 2), FeedPlace::First);
    assert_eq!(merger.place(1, b"one", 5), FeedPlace::Duplicate { skew_us: Some(4) });
    assert_eq!(merger.place(0, b"one", 6), FeedPlace::Duplicate { skew_us: None });
    assert_eq!(merger.place(1, b"one", 2_000_000), FeedPlace::First);
}
