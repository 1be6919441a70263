//! Chains: several batches of a lane in one wave, one behind the other at each output.
//!
//! In a linked chain the kernel begins no send before the previous one has succeeded, and cancels
//! what follows a refused one, which can then be split and repeated without reordering. A link costs
//! a tenth of a small send. So where each output is a group and has proved that it accepts batches,
//! the chain is loose: the kernel begins its sends one after the other, whatever becomes of each.
//! A refusal is then nearly always of all that follows too (the socket is being reconnected), and
//! is repeated in order; a send that was overtaken is lost.

use std::ops::Range;

use super::Egress;
use super::batch::Batches;
use super::cursor::Cursor;
use super::tapped::CopyOutcome;
use crate::engine::plan::PlanOutput;
use crate::engine::window::Window;
use crate::stats::{Loss, Writer};

/// The number of sends that linked chains fill a wave to: enough that the system call of the wave
/// costs each of them little.
pub(super) const CHAIN_SENDS: usize = 64;
/// The number of sends from which a wave needs no linked chains: the links would cost more than the
/// system calls that they save.
pub(super) const FULL_WAVE: usize = 8;
/// The number of sends that loose chains fill a wave to: what the kernel holds of them then stays
/// in the cache.
pub(super) const LOOSE_SENDS: usize = 256;
/// The most datagrams in a batch that another one may follow in a loose chain. The system call and
/// the socket's state are a small part of what larger ones cost, and the next output would find
/// their bytes out of the cache.
pub(super) const SMALL_BATCH: u32 = 8;

/// The next batches of a lane.
pub(super) struct Chain {
    pub(super) batches: Range<u32>,
    pub(super) datagrams: u32,
    pub(super) is_loose: bool,
}

impl Egress {
    /// Takes more batches of a lane behind the first one of its chain. A linked chain only if the
    /// wave would have few `sends` with one batch of each lane.
    #[inline(never)]
    pub(super) fn lengthen_chain(
        &mut self,
        chain: &mut Chain,
        window: &mut Window,
        lane: u32,
        targets: &[PlanOutput],
        sends: usize,
    ) {
        let free = self.cursors.capacity() - self.cursors.len();
        if self.is_small(chain.batches.start, u32::MAX)
            && let Some(largest) = self.loose_segment(targets)
        {
            let room = LOOSE_SENDS.saturating_sub(self.cursors.len()).min(free);
            let most = room / targets.len().max(1);
            while chain.batches.len() < most
                && self.batches.len() < LOOSE_SENDS
                && self.is_small(chain.batches.end - 1, largest)
                && self.add_batch(chain, window, lane)
            {}
            chain.is_loose = true;
        } else if sends < FULL_WAVE {
            let most = CHAIN_SENDS.min(free) / sends.max(1);
            while chain.batches.len() < most && self.add_batch(chain, window, lane) {}
        }
    }

    fn add_batch(&mut self, chain: &mut Chain, window: &mut Window, lane: u32) -> bool {
        let Some(batch) = self.batches.take(window, lane, None) else { return false };
        chain.batches.end = batch + 1;
        chain.datagrams += self.batches.datagrams(batch);
        true
    }

    /// Whether a batch of datagrams of at most `largest` bytes is one send for certain, and a small
    /// one.
    fn is_small(&self, batch: u32, largest: u32) -> bool {
        let datagrams = self.batches.datagrams(batch);
        datagrams == 1 || (datagrams <= SMALL_BATCH && self.batches.segment(batch) <= largest)
    }

    /// The largest datagrams in bytes of which all outputs take [`SMALL_BATCH`] at once; `None`
    /// unless all are groups and have proved it.
    fn loose_segment(&self, targets: &[PlanOutput]) -> Option<u32> {
        targets.iter().try_fold(u32::MAX, |least, target| {
            let limits = &self.limits[target.slot.index as usize];
            let largest = limits.proven_segment(SMALL_BATCH).filter(|_| target.is_group)?;
            Some(least.min(largest))
        })
    }

    /// Adds the rest of a chain behind the cursor of its first batch.
    #[inline(never)]
    pub(super) fn add_cursors(&mut self, chain: &Chain) {
        let Some(first) = self.cursors.last_mut() else { return };
        let Range { start, end } = chain.batches;
        (first.is_loose, first.is_followed) = (chain.is_loose, !chain.is_loose);
        let first = *first;
        self.cursors.extend((start + 1..end).map(|batch| Cursor {
            batch,
            follows: !chain.is_loose,
            is_followed: !chain.is_loose && batch + 1 < end,
            ..first
        }));
    }

    /// Decides about the sends of loose chains that were refused and could be repeated: those that
    /// later ones have overtaken are lost. All that remains is sent in sequence.
    #[cold]
    pub(super) fn settle_chains(&mut self, counters: &mut Writer) {
        let Self { batches, cursors, limits, outcomes, taps, .. } = self;
        let now_ms = counters.now_ms();
        let mut overtaken = None;
        for cursor in cursors.iter_mut().rev() {
            if cursor.is_finished(batches) {
                overtaken = Some(cursor.place());
                continue;
            }
            if cursor.refusal != 0 && overtaken == Some(cursor.place()) {
                limits[cursor.slot as usize].distrust();
                let done = cursor.done;
                cursor.count_overtaken(batches, counters.slot(cursor.slot), now_ms);
                if taps.is_some() {
                    let loss = Some((Loss::SendError, cursor.refusal));
                    outcomes.push(CopyOutcome::since(done, cursor, loss));
                }
            }
            (cursor.is_loose, cursor.refusal) = (false, 0);
        }
    }
}

/// Removes what is finished, and finds what is left of each chain.
pub(super) fn retain_unfinished(cursors: &mut Vec<Cursor>, batches: &Batches) {
    cursors.retain(|cursor| !cursor.is_finished(batches));
    let mut previous = None;
    for cursor in cursors {
        let is_next = previous.replace(cursor.place()) == Some(cursor.place());
        cursor.follows = is_next && !cursor.is_loose;
    }
}
