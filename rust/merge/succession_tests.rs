//! A merger that continues what another process has sent.

use super::tests::{PacedMerger, RTP};
use super::{Admission, FeedPlace, MergeSpec, Merger};
use crate::stats::merged::{STREAMS, SentStream};

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
