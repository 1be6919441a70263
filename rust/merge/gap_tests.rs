//! Feeds that lose much, join ahead of others, or begin anew.

use std::collections::HashSet;

use super::tests::{PacedMerger, RTP, mold, mold_of, random, rtp};
use super::{FeedPlace, MergeMode, MergeSpec, MergedFrame, Merger};

/// Places the datagrams of a frame; returns the place of each.
pub(super) fn place_frame(
    merger: &mut Merger,
    leg: u8,
    datagrams: &[Vec<u8>],
    now_us: u64,
) -> Vec<FeedPlace> {
    let (bytes, mut places) = (datagrams.concat(), Vec::new());
    let count = u8::try_from(datagrams.len()).unwrap();
    let frame = MergedFrame { bytes: &bytes, segment: datagrams[0].len(), datagrams: count };
    merger.place_all(leg, frame, now_us, |place, alike| {
        places.extend(std::iter::repeat_n(place, alike.into()));
    });
    assert_eq!(places.len(), datagrams.len());
    places
}

#[test]
fn feeds_that_lose_most_of_their_frames_are_merged_without_a_pause() {
    const FRAME: u64 = 45;
    for late in [true, false] {
        let mut merger = Merger::new(MergeSpec { late, ..RTP });
        let (mut state, mut sent, mut any) = (3, Vec::new(), Vec::new());
        for frame in 0..4_000_u64 {
            let numbers = frame * FRAME..(frame + 1) * FRAME;
            let packets: Vec<_> = numbers.clone().map(|number| rtp(7, number)).collect();
            for leg in [0, 1] {
                // Each one loses two of three, in rows of up to many.
                if frame > 0 && !random(&mut state).is_multiple_of(3) {
                    continue;
                }
                any.extend(numbers.clone());
                let places = place_frame(&mut merger, leg, &packets, frame * 20);
                assert!(!places.contains(&FeedPlace::OutOfSequence), "{frame}");
                let is_sent = |place: &FeedPlace| merger.sends(*place);
                let places = numbers.clone().zip(places);
                sent.extend(places.filter(|(_, place)| is_sent(place)).map(|(number, _)| number));
            }
        }
        any.sort_unstable();
        any.dedup();
        assert_eq!(sent, any);
        assert_eq!(merger.restarts(), 0);
    }
}

#[test]
fn single_datagrams_behind_a_large_loss_go_on_at_once() {
    for (late, expected) in [(true, 1_000), (false, 999)] {
        let mut merger = PacedMerger::new(MergeSpec { late, ..RTP });
        merger.send((0..500).flat_map(|number| [(0, number), (1, number)]));
        let rest = (0..1_000).map(|number| (0, 2_000 + number));
        assert_eq!(merger.send(rest).len(), expected);
    }
}

#[test]
fn nothing_overtakes_what_is_held_after_a_loss_of_all_feeds() {
    for (jump, late_by_us) in [(500, 0), (500, 5_000), (9_000, 5_000)] {
        let mut merger = PacedMerger::new(MergeSpec { late: false, hold_us: 20_000, ..RTP });
        merger.send((0..500).flat_map(|number| [(0, number), (1, number)]));
        merger.send([(0, 501)]);
        merger.now_us += late_by_us;
        let mut dropped = 0;
        for number in 501 + jump..600 + jump {
            for leg in [0, 1] {
                let place = merger.place(leg, 7, number);
                let has_place = merger.merger.span_in_order().is_some();
                assert_eq!(merger.merger.sends(place), has_place, "{number}");
                dropped += u64::from(place == FeedPlace::OutOfSequence);
            }
        }
        // The one that the other feed has confirmed.
        assert_eq!((dropped, merger.merger.lost()), (1, jump), "{jump}");
    }
}

/// Merges a feed that loses each seventh with one that is ahead by so many numbers, joins it later,
/// and sends these of a number and a time; returns what is sent.
pub(super) fn join_ahead(
    spec: MergeSpec,
    ahead: u64,
    content: impl Fn(u64) -> Vec<u8>,
) -> Vec<Vec<u8>> {
    let (mut merger, mut sent) = (Merger::new(spec), Vec::new());
    for number in 0..20_000 {
        let near = (number % 7 != 0).then(|| (0, rtp(7, number)));
        let far = (number > 100).then(|| (1, content(number + ahead)));
        for (leg, packet) in near.into_iter().chain(far) {
            let place = merger.place(leg, &packet, number * 10);
            if merger.sends(place) {
                sent.push(packet);
            }
        }
    }
    sent
}

#[test]
fn a_feed_that_joins_ahead_of_the_other_fills_its_gaps() {
    for ahead in [65, 1_000, 9_000] {
        let sent = join_ahead(RTP, ahead, |number| rtp(7, number));
        let all: HashSet<_> = sent.iter().collect();
        assert_eq!(all.len(), sent.len(), "{ahead}: sent twice");
        let missing = (2 * ahead + 300..20_000).find(|number| !all.contains(&rtp(7, *number)));
        assert_eq!(missing, None, "{ahead}");
    }
}

#[test]
fn a_feed_that_joins_ahead_does_not_make_the_other_one_late() {
    let sent = join_ahead(MergeSpec { late: false, ..RTP }, 1_000, |number| rtp(7, number));
    let own = (0..20_000_u64).filter(|number| number % 7 != 0);
    assert!(own.map(|number| rtp(7, number)).eq(sent));
}

#[test]
fn a_restart_is_recognised_within_a_hundred_datagrams_on_either_feed() {
    for (restarted, other) in [(0, 1), (1, 0)] {
        for is_other_behind in [true, false] {
            let mut merger = PacedMerger::new(RTP);
            merger.send((40_000..41_000).flat_map(|number| [(0, number), (1, number)]));
            let mut sent = Vec::new();
            for number in 0..1_000_u64 {
                let behind = number.checked_sub(30).unwrap_or(41_000 - 30 + number);
                let second = is_other_behind.then_some((other, behind));
                sent.extend(merger.send(std::iter::once((restarted, number)).chain(second)));
            }
            let of_new = sent.iter().filter(|number| **number < 1_000).count();
            assert!((900..=1_000).contains(&of_new), "{restarted} {is_other_behind}: {of_new}");
        }
    }
}

#[test]
fn the_next_session_of_both_feeds_is_whole() {
    let mut merger = Merger::new(MergeSpec { mode: MergeMode::Mold, ..RTP });
    let mut sent = Vec::new();
    for (session, begin_us) in [(*b"MONDAY    ", 0), (*b"TUESDAY   ", 1_000_000)] {
        for number in 1..100_u64 {
            let packet = mold_of(session, number, 1);
            for leg in [0, 1] {
                let place = merger.place(leg, &packet, begin_us + number * 100);
                if merger.sends(place) {
                    sent.push((session, number));
                }
            }
        }
    }
    let expected = [*b"MONDAY    ", *b"TUESDAY   "];
    let expected = expected.into_iter().flat_map(|session| (1..100).map(move |n| (session, n)));
    assert!(sent.into_iter().eq(expected));
}

#[test]
fn packets_of_many_messages_follow_each_other() {
    let mut merger = Merger::new(MergeSpec { mode: MergeMode::Mold, ..RTP });
    for number in 0..100_u64 {
        let packet = mold(1 + number * 200, 200);
        assert_eq!(merger.place(0, &packet, number * 100), FeedPlace::First, "{number}");
        let place = merger.place(1, &packet, number * 100 + 3);
        assert_eq!(place, FeedPlace::Duplicate { skew_us: Some(3) }, "{number}");
    }
}
