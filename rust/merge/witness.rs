//! A datagram far ahead of all feeds but one: whether another feed delivers the same one later. Its
//! number alone would not tell a feed that is ahead from one with numbers of its own.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

#[derive(Default)]
pub(super) struct Witness {
    watched: Option<WatchedDatagram>,
    /// Seeded, because senders choose what is hashed.
    hasher: DefaultHashBuilder,
}

/// A datagram that one feed has delivered.
struct WatchedDatagram {
    /// The place of its stream.
    at: usize,
    number: u64,
    leg: usize,
    hash: u64,
    since_us: u64,
}

impl Witness {
    /// Looks for this datagram on other feeds from now on, unless it looks for another one.
    pub(super) fn watch(
        &mut self,
        at: usize,
        leg: usize,
        (number, content): (u64, &[u8]),
        now_us: u64,
    ) {
        if self.watched.is_none() {
            let hash = self.hasher.hash_one(content);
            self.watched = Some(WatchedDatagram { at, number, leg, hash, since_us: now_us });
        }
    }

    /// The feed whose datagram this one is, if another one delivers it, and how far that is behind.
    #[inline]
    pub(super) fn confirms(
        &mut self,
        at: usize,
        leg: usize,
        (number, content): (u64, &[u8]),
        now_us: u64,
    ) -> Option<(usize, u64)> {
        let WatchedDatagram { at: place, number: watched, leg: by, hash, since_us } =
            *self.watched.as_ref()?;
        if at != place || leg != by && (number.wrapping_sub(watched).cast_signed()) < 0 {
            return None;
        }
        self.watched = None;
        let is_same = leg != by && number == watched && self.hasher.hash_one(content) == hash;
        is_same.then(|| (by, now_us.saturating_sub(since_us)))
    }

    /// How many numbers from this one on are not looked at.
    #[inline]
    pub(super) fn numbers_before(&self, at: usize, leg: usize, number: u64) -> u64 {
        match &self.watched {
            Some(watched) if watched.at == at => {
                let before = watched.number.wrapping_sub(number);
                if watched.leg == leg || before.cast_signed() < 0 { 0 } else { before }
            }
            _ => u64::MAX,
        }
    }

    /// Forgets the datagram if its stream ends.
    pub(super) fn leave(&mut self, at: usize) {
        self.watched.take_if(|watched| watched.at == at);
    }
}
