//! A page of counters that an older process, or whoever has taken it over, has left: it is read,
//! taken over, and carried over to a page of another version. What was carried over once stays the
//! same.
#![no_main]

use std::sync::atomic::Ordering;

use _native::stats::{self, SLOT_WORDS, Snapshot, carried};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

/// Slots whose words are damaged.
const SLOTS: usize = 16;

#[derive(Arbitrary, Debug)]
struct Damage<'a> {
    words: Vec<(u16, u64)>,
    /// Counts of another version.
    counts: &'a [u8],
}

fuzz_target!(|damage: Damage<'_>| {
    let page = stats::create_page().expect("memory for a page");
    for (place, word) in damage.words {
        page.words()[usize::from(place) % (SLOTS * SLOT_WORDS)].store(word, Ordering::Relaxed);
    }
    let exported = carried::export(&page);
    if let Ok(found) = stats::take_over(&page) {
        assert!(found.owned.len() + found.free.len() == found.used as usize);
        assert!(Snapshot::take(page.view()).is_some(), "it is consistent once it is taken over");
    }
    for counts in [exported.as_deref().unwrap_or(&[]), damage.counts] {
        let once = carry(counts);
        assert_eq!(carry(&once), once, "what is carried over stays the same");
    }
});

fn carry(counts: &[u8]) -> Vec<u8> {
    let page = stats::create_page().expect("memory for a page");
    carried::import(&page, counts).expect("a page of this version");
    carried::export(&page).expect("a page of this version")
}
