//! Any datagrams, in any order.

use proptest::prelude::*;

use super::gap_tests::place_frame;
use super::tests::{PacedMerger, RTP, mold, rtp};
use super::{Admission, FeedPlace, MergeMode, MergeSpec, Merger};

fn modes() -> impl Strategy<Value = MergeMode> {
    let seq = |(offset, bits, little_endian)| MergeMode::Seq { offset, bits, little_endian };
    let bits = prop::sample::select(vec![16_u8, 24, 32, 48, 64]);
    let seq = (0..40_u16, bits, any::<bool>()).prop_map(seq);
    let failover = (1..1000_u32).prop_map(|after_ms| MergeMode::Failover { after_ms });
    prop_oneof![Just(MergeMode::Rtp), Just(MergeMode::Mold), Just(MergeMode::Hash), seq, failover]
}

/// The datagrams of two feeds, each with its number, in the order of their arrival: each feed
/// loses some, repeats some, and is late by up to `skew` numbers.
fn feeds(skew: u64) -> impl Strategy<Value = Vec<(u8, u64)>> {
    let fate = (0..10_u8, 0..10_u8, 0..=skew, 0..=skew);
    prop::collection::vec([fate.clone(), fate], 1..400).prop_map(|numbers| {
        let mut arrivals = Vec::new();
        for (number, fates) in (0..).zip(numbers) {
            for (leg, (lost, repeated, late, later)) in (0_u8..).zip(fates) {
                if lost > 1 {
                    arrivals.push((number + late, leg, number));
                }
                if lost > 1 && repeated == 0 {
                    arrivals.push((number + late.max(later), leg, number));
                }
            }
        }
        arrivals.sort_unstable();
        arrivals.into_iter().map(|(_, leg, number)| (leg, number)).collect()
    })
}

/// Any bytes; or a header that is valid but for its numbers and its end.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..60);
    let edge = prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), 0..50_u64];
    let rtp = (any::<u8>(), any::<u32>(), edge.clone()).prop_map(|(first, ssrc, number)| {
        let mut packet = rtp(ssrc % 3, number);
        packet[0] = 0x80 | first & 0x3f;
        packet
    });
    let mold = (edge, any::<u16>(), any::<bool>()).prop_map(|(number, count, is_few)| {
        let mut packet = mold(number, count % 4);
        if !is_few {
            packet[18..20].copy_from_slice(&count.to_be_bytes());
        }
        packet
    });
    let whole = prop_oneof![rtp, mold];
    let cut = (whole.clone(), 0..40_usize).prop_map(|(mut packet, len)| {
        packet.truncate(len);
        packet
    });
    prop_oneof![bytes, whole.clone(), cut]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_any_feed_has_is_sent_once(
        start in 0..100_000_u64, arrivals in feeds(40), late in any::<bool>()
    ) {
        let mut merger = PacedMerger::new(MergeSpec { late, ..RTP });
        let out = merger.send(arrivals.iter().map(|&(leg, number)| (leg, start + number)));
        let first = arrivals.first().map_or(0, |arrival| start + arrival.1);
        let mut all: Vec<_> = arrivals.iter().map(|arrival| start + arrival.1).collect();
        if late {
            all.retain(|number| *number >= first);
            all.sort_unstable();
            all.dedup();
            let lost = all.last().map_or(0, |last| last + 1 - first - all.len() as u64);
            prop_assert_eq!(merger.merger.lost(), lost);
        } else {
            // Each number that is larger than all before.
            let mut end = 0;
            all.retain(|number| {
                let is_next = *number >= end;
                end = end.max(number + 1);
                is_next
            });
        }
        let mut sorted = out.clone();
        sorted.sort_unstable();
        prop_assert_eq!(&sorted, &all);
        prop_assert!(late || out == sorted);
    }

    /// Datagrams of one frame have the places that they would have one by one.
    #[test]
    fn a_frame_is_placed_like_its_datagrams(
        start in 0..100_000_u64, arrivals in feeds(100), is_mold: bool
    ) {
        let mode = if is_mold { MergeMode::Mold } else { MergeMode::Rtp };
        let spec = MergeSpec { mode, ..RTP };
        let (mut whole, mut single) = (Merger::new(spec), Merger::new(spec));
        let of = |number| if is_mold { mold(2 * number, 2) } else { rtp(7, number) };
        for (at, frame) in (0..).zip(arrivals.chunk_by(|one, other| one.0 == other.0)) {
            let (leg, now_us) = (frame[0].0, at * 50);
            let packets: Vec<_> = frame.iter().map(|arrival| of(start + arrival.1)).collect();
            for packets in packets.chunks(100) {
                let places = place_frame(&mut whole, leg, packets, now_us);
                let each = packets.iter().map(|packet| single.place(leg, packet, now_us));
                prop_assert_eq!(places, each.collect::<Vec<_>>());
            }
            prop_assert_eq!(whole.lost(), single.lost());
            prop_assert_eq!(whole.missing(leg), single.missing(leg));
        }
    }

    /// What any feed has leaves in order, if no feed is further behind than numbers are held.
    #[test]
    fn what_is_held_leaves_in_order(start in 0..100_000_u64, arrivals in feeds(40)) {
        let spec = MergeSpec { late: false, hold_us: 20_000, ..RTP };
        let mut merger = PacedMerger::new(spec);
        let (mut held, mut out) = (Vec::new(), Vec::new());
        for &(leg, number) in &arrivals {
            let number = start + number;
            let place = merger.place(leg, 7, number);
            let now_us = merger.now_us;
            let Some((span, order)) = merger.merger.span_in_order() else {
                prop_assert!(place != FeedPlace::First);
                continue;
            };
            prop_assert!(!order.begin(span));
            match order.admit(span, now_us) {
                Admission::Sent => out.push(number),
                Admission::Held(_) => held.push(number),
                Admission::Late => prop_assert!(false, "{} is late", number),
            }
            while let Some(ticket) = order.pop(now_us) {
                out.push(held[usize::try_from(ticket).unwrap()]);
            }
        }
        let order = merger.merger.order().unwrap();
        order.expire();
        while let Some(ticket) = order.pop(0) {
            out.push(held[usize::try_from(ticket).unwrap()]);
        }
        let first = arrivals.first().map_or(0, |arrival| start + arrival.1);
        let mut all: Vec<_> = arrivals.iter().map(|arrival| start + arrival.1).collect();
        all.retain(|number| *number >= first);
        all.sort_unstable();
        all.dedup();
        prop_assert_eq!(out, all);
    }

    #[test]
    fn any_bytes_have_a_place(
        mode in modes(),
        datagrams in prop::collection::vec((any::<u8>(), datagram(), any::<u64>()), 0..200),
        late in any::<bool>(),
    ) {
        let mut merger = Merger::new(MergeSpec { mode, late, hold_us: 0 });
        for (leg, datagram, now_us) in &datagrams {
            merger.place(*leg, datagram, *now_us);
            prop_assert!(merger.missing(*leg) <= 1 << 40 || mode != MergeMode::Rtp);
        }
    }
}
