//! Datagrams without numbers: the same payload within a second is the same datagram.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::FeedPlace;

/// How long a payload is remembered.
const WINDOW_US: u64 = 1_000_000;
/// Payloads with the same low bits of their hash, of which the oldest gives way.
const WAYS: usize = 8;
const SETS: usize = 1 << 12;

#[derive(Clone, Copy)]
struct Payload {
    hash: u64,
    arrival_us: u64,
    leg: usize,
}

pub(super) struct Payloads {
    sets: Box<[[Payload; WAYS]]>,
    /// Seeded, because senders choose what is hashed.
    hasher: DefaultHashBuilder,
}

impl Payloads {
    pub(super) fn new() -> Self {
        let none = Payload { hash: 0, arrival_us: 0, leg: 0 };
        let sets = vec![[none; WAYS]; SETS].into();
        Self { sets, hasher: DefaultHashBuilder::default() }
    }

    /// Finds out whether a feed had this payload before.
    pub(super) fn place(&mut self, leg: usize, datagram: &[u8], now_us: u64) -> FeedPlace {
        let hash = self.hasher.hash_one(datagram);
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits")]
        let set = &mut self.sets[hash as usize % SETS];
        let is_recent = |known: &&Payload| {
            known.arrival_us != 0 && now_us.saturating_sub(known.arrival_us) < WINDOW_US
        };
        if let Some(known) = set.iter().filter(is_recent).find(|known| known.hash == hash) {
            let is_other = known.leg != leg;
            let skew_us = is_other.then(|| now_us.saturating_sub(known.arrival_us));
            return FeedPlace::Duplicate { skew_us };
        }
        if let Some(oldest) = set.iter_mut().min_by_key(|known| known.arrival_us) {
            *oldest = Payload { hash, arrival_us: now_us.max(1), leg };
        }
        FeedPlace::First
    }
}
