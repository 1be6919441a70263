//! A merger that continues what another process has sent.

use super::tests::{PacedMerger, RTP, rtp};
use super::{Admission, FeedPlace, MergeMode, MergeSpec, Merger};
use crate::stats::merged::{STREAMS, SentStream};
use crate::stats::{Grant, Slot, SlotOwner, Writer, create_page};

/// What a merger has recorded as sent, as a successor finds it.
fn recorded(merger: &mut Merger, sent: &mut [Option<SentStream>; STREAMS]) {
    while let Some((at, stream)) = merger.take_advanced() {
        sent[at] = Some(stream);
    }
}

#[test]
fn a_successor_sends_nothing_again_that_a_slower_feed_brings() {
    for spec in [RTP, MergeSpec { late: false, hold_us: 20_000, ..RTP }] {
        let (mut first, mut sent) = (PacedMerger::new(spec), [None; STREAMS]);
        for ssrc in [7, 8] {
            for number in 60_000..70_000 {
                first.place(0, ssrc, number);
                if let Some((span, order)) = first.merger.span_in_order() {
                    assert!(!order.begin(span));
                    assert_eq!(order.admit(span, 0), Admission::Sent);
                }
            }
        }
        recorded(&mut first.merger, &mut sent);
        let mut second = PacedMerger::new(spec);
        second.merger.resume(&sent);
        for ssrc in [8, 7] {
            for number in 69_000..70_000 {
                let place = second.place(1, ssrc, number);
                assert!(matches!(place, FeedPlace::Duplicate { .. }), "{number}: {place:?}");
            }
            // What the first one had received and not sent comes from the slower feed.
            assert_eq!(second.place(0, ssrc, 70_010), FeedPlace::First);
            assert_eq!(second.place(1, ssrc, 70_000), FeedPlace::Late);
        }
        assert_eq!(second.merger.lost(), 18);
    }
}

#[test]
fn a_successor_recognises_a_sender_that_has_begun_anew() {
    let (mut first, mut sent) = (PacedMerger::new(RTP), [None; STREAMS]);
    first.send((40_000..41_000).map(|number| (0, number)));
    recorded(&mut first.merger, &mut sent);
    let mut second = PacedMerger::new(RTP);
    second.merger.resume(&sent);
    let out = second.send((0..100).flat_map(|number| [(0, number), (1, number)]));
    assert!(out.len() >= 97, "{}", out.len());
}

#[test]
fn what_is_held_was_not_sent() {
    let mut merger = PacedMerger::new(MergeSpec { late: false, hold_us: 20_000, ..RTP });
    let mut sent = [None; STREAMS];
    for number in [5, 6, 9, 10] {
        merger.place(0, 7, number);
        let (span, order) = merger.merger.span_in_order().unwrap();
        assert!(!order.begin(span));
        order.admit(span, 0);
    }
    recorded(&mut merger.merger, &mut sent);
    assert_eq!(sent[0].map(|stream| stream.next), Some(7));
    let order = merger.merger.order().unwrap();
    order.expire();
    while order.pop(0).is_some() {}
    recorded(&mut merger.merger, &mut sent);
    assert_eq!(sent[0].map(|stream| stream.next), Some(11));
}

#[test]
fn a_successor_knows_the_payloads_that_were_sent() {
    let slot = Slot { index: 3, generation: 1 };
    let grant = Grant { slot, owner: SlotOwner::rule("pair"), is_continued: false };
    let spec = MergeSpec { mode: MergeMode::Hash, ..RTP };
    let page = create_page().unwrap();
    let begin = |is_continued: bool| {
        let mut writer = Writer::new(page.clone());
        writer.grant(&Grant { is_continued, ..grant });
        let mut merger = Merger::new(spec);
        merger.resume_payloads(writer.payload_row(slot.index).unwrap());
        (writer, merger)
    };
    /// So few that no set of them overflows, whatever the seed is.
    const PAYLOADS: u64 = 1_000;
    let (writer, mut first) = begin(false);
    for number in 0..PAYLOADS {
        assert_eq!(first.place(0, &rtp(7, number), 5_000_000 + number), FeedPlace::First);
    }
    writer.note_turn(5_400_000);
    // Its successor starts four seconds later, and the other feed was half a second behind.
    let (writer, mut second) = begin(true);
    for number in 0..PAYLOADS {
        let place = second.place(1, &rtp(7, number), 9_900_000 + number);
        assert!(matches!(place, FeedPlace::Duplicate { .. }), "{number}: {place:?}");
    }
    // A pause of the process does not make payloads of its own time the same for longer.
    assert_eq!(second.place(0, b"new", 9_950_000), FeedPlace::First);
    assert_eq!(
        second.place(1, b"new", 10_949_999),
        FeedPlace::Duplicate { skew_us: Some(999_999) }
    );
    assert_eq!(second.place(1, b"new", 10_950_000), FeedPlace::First);
    writer.note_turn(11_000_000);
    let (_, mut other) = begin(false);
    assert_eq!(other.place(1, b"new", 11_000_001), FeedPlace::First, "another rule");
}

#[test]
fn more_rules_than_rows_are_merged() {
    let mut writer = Writer::new(create_page().unwrap());
    let mut grants = Vec::new();
    for index in 0..65 {
        let (slot, owner) =
            (Slot { index, generation: 1 }, SlotOwner::rule(&format!("rule {index}")));
        let grant = Grant { slot, owner, is_continued: false };
        writer.grant(&grant);
        grants.push(grant);
        assert_eq!(writer.payload_row(index).is_some(), index < 64);
    }
    writer.publish();
    writer.release(grants[7].slot);
    assert!(writer.payload_row(64).is_some());
}
