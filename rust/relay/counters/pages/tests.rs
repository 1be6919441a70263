//! The pages of two workers, read by a third process.

use std::fs::File;
use std::os::fd::AsRawFd;

use proptest::prelude::*;

use super::*;
use crate::addr::Addr;
use crate::relay::SocketReason;
use crate::stats::{
    Grant, Slot, Writer, count_send_error, create_page, group, interface, metadata, output, rule,
};
use crate::sys::memory::SharedWords;

/// A worker that counts for the rule `a` with one output on `eth0`.
struct FakeWorker {
    page: Arc<SharedWords>,
    writer: Writer,
}

const OWNERS: usize = 4;

/// Of the outputs of the rule; only the first has counters.
const KEYS: [u64; 2] = [0, 1];

fn slot(index: u32) -> Slot {
    Slot { index, generation: 1 }
}

impl FakeWorker {
    fn new() -> Self {
        let page = create_page().unwrap();
        let mut writer = Writer::new(page.clone());
        let group = SlotOwner::group("eth0", Addr::v4([239, 1, 1, 1]), 0);
        let owners: [SlotOwner; OWNERS] =
            [SlotOwner::interface("eth0"), SlotOwner::rule("a"), group, SlotOwner::output(0)];
        for (index, owner) in (0..).zip(owners) {
            writer.grant(&Grant { slot: slot(index), owner, is_continued: false });
        }
        metadata::set_name(&page, slot(0), "eth0");
        metadata::set_group(&page, slot(1), group);
        writer.publish();
        Self { page, writer }
    }

    fn count(&mut self, datagrams: u64, at_ms: u64, source: u64) {
        self.writer.slot(0)[interface::RECEIVED] += datagrams;
        self.writer.slot(0)[interface::MATCHED] += datagrams;
        let words = self.writer.slot(1);
        words[rule::MATCHED] += datagrams;
        words[rule::LAST_SEEN_MS] = at_ms;
        words[rule::LAST_SOURCE + 1] = source;
        self.writer.slot(2)[group::UNMATCHED] += 1;
        self.writer.slot(3)[output::WANTED] += datagrams;
        self.writer.slot(3)[output::SENT] += datagrams - 1;
        count_send_error(self.writer.slot(3), 101, 1, at_ms);
        self.writer.publish();
    }

    /// The page as its readers get it: read-only.
    fn read_only(&self) -> OwnedFd {
        File::open(format!("/proc/self/fd/{}", self.page.fd().as_raw_fd())).unwrap().into()
    }
}

fn status(outputs: usize) -> RuleStatus {
    RuleStatus {
        id: "a".to_owned(),
        trouble: None,
        parked: vec![None; outputs],
        engine_sentence: None,
    }
}

#[test]
fn counters_of_workers_are_summed_and_the_newest_times_reported() {
    let mut workers = [FakeWorker::new(), FakeWorker::new()];
    workers[0].count(10, 5, 7);
    workers[1].count(20, 6, 8);
    metadata::set_kernel_drops(&workers[0].page, slot(0), 3);
    metadata::set_kernel_drops(&workers[1].page, slot(0), 4);
    let pages = WorkerPages::open(workers.iter().map(FakeWorker::read_only).collect()).unwrap();
    let reading = pages.read();
    assert!(reading.stale.is_empty());
    assert_eq!(reading.kernel_dropped_frames(), [3, 4]);
    let interfaces = reading.interfaces();
    assert_eq!((interfaces.len(), &*interfaces[0].name), (1, "eth0"));
    assert_eq!((interfaces[0].received, interfaces[0].kernel_dropped_frames), (30, 7));
    assert!(reading.has_rule("a") && !reading.has_rule("b"));
    let counted = reading.rule(status(1), true, &KEYS);
    assert_eq!((counted.matched, counted.group_seen, counted.enabled), (30, 2, true));
    assert_eq!(counted.last_source.unwrap().to_string(), "::8");
    let output = &counted.outputs[0];
    assert_eq!((output.wanted, output.sent, output.pending, output.errors[&101]), (30, 28, 0, 2));
    let all = reading.copy_counts();
    assert_eq!((all.wanted, all.sent, all.sent_bytes, all.lost), (30, 28, output.sent_bytes, 2));
}

#[test]
fn an_output_that_a_worker_sends_through_xdp_counts_as_xdp() {
    let workers = [FakeWorker::new(), FakeWorker::new()];
    let way = || {
        let pages = workers.iter().map(FakeWorker::read_only).collect();
        WorkerPages::open(pages).unwrap().read().rule(status(1), true, &KEYS).outputs[0].way
    };
    assert_eq!(way(), None);
    let batches = OutputWay::Socket(SocketReason::Batches.name());
    let chosen = OutputWay::Socket(SocketReason::Chosen.name());
    for (one, other, shown) in [
        (batches, chosen, chosen),
        (OutputWay::Xdp, chosen, OutputWay::Xdp),
        (batches, OutputWay::Xdp, OutputWay::Xdp),
    ] {
        metadata::set_way(&workers[0].page, slot(3), one.to_word());
        metadata::set_way(&workers[1].page, slot(3), other.to_word());
        assert_eq!(way(), Some(shown));
    }
    metadata::set_way(&workers[1].page, slot(3), u64::MAX);
    assert_eq!(way(), Some(batches));
}

#[test]
fn the_last_reading_of_a_page_is_used_during_an_update() {
    let mut worker = FakeWorker::new();
    worker.count(10, 5, 7);
    let pages = WorkerPages::open(vec![worker.read_only()]).unwrap();
    assert_eq!(pages.read().rule(status(1), false, &KEYS).matched, 10);
    // Its process was stopped in the middle of publishing: the second word is the sequence.
    worker.page.words()[1].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let reading = pages.read();
    assert_eq!((&*reading.stale, reading.rule(status(1), false, &KEYS).matched), (&[0][..], 10));
}

#[test]
fn a_rule_for_which_no_worker_counts_has_zeros() {
    let nothing = WorkerPages::open(Vec::new()).unwrap().read();
    let counted = nothing.rule(status(2), false, &KEYS);
    assert_eq!((counted.matched, counted.outputs.len(), counted.last_seen_age_ms), (0, 2, None));
    assert!(!nothing.has_rule("a") && nothing.interfaces().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_writes_of_a_worker_only_make_its_own_counters_wrong(
        damage in prop::collection::vec((1..32 * (OWNERS + 2), any::<u64>()), 0..100),
        outputs in 0..3_usize,
    ) {
        let mut workers = [FakeWorker::new(), FakeWorker::new()];
        workers[1].count(20, 6, 8);
        for (at, word) in damage {
            workers[0].page.words()[at].store(word, std::sync::atomic::Ordering::Relaxed);
        }
        let pages = workers.iter().map(FakeWorker::read_only).collect();
        let reading = WorkerPages::open(pages).unwrap().read();
        prop_assert!(!reading.stale.contains(&1));
        prop_assert!(reading.interfaces().iter().any(|one| one.received >= 20));
        let counted = reading.rule(status(outputs), false, &vec![0; outputs]);
        prop_assert!(counted.matched >= 20 && counted.outputs.len() == outputs);
        prop_assert_eq!(reading.kernel_dropped_frames().len(), 2);
    }
}
