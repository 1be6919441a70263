//! The queue of one output: copies in a store of their own, in the order in which they leave.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::engine::limiter::RateLimiter;
use crate::engine::plan::PlanOutput;
use crate::engine::rewrite::{Origin, Rewrite};
use crate::engine::tap::Noted;
use crate::sys::messages::Piece;
use crate::sys::ring::{Ring, StoreId};

/// The memory that even the smallest copy takes, in bytes; it bounds their number.
const CELL: u32 = 256;

/// A copy that waits.
pub(super) struct QueuedCopy {
    /// When it leaves, in nanoseconds of CLOCK_MONOTONIC.
    pub(super) due_ns: u64,
    /// Where its payload is in the store.
    pub(super) start: u32,
    pub(super) len: u32,
    /// The origin of the datagram, as far as the rule preserves it.
    pub(super) origin: Option<Origin>,
    /// What taps need of it.
    pub(super) noted: Option<Noted>,
}

/// The copies of an output that wait for its rate.
pub(super) struct OutputQueue {
    /// The output's counter slot.
    pub(super) slot: u32,
    /// The rule's number, and the output's position in its share.
    pub(super) place: (u32, u32),
    pub(super) store: StoreId,
    pub(super) copies: VecDeque<QueuedCopy>,
    limiter: Arc<RateLimiter>,
    rewrite: Option<Arc<Rewrite>>,
    /// The size of the store, and the end of the newest copy in it. Copies follow one another, and
    /// begin again at the start when the end has no room.
    bytes: u32,
    end: u32,
    /// Whether copies leave one by one, and when the next one leaves at the earliest.
    is_paced: bool,
    next_ns: u64,
}

impl OutputQueue {
    /// The empty queue of an output with this bucket.
    pub(super) fn new(
        target: &PlanOutput,
        limiter: &Arc<RateLimiter>,
        place: (u32, u32),
        ring: &mut Ring,
    ) -> io::Result<Self> {
        let bytes = limiter.queue_bytes();
        Ok(Self {
            slot: target.slot.index,
            place,
            store: ring.add_store(bytes)?,
            copies: VecDeque::with_capacity((bytes / CELL) as usize),
            limiter: limiter.clone(),
            rewrite: target.rewrite.clone(),
            bytes,
            end: 0,
            is_paced: limiter.is_paced(),
            next_ns: 0,
        })
    }

    /// Whether copies leave one by one.
    pub(super) const fn is_paced(&self) -> bool {
        self.is_paced
    }

    /// Whether it can remain the queue of an output of another plan: what waits then leaves as it
    /// would have.
    pub(super) fn fits(&self, target: &PlanOutput) -> bool {
        let is_same_bucket =
            target.limiter().is_some_and(|limiter| Arc::ptr_eq(limiter, &self.limiter));
        let rewrites = (target.rewrite.as_ref(), self.rewrite.as_ref());
        let is_same_rewrite = match rewrites {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        is_same_bucket && is_same_rewrite
    }

    /// Copies a datagram that has arrived now; false if it would wait too long, or if there is no
    /// room.
    pub(super) fn push(
        &mut self,
        ring: &mut Ring,
        now_ns: u64,
        piece: Piece<'_>,
        origin: Option<Origin>,
        noted: Option<Noted>,
    ) -> bool {
        let len = piece.len;
        let size = len.max(1).next_multiple_of(CELL);
        // Room first: tokens are not given back.
        let Some(start) = self.room(size) else { return false };
        let Some(due_ns) = self.limiter.reserve(now_ns, len) else { return false };
        if !ring.store(piece, self.store, start) {
            return false;
        }
        self.end = start + size;
        self.copies.push_back(QueuedCopy { due_ns, start, len, origin, noted });
        true
    }

    /// When the first copy leaves.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.copies.front().map(|copy| copy.due_ns.max(self.next_ns))
    }

    /// Takes the first copy, which leaves now. Of an output that is paced, the next one follows not
    /// before half of the usual time: copies that are late do not leave at once.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<QueuedCopy> {
        let copy = self.copies.pop_front()?;
        if self.is_paced {
            self.next_ns = now_ns + self.limiter.spacing_ns(copy.len) / 2;
        }
        Some(copy)
    }

    /// Lets all copies leave now.
    pub(super) fn expire(&mut self) {
        self.copies.iter_mut().for_each(|copy| copy.due_ns = 0);
        (self.is_paced, self.next_ns) = (false, 0);
    }

    /// Where the next `size` bytes go, if there is room.
    fn room(&self, size: u32) -> Option<u32> {
        let Some(oldest) = self.copies.front().map(|copy| copy.start) else {
            return (size <= self.bytes).then_some(0);
        };
        if self.end <= oldest {
            return (self.end + size <= oldest).then_some(self.end);
        }
        if self.end + size <= self.bytes {
            return Some(self.end);
        }
        (size <= oldest).then_some(0)
    }
}
