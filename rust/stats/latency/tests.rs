use super::*;
use crate::stats::{self, Grant, Slot, SlotOwner, Writer, take_over};

const START: Clocks = Clocks { real_ns: 1_800_000_000_000_000_000, monotonic_ns: 5_000_000_000 };

fn after(ns: u64) -> Clocks {
    Clocks { real_ns: START.real_ns + ns, monotonic_ns: START.monotonic_ns + ns }
}

fn set_by(clocks: Clocks, ns: i64) -> Clocks {
    Clocks { real_ns: clocks.real_ns.checked_add_signed(ns).unwrap(), ..clocks }
}

fn writer(page: &Arc<SharedWords>) -> Writer {
    let mut writer = Writer::new(page.clone());
    writer.measure_latency();
    writer
}

fn grant(writer: &mut Writer, index: u32, id: &str, is_continued: bool) -> Slot {
    let slot = Slot { index, generation: 1 };
    writer.grant(&Grant { slot, owner: SlotOwner::rule(id), is_continued });
    writer.publish();
    slot
}

fn find(page: &Arc<SharedWords>, id: &str) -> Option<LatencyRow> {
    read_latency(page.view())?.find(SlotOwner::rule(id))
}

fn relay(writer: &mut Writer, slot: Slot, arrived: Clocks, now: Clocks) {
    writer.await_sends(slot.index, 1, Some(arrived.real_ns));
    writer.measure(|| now);
}

fn measured(row: &LatencyRow) -> u64 {
    row.buckets().map(|(_, count)| count).sum()
}

#[test]
fn each_datagram_of_a_super_frame_counts_with_its_time() {
    let page = stats::create_page().unwrap();
    assert!(read_latency(page.view()).is_none());
    let mut writer = writer(&page);
    let slot = grant(&mut writer, 3, "a", false);
    writer.await_sends(slot.index, 40, Some(START.real_ns));
    writer.await_sends(slot.index, 1, Some(START.real_ns + 20_000));
    writer.measure(|| after(50_000));
    let row = find(&page, "a").unwrap();
    assert_eq!((row.sum_ns(), row.max_ns(), row.unmeasured()), (2_030_000, 50_000, 0));
    let buckets: Vec<_> = row.buckets().collect();
    assert_eq!(buckets, [([28_672, 30_720], 1), ([49_152, 53_248], 40)]);
    assert!(find(&page, "b").is_none());
}

#[test]
fn what_a_set_clock_makes_of_times_is_not_measured() {
    let page = stats::create_page().unwrap();
    let mut writer = writer(&page);
    let slot = grant(&mut writer, 3, "a", false);
    relay(&mut writer, slot, START, after(10_000));
    // Set forward by a second while a datagram waits, and while another one waits in the kernel.
    let forward = |ns| set_by(after(ns), 1_000_000_000);
    relay(&mut writer, slot, after(20_000), forward(30_000));
    relay(&mut writer, slot, after(25_000), forward(40_000));
    relay(&mut writer, slot, forward(50_000), forward(60_000));
    // And set back: stamped in the future.
    relay(&mut writer, slot, forward(70_000), after(80_000));
    relay(&mut writer, slot, after(90_000), after(100_000));
    // Without a stamp, and longer than anything waits.
    writer.await_sends(slot.index, 1, None);
    writer.await_sends(slot.index, 1, Some(START.real_ns - (1 << 34)));
    writer.measure(|| after(110_000));
    let row = find(&page, "a").unwrap();
    assert_eq!((measured(&row), row.max_ns(), row.unmeasured()), (3, 10_000, 5));
}

#[test]
fn a_turn_that_relays_more_than_can_wait_leaves_the_rest_unmeasured() {
    let page = stats::create_page().unwrap();
    let mut writer = writer(&page);
    let slot = grant(&mut writer, 3, "a", false);
    for _ in 0..MOST_WAITING + 2 {
        writer.await_sends(slot.index, 1, Some(START.real_ns));
    }
    writer.measure(|| after(10_000));
    let row = find(&page, "a").unwrap();
    assert_eq!((measured(&row), row.unmeasured()), (MOST_WAITING as u64, 2));
}

#[test]
fn a_removed_rule_gives_its_row_back_and_a_new_one_begins_at_zero() {
    let page = stats::create_page().unwrap();
    let mut writer = writer(&page);
    let slot = grant(&mut writer, 3, "a", false);
    relay(&mut writer, slot, START, after(10_000));
    writer.release(slot);
    assert!(find(&page, "a").is_none());
    let slot = grant(&mut writer, 4, "b", false);
    assert_eq!(find(&page, "b"), Some(LatencyRow::default()));
    writer.release(slot);
    for number in 0..MAX_HISTOGRAMS + 1 {
        let index = u32::try_from(number).unwrap();
        let slot = grant(&mut writer, index, &number.to_string(), false);
        relay(&mut writer, slot, START, after(10_000));
    }
    assert_eq!(measured(&find(&page, "10239").unwrap()), 1);
    assert!(find(&page, "10240").is_none(), "the table is bounded");
}

#[test]
fn a_successor_continues_the_histogram_of_its_rules_only() {
    let page = stats::create_page().unwrap();
    let mut first = writer(&page);
    let slots = ["a", "b"].map(|id| grant(&mut first, u32::from(id.as_bytes()[0]), id, false));
    slots.iter().for_each(|slot| relay(&mut first, *slot, START, after(10_000)));
    drop(first);
    let found = take_over(&page).unwrap();
    let mut second = writer(&page);
    let next = Slot { generation: 2, ..slots[0] };
    second.grant(&Grant { slot: next, owner: SlotOwner::rule("a"), is_continued: true });
    relay(&mut second, next, START, after(20_000));
    second.release(found.owned[&SlotOwner::rule("b").tag()]);
    let row = find(&page, "a").unwrap();
    assert_eq!((measured(&row), row.sum_ns()), (2, 30_000));
    assert!(find(&page, "b").is_none());
}

#[test]
fn the_histograms_of_several_engines_add_up() {
    let pages = [stats::create_page().unwrap(), stats::create_page().unwrap()];
    let mut sum = LatencyRow::default();
    for (page, waited) in pages.iter().zip([10_000, 700_000]) {
        let mut writer = writer(page);
        let slot = grant(&mut writer, 0, "a", false);
        relay(&mut writer, slot, START, after(waited));
        sum.merge(&find(page, "a").unwrap());
    }
    assert_eq!((measured(&sum), sum.sum_ns(), sum.max_ns()), (2, 710_000, 700_000));
}
