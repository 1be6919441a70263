//! Counts that a page of another layout continues.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::{Grant, Slot, SlotWords, Snapshot, Writer, create_page, read, take_over};
use super::*;

fn owners() -> [SlotOwner; 4] {
    let group = crate::addr::Addr::v4([239, 1, 1, 1]);
    [
        SlotOwner::interface("eth0"),
        SlotOwner::group("eth0", group, 0),
        SlotOwner::rule("a"),
        SlotOwner::output(7),
    ]
}

/// A page in which each owner has counted, with a free slot between them.
fn used() -> Arc<SharedWords> {
    let page = create_page().unwrap();
    let mut writer = Writer::new(page.clone());
    for (index, owner) in [0, 1, 3, 4].into_iter().zip(owners()) {
        let slot = Slot { index, generation: 1 };
        writer.grant(&Grant { slot, owner, is_continued: false });
    }
    for (word, value) in [
        (interface::RECEIVED, 12),
        (interface::MATCHED, 9),
        (interface::RECEIVED_BYTES, 1200),
        (interface::DROPPED + Discard::NoRule as usize, 3),
    ] {
        writer.slot(0)[word] = value;
    }
    writer.slot(1)[group::UNMATCHED] = 3;
    writer.slot(3)[rule::MATCHED] = 9;
    writer.slot(3)[rule::LAST_SOURCE + 1] = 77;
    for (word, value) in [
        (output::WANTED, 9),
        (output::SENT, 6),
        (output::DROPPED + Loss::SendError as usize, 2),
        (output::DROPPED + Loss::OutputFull as usize, 1),
        (output::ERRORS, 101),
        (output::ERRORS + 1, 2),
    ] {
        writer.slot(4)[word] = value;
    }
    writer.publish();
    metadata::set_kernel_drops(&page, Slot { index: 0, generation: 1 }, 5);
    metadata::set_name(&page, Slot { index: 0, generation: 1 }, "eth0");
    page
}

/// What a process that takes a page over resumes from.
fn resumed(page: &Arc<SharedWords>) -> [SlotWords; 4] {
    let found = take_over(page).unwrap();
    let mut writer = Writer::new(page.clone());
    owners().map(|owner| {
        let slot = found.owned[&owner.tag()];
        writer.grant(&Grant { slot, owner, is_continued: true });
        writer.publish();
        let mut words = read(page.view(), slot).unwrap();
        words[GENERATION] = 0;
        words
    })
}

#[test]
fn counts_continue_in_another_page() {
    let (old, new) = (used(), create_page().unwrap());
    import(&new, &export(&old).unwrap()).unwrap();
    let drops = |page: &SharedWords| {
        let found = Snapshot::take(page.view()).unwrap();
        found.interfaces().map(|each| (each.name.to_owned(), each.kernel_drops)).collect::<Vec<_>>()
    };
    assert_eq!(drops(&new), [("eth0".to_owned(), 5)]);
    assert_eq!(resumed(&new), resumed(&old));
}

#[test]
fn names_that_this_version_does_not_know_are_left_out() {
    let (old, new) = (used(), create_page().unwrap());
    let mut bytes = export(&old).unwrap();
    let tag = SlotOwner::rule("a").tag();
    let unknown = [tag, hash("invented", "later"), 5].map(u64::to_le_bytes);
    bytes.extend(unknown.as_flattened());
    bytes.extend([1; 5]); // an entry that was cut off
    import(&new, &bytes).unwrap();
    assert_eq!(resumed(&new), resumed(&old));
}

#[test]
fn a_page_of_another_layout_is_refused() {
    let page = used();
    page.words()[header::LAYOUT].store(LAYOUT + 1, Ordering::Relaxed);
    assert_eq!(export(&page).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(import(&page, &[]).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn all_names_differ() {
    let Fields { interface, group, rule, output } = Fields::new();
    for fields in [interface, group, rule, output] {
        let names: std::collections::HashSet<u64> = fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), fields.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_counts_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let page = create_page().unwrap();
        import(&page, &bytes).unwrap();
        take_over(&page).unwrap();
        export(&page).unwrap();
    }
}
