//! Any datagrams of several feeds: the first of each is sent, and no number twice.
#![no_main]

use std::collections::HashSet;

use _native::merge::{FeedPlace, MergeMode, MergeSpec, Merger};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Mode {
    Rtp,
    Mold,
    Seq { offset: u16, bits: u8, little_endian: bool },
    Hash,
    Failover { after_ms: u32 },
}

#[derive(Arbitrary, Debug)]
struct Feeds<'a> {
    mode: Mode,
    late: bool,
    hold_us: u32,
    datagrams: Vec<(u8, u16, &'a [u8])>,
}

fuzz_target!(|feeds: Feeds<'_>| {
    let mode = match feeds.mode {
        Mode::Rtp => MergeMode::Rtp,
        Mode::Mold => MergeMode::Mold,
        Mode::Seq { offset, bits, little_endian } => MergeMode::Seq { offset, bits, little_endian },
        Mode::Hash => MergeMode::Hash,
        Mode::Failover { after_ms } => MergeMode::Failover { after_ms },
    };
    let spec = MergeSpec { mode, late: feeds.late, hold_us: feeds.hold_us };
    if !spec.is_valid() {
        return;
    }
    let mut merger = Merger::new(spec);
    let (mut now_us, mut sent) = (0, HashSet::new());
    for (leg, pause_us, datagram) in feeds.datagrams {
        now_us += u64::from(pause_us);
        let place = merger.place(leg, datagram, now_us);
        let is_sent = merger.sends(place);
        assert!(!is_sent || !matches!(place, FeedPlace::Duplicate { .. }));
        // Payloads are remembered for a second.
        if is_sent && mode == MergeMode::Hash && now_us < 1_000_000 {
            assert!(sent.insert(datagram), "a payload was sent twice");
        }
        if let Some((span, order)) = merger.span_in_order() {
            let _ = order.admit(span, now_us);
            while order.pop(now_us).is_some() {}
        }
    }
});
