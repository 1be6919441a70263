//! Takeover of pages with any content.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::{
    Discard, Grant, Loss, SlotOwner, SlotWords, Writer, create_page, interface, output, read, rule,
};
use super::*;

const FIRST: Slot = Slot { index: 0, generation: 1 };
const SECOND: Slot = Slot { index: 1, generation: 1 };

fn owners() -> [SlotOwner; 2] {
    [SlotOwner::interface("eth0"), SlotOwner::output(0)]
}

/// A page in which an interface and an output have counted.
fn used() -> Arc<SharedWords> {
    let page = create_page().unwrap();
    let mut writer = Writer::new(page.clone());
    for (slot, owner) in [FIRST, SECOND].into_iter().zip(owners()) {
        writer.grant(&Grant { slot, owner, is_continued: false });
    }
    writer.slot(0)[interface::RECEIVED] = 9;
    writer.slot(0)[interface::MATCHED] = 9;
    writer.slot(1)[output::WANTED] = 7;
    writer.slot(1)[output::SENT] = 7;
    writer.publish();
    page
}

/// The counts that the successor resumes from, in the slots of both owners.
fn successors(page: &Arc<SharedWords>, found: &Found) -> [SlotWords; 2] {
    let mut writer = Writer::new(page.clone());
    owners().map(|owner| {
        let found = found.owned.get(&owner.tag()).copied();
        let slot = Slot { generation: 77, ..found.unwrap_or(Slot { index: 5, generation: 0 }) };
        writer.grant(&Grant { slot, owner, is_continued: found.is_some() });
        writer.publish();
        read(page.view(), slot).unwrap()
    })
}

#[test]
fn a_successor_finds_counts_and_owners() {
    let page = used();
    assert_eq!(incarnations(&page), 0);
    let found = take_over(&page).unwrap();
    assert_eq!((incarnations(&page), found.used, found.free.len()), (1, 2, 0));
    let [interface, output] = successors(&page, &found);
    assert_eq!((interface[interface::RECEIVED], output[output::SENT]), (9, 7));
    assert!(!found.owned.contains_key(&SlotOwner::output(1).tag()));
    assert!(!found.owned.contains_key(&SlotOwner::rule("a").tag()));
}

#[test]
fn a_slot_that_was_released_is_free() {
    let page = used();
    let mut writer = Writer::new(page.clone());
    writer.release(SECOND);
    writer.publish();
    let found = take_over(&page).unwrap();
    assert_eq!(found.owned.keys().copied().collect::<Vec<_>>(), [owners()[0].tag()]);
    assert_eq!(found.free.len(), 1);
}

#[test]
fn a_page_of_another_layout_or_size_is_refused() {
    let page = used();
    page.words()[header::LAYOUT].fetch_add(1, Ordering::Relaxed);
    assert_eq!(take_over(&page).unwrap_err().kind(), io::ErrorKind::InvalidData);
    let small = SharedWords::create(SLOT_WORDS * 2).unwrap();
    small.words()[header::LAYOUT].store(LAYOUT, Ordering::Relaxed);
    assert_eq!(take_over(&small).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(
        take_over(&SharedWords::create(1).unwrap()).unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
}

#[test]
fn a_writer_that_died_while_publishing_blocks_no_reader() {
    let page = used();
    // Half of a turn's counts: the wanted copies, but not the sent ones.
    page.words()[header::SEQUENCE].fetch_add(1, Ordering::Relaxed);
    page.words()[2 * SLOT_WORDS + output::WANTED].store(12, Ordering::Relaxed);
    assert_eq!(read(page.view(), FIRST), None);
    let found = take_over(&page).unwrap();
    assert!(read(page.view(), FIRST).is_some());
    // Consistent before the successor has published anything.
    let output = read(page.view(), SECOND).unwrap();
    assert_eq!((output[output::WANTED], output[output::SENT]), (7, 7));
    let [_, output] = successors(&page, &found);
    assert_eq!((output[output::WANTED], output[output::SENT]), (7, 7));
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), 0..200_u64, Just(owners()[1].tag()), any::<u64>(), Just(u64::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_page_content_is_harmless(damage in prop::collection::vec((0..200_usize, word()), 0..60)) {
        let page = used();
        for (at, word) in damage {
            if at != header::LAYOUT {
                page.words()[at].store(word, Ordering::Relaxed);
            }
        }
        let found = take_over(&page).unwrap();
        prop_assert!(found.used <= MAX_SLOTS);
        prop_assert!(found.owned.values().chain(&found.free).all(|slot| slot.index < found.used));
        let [interface, output] = successors(&page, &found);
        let dropped = &interface[interface::DROPPED..interface::DROPPED + Discard::COUNT];
        prop_assert_eq!(
            interface[interface::RECEIVED],
            interface[interface::MATCHED] + dropped.iter().sum::<u64>()
        );
        let lost = &output[output::DROPPED..output::DROPPED + Loss::COUNT];
        prop_assert_eq!(output[output::WANTED], output[output::SENT] + lost.iter().sum::<u64>());
        let failed = output[output::ERRORS..].chunks_exact(2).take(output::ERROR_PAIRS);
        prop_assert_eq!(lost[Loss::SendError as usize], failed.map(|pair| pair[1]).sum::<u64>());
        // Counting can continue for a long time.
        prop_assert!(output[output::SENT] < 1 << 60 && interface[rule::MATCHED] < 1 << 60);
    }
}
