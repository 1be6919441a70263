//! Datagrams without numbers: the same payload within a second is the same datagram.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::FixedState;

use super::FeedPlace;
use crate::stats::sent_payloads::{PayloadRow, ROW_WORDS};

/// How long a payload is remembered.
const WINDOW_US: u64 = 1_000_000;
/// The longest time for which no process merged that is added to it: daemons restart a worker after
/// 16 seconds at the latest.
const MOST_OUTAGE_US: u64 = 20_000_000;
/// Payloads with the same low bits of their hash, of which the oldest gives way.
const WAYS: usize = 8;
const SETS: usize = 1 << 12;
/// A payload has its hash, and the time when it arrived with the feed that delivered it.
const SET_WORDS: usize = 2 * WAYS;
const LEG_BITS: u32 = 2;
const _: () = assert!(SETS * SET_WORDS == ROW_WORDS && super::MAX_LEGS <= 1 << LEG_BITS);

pub(super) struct Payloads {
    cells: PayloadCells,
    /// Seeded, because senders choose what is hashed.
    hasher: FixedState,
    /// Until when another process merged, and how long none did afterwards, once that is known.
    until_us: u64,
    outage_us: Option<u64>,
}

/// Where payloads are remembered.
enum PayloadCells {
    Own(Box<[AtomicU64]>),
    /// In the page of counters, for the next process.
    Shared(PayloadRow),
}

impl Payloads {
    pub(super) fn new() -> Self {
        let cells = std::iter::repeat_with(AtomicU64::default).take(ROW_WORDS).collect();
        Self {
            cells: PayloadCells::Own(cells),
            hasher: FixedState::with_seed(RandomState::new().hash_one(0)),
            until_us: 0,
            outage_us: None,
        }
    }

    /// Continues in a row of the page of counters.
    pub(super) fn resume(&mut self, row: PayloadRow) {
        self.hasher = FixedState::with_seed(row.seed());
        self.until_us = row.used_until_us;
        self.cells = PayloadCells::Shared(row);
    }

    /// Finds out whether a feed had this payload before.
    pub(super) fn place(&mut self, leg: usize, datagram: &[u8], now_us: u64) -> FeedPlace {
        let until_us = self.until_us;
        let outage_us = *self
            .outage_us
            .get_or_insert_with(|| now_us.saturating_sub(until_us).min(MOST_OUTAGE_US));
        let remembered_us =
            |at_us: u64| if at_us <= until_us { WINDOW_US + outage_us } else { WINDOW_US };
        let hash = self.hasher.hash_one(datagram);
        let cells = match &self.cells {
            PayloadCells::Own(cells) => cells,
            PayloadCells::Shared(row) => row.cells(),
        };
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits")]
        let set = &cells[hash as usize % SETS * SET_WORDS..][..SET_WORDS];
        let (mut oldest, mut oldest_word) = (0, u64::MAX);
        for (at, payload) in set.as_chunks::<2>().0.iter().enumerate() {
            let [known, arrival] = payload.each_ref().map(|cell| cell.load(Ordering::Relaxed));
            let at_us = arrival >> LEG_BITS;
            if known == hash && arrival != 0 && now_us.saturating_sub(at_us) < remembered_us(at_us)
            {
                let is_other = arrival & ((1 << LEG_BITS) - 1) != leg as u64;
                let skew_us = is_other.then(|| now_us.saturating_sub(at_us));
                return FeedPlace::Duplicate { skew_us };
            }
            if arrival < oldest_word {
                (oldest, oldest_word) = (2 * at, arrival);
            }
        }
        set[oldest].store(hash, Ordering::Relaxed);
        set[oldest + 1].store(now_us.max(1) << LEG_BITS | leg as u64, Ordering::Release);
        FeedPlace::First
    }
}
