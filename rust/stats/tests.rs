//! A writer and readers of one page.

use super::*;

const SLOT: Slot = Slot { index: 3, generation: 7 };

fn granted(slot: Slot) -> Grant {
    Grant { slot, owner: SlotOwner::rule("a"), is_continued: false }
}

#[test]
fn a_reader_sees_published_counts_of_its_generation_only() {
    let page = create_page().unwrap();
    let mut writer = Writer::new(page.clone());
    writer.grant(&granted(SLOT));
    writer.slot(3)[rule::MATCHED] = 5;
    assert_eq!(read(page.view(), SLOT), None);
    writer.publish();
    assert_eq!(read(page.view(), SLOT).unwrap()[rule::MATCHED], 5);
    assert_eq!(read(page.view(), Slot { generation: 8, ..SLOT }), None);
    assert_eq!(read(page.view(), Slot { index: u32::MAX, generation: 1 }), None);
}

#[test]
fn a_page_of_another_layout_is_not_read() {
    let page = create_page().unwrap();
    let mut writer = Writer::new(page.clone());
    writer.grant(&granted(SLOT));
    writer.publish();
    assert!(read(page.view(), SLOT).is_some());
    page.words()[header::LAYOUT].store(LAYOUT + 1, Ordering::Relaxed);
    assert_eq!(read(page.view(), SLOT), None);
}

#[test]
fn a_reassigned_slot_is_not_read_for_its_first_owner() {
    let page = create_page().unwrap();
    let mut writer = Writer::new(page.clone());
    writer.grant(&granted(SLOT));
    writer.slot(3)[rule::MATCHED] = 5;
    let next = Slot { generation: SLOT.generation + 1, ..SLOT };
    writer.grant(&granted(next));
    writer.publish();
    assert_eq!(read(page.view(), SLOT), None);
    assert_eq!(read(page.view(), next).unwrap()[rule::MATCHED], 0);
}

#[test]
fn what_a_rule_has_sent_is_known_to_its_next_process_only() {
    let page = create_page().unwrap();
    let mut writer = Writer::new(page.clone());
    writer.grant(&granted(SLOT));
    let sent = merged::SentStream { id: 0, next: 70_000 };
    writer.set_sent(3, 2, sent);
    let mut next = Writer::new(page);
    next.grant(&Grant { is_continued: true, ..granted(SLOT) });
    let found = next.sent_streams(3);
    assert_eq!((found[1], found[2], found[3]), (None, Some(sent), None));
    next.grant(&granted(SLOT));
    assert_eq!(next.sent_streams(3), [None; merged::STREAMS]);
}

#[test]
fn consistent_numbers_are_read_consistently_while_they_change() {
    let page = create_page().unwrap();
    let reader = page.clone();
    let mut writer = Writer::new(page);
    writer.grant(&granted(SLOT));
    writer.publish();
    let thread = std::thread::spawn(move || {
        for _ in 0..200_000 {
            let words = writer.slot(SLOT.index);
            words[output::WANTED] += 2;
            words[output::SENT] += 1;
            words[output::DROPPED] += 1;
            writer.publish();
        }
    });
    while !thread.is_finished() {
        // A reader gives up while the writer waits for a processor in the middle of a change.
        let Some(words) = read(reader.view(), SLOT) else { continue };
        assert_eq!(words[output::WANTED], words[output::SENT] + words[output::DROPPED]);
    }
    thread.join().unwrap();
    assert_eq!(read(reader.view(), SLOT).unwrap()[output::SENT], 200_000);
}

#[test]
fn more_errnos_than_pairs_still_add_up() {
    let mut words = [0; SLOT_WORDS];
    for errno in 1..=20 {
        count_send_error(&mut words, errno, 3, 9);
    }
    let pairs = words[output::ERRORS..].chunks_exact(2).take(output::ERROR_PAIRS);
    assert_eq!(pairs.map(|pair| pair[1]).sum::<u64>(), 60);
    assert_eq!(words[output::DROPPED + Loss::SendError as usize], 60);
    assert_eq!((words[output::LOST_MS], words[output::LAST_ERRNO]), (9, 20));
}
