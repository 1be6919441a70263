//! Readers of pages with any content.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::{Grant, Writer, create_page, interface, metadata, rule};
use super::*;
use crate::addr::Addr;
use crate::sys::memory::SharedWords;

const INTERFACE: Slot = Slot { index: 0, generation: 1 };
const RULE: Slot = Slot { index: 1, generation: 1 };
const GROUP: Slot = Slot { index: 2, generation: 1 };

fn group() -> SlotOwner {
    SlotOwner::group("eth0", Addr::v4([239, 1, 1, 1]), 0)
}

/// A page with an interface, a rule on it and its group.
fn used() -> (Arc<SharedWords>, Writer) {
    let page = create_page().unwrap();
    let mut writer = Writer::new(page.clone());
    let owners = [SlotOwner::interface("eth0"), SlotOwner::rule("a"), group()];
    for (slot, owner) in [INTERFACE, RULE, GROUP].into_iter().zip(owners) {
        writer.grant(&Grant { slot, owner, is_continued: false });
    }
    metadata::set_name(&page, INTERFACE, "eth0");
    metadata::set_kernel_drops(&page, INTERFACE, 5);
    metadata::set_group(&page, RULE, group());
    writer.slot(INTERFACE.index)[interface::RECEIVED] = 9;
    writer.slot(RULE.index)[rule::MATCHED] = 8;
    writer.slot(GROUP.index)[super::super::group::UNMATCHED] = 1;
    writer.publish();
    (page, writer)
}

#[test]
fn slots_are_found_by_owner() {
    let (page, mut writer) = used();
    let snapshot = Snapshot::take(page.view()).unwrap();
    let owner = SlotOwner::rule("a");
    assert_eq!(snapshot.find(owner).unwrap()[rule::MATCHED], 8);
    assert_eq!(snapshot.find_group(owner).unwrap()[super::super::group::UNMATCHED], 1);
    assert!(snapshot.find(SlotOwner::rule("b")).is_none());
    assert!(snapshot.find_group(SlotOwner::rule("b")).is_none());
    let interfaces: Vec<_> = snapshot.interfaces().collect();
    assert_eq!((interfaces[0].name, interfaces[0].kernel_drops), ("eth0", 5));
    assert_eq!((interfaces.len(), interfaces[0].words[interface::RECEIVED]), (1, 9));
    writer.release(RULE);
    writer.publish();
    assert!(Snapshot::take(page.view()).unwrap().find(owner).is_none());
}

#[test]
fn the_longest_name_fits_but_no_longer_one() {
    let page = create_page().unwrap();
    for (name, kept) in [("fifteen-letters", Some("fifteen-letters")), ("sixteen-letters!", None)] {
        metadata::set_name(&page, RULE, name);
        let words = metadata::read(page.view(), RULE.index).unwrap();
        assert_eq!(metadata::name(&words).as_deref(), kept);
    }
}

#[test]
fn a_read_of_a_constantly_published_page_ends_in_time() {
    let (page, _) = used();
    page.words()[header::SEQUENCE].fetch_add(1, Ordering::Relaxed);
    let start = Instant::now();
    assert!(Snapshot::take(page.view()).is_none());
    assert!(start.elapsed() < 10 * PAGE_PATIENCE);
    metadata::set_alive(&page, 77);
    assert_eq!(alive_ms(page.view()), 77);
}

#[test]
fn another_layout_or_size_is_not_read() {
    let (page, _) = used();
    page.words()[header::LAYOUT].fetch_add(1, Ordering::Relaxed);
    assert!(Snapshot::take(page.view()).is_none());
    assert_eq!(alive_ms(page.view()), 0);
    let small = SharedWords::create(SLOT_WORDS).unwrap();
    small.words()[header::LAYOUT].store(LAYOUT, Ordering::Relaxed);
    assert!(Snapshot::take(small.view()).is_none());
}

fn word() -> impl Strategy<Value = u64> {
    let tag = SlotOwner::interface("eth0").tag();
    prop_oneof![Just(0), Just(2), 0..200_u64, Just(tag), any::<u64>(), Just(u64::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_page_content_is_harmless(
        damage in prop::collection::vec((0..200_usize, word()), 0..60),
        beside in prop::collection::vec(any::<u64>(), 0..16),
    ) {
        let (page, _) = used();
        let damage = damage.into_iter().filter(|(at, _)| *at != header::LAYOUT);
        let beside = beside.into_iter().enumerate();
        let beside = beside.map(|(at, word)| (super::super::METADATA_START + at, word));
        for (at, word) in damage.chain(beside) {
            page.words()[at].store(word, Ordering::Relaxed);
        }
        let start = Instant::now();
        if let Some(snapshot) = Snapshot::take(page.view()) {
            prop_assert!(snapshot.places.len() <= MAX_SLOTS as usize);
            prop_assert!(snapshot.interfaces().all(|one| one.name.len() < 16));
            let group = snapshot.find_group(SlotOwner::rule("a"));
            prop_assert!(group.is_none_or(|words| words[TAG] != 0 || *words == [0; SLOT_WORDS]));
        }
        prop_assert!(start.elapsed() < Duration::from_secs(2));
    }
}
