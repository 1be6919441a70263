//! Datagrams of merging rules that are held until the gap before them is filled, and their way back
//! into the window. Their bytes are in a store, since received buffers are few; they count as wanted
//! by the outputs, and so as pending.

use std::collections::VecDeque;
use std::io;

use crate::engine::Engine;
use crate::engine::entry_pieces::{EntryPiece, MAX_PARTS, Placed, count_place};
use crate::engine::ingress::Arrival;
use crate::engine::lanes::Lanes;
use crate::engine::plan::{Plan, PlanOutput, PlanRule};
use crate::engine::rewrite::Origin;
use crate::engine::tap::Noted;
use crate::engine::window::WindowEntry;
use crate::merge::{Admission, MOST_HELD, Merger, ORDER_BYTES, Reorderer};
use crate::stats::output;
use crate::sys::messages::Piece;
use crate::sys::ring::{Ring, StoreId};

/// The memory of what a rule holds: 50 ms at 100,000 datagrams a second with 1400 bytes each.
const STORE_BYTES: u32 = 8 << 20;
/// The memory that even the smallest datagram takes, in bytes.
const CELL: u32 = 64;
/// The most datagrams of one buffer, and the memory that they take at most.
const BUFFER_DATAGRAMS: usize = 128;
const BUFFER_BYTES: u32 = 96 << 10;
const _: () = assert!(BUFFER_BYTES as usize >= (1 << 16) + (BUFFER_DATAGRAMS + 1) * CELL as usize);
/// The most memory for what a rule holds, and for the order of it.
const MOST_BYTES: usize = 12 << 20;
const _: () = {
    let records = MOST_HELD * size_of::<HeldCopy>();
    assert!(STORE_BYTES as usize + records + ORDER_BYTES <= MOST_BYTES);
};

/// A datagram that is held, or was until this turn.
struct HeldCopy {
    /// Where its payload is in the store.
    start: u32,
    len: u32,
    ttl: u8,
    dscp: u8,
    /// The origin of the datagram, as far as the rule preserves it.
    origin: Option<Origin>,
    /// What taps need of it.
    noted: Option<Noted>,
}

/// The datagrams that a merging rule holds.
pub(super) struct HeldDatagrams {
    /// The number of the rule that has the outputs; `None` while the plan does not have it.
    head: Option<u32>,
    store: StoreId,
    /// By ticket, from `first` on.
    copies: VecDeque<HeldCopy>,
    first: u64,
    /// The end of the newest one in the store. They follow one another, and begin again at the start
    /// when the end has no room.
    end: u32,
}

impl HeldDatagrams {
    /// Holds nothing. All memory is reserved here.
    pub(super) fn new(ring: &mut Ring) -> io::Result<Self> {
        let store = ring.add_store(STORE_BYTES)?;
        let copies = VecDeque::with_capacity(MOST_HELD);
        Ok(Self { head: None, store, copies, first: 0, end: 0 })
    }

    pub(super) const fn store(&self) -> StoreId {
        self.store
    }

    pub(super) const fn head(&self) -> Option<u32> {
        self.head
    }

    pub(super) const fn set_head(&mut self, head: Option<u32>) {
        self.head = head;
    }

    /// Whether all datagrams of one more buffer could be held.
    pub(super) fn has_room(&self) -> bool {
        self.copies.len() + BUFFER_DATAGRAMS <= MOST_HELD && self.room(BUFFER_BYTES).is_some()
    }

    /// Whether one more datagram could be held.
    fn has_room_for(&self, len: u32) -> bool {
        self.copies.len() < MOST_HELD && self.room(size_of_copy(len)).is_some()
    }

    /// Holds a datagram under the next ticket; there is room.
    fn push(
        &mut self,
        lanes: &mut Lanes<'_>,
        arrival: &Arrival,
        (entry, number): (u16, u32),
        (start, len): (u32, u32),
    ) {
        let size = size_of_copy(len);
        let at = self.room(size).unwrap_or(0);
        let Lanes { ring, window, plan, .. } = lanes;
        let WindowEntry { buffer, ttl, dscp, .. } = window.entry(entry);
        let is_stored = ring.store(Piece { buffer, start, len }, self.store, at);
        debug_assert!(is_stored, "there is room");
        let (ttl, dscp) = (*ttl, *dscp);
        let kept = self.head.and_then(|head| plan.rules[head as usize].kept.as_ref());
        let origin = kept.map(|kept| Origin { ttl, dscp, ..kept.flow(&arrival.datagram) });
        self.end = at + size;
        let noted = lanes.egress.taps.as_ref().and_then(|taps| taps.noted(entry, number));
        self.copies.push_back(HeldCopy { start: at, len, ttl, dscp, origin, noted });
        self.count(lanes, 1);
    }

    /// Moves those that leave now to the window; false if that has no more room.
    pub(super) fn release(
        &mut self,
        lanes: &mut Lanes<'_>,
        order: &mut Reorderer,
        now_us: u64,
    ) -> io::Result<bool> {
        let Some(head) = self.head else { return Ok(true) };
        while lanes.window.has_room_for_parts(MAX_PARTS / 2) {
            let Some(ticket) = order.pop(now_us) else { return Ok(true) };
            let place = usize::try_from(ticket - self.first).unwrap_or(usize::MAX);
            let Some(copy) = self.copies.get(place) else { continue };
            let HeldCopy { start, len, ttl, dscp, .. } = *copy;
            let buffer = lanes.ring.stored(self.store);
            let entry = WindowEntry::single(buffer, (start, len), ttl, dscp);
            let entry = lanes.window.push_view(entry);
            if let Some(taps) = &mut lanes.egress.taps {
                taps.note_held(entry, copy.noted);
            }
            lanes.link_held(head, copy.origin.as_ref(), entry)?;
            self.count(lanes, -1);
        }
        Ok(order.is_empty())
    }

    /// Forgets what taps need of them, as other taps have begun.
    pub(super) fn forget_noted(&mut self) {
        self.copies.iter_mut().for_each(|copy| copy.noted = None);
    }

    /// Frees the memory of those that have been sent.
    pub(super) fn reclaim(&mut self, order: &Reorderer) {
        while self.first < order.oldest() && self.copies.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Counts a datagram that is held, or not any more, for each output: what is linked is wanted
    /// when it is sent.
    fn count(&self, lanes: &mut Lanes<'_>, datagrams: i64) {
        let Lanes { plan, counters, .. } = lanes;
        for target in self.head.map_or(&[][..], |head| outputs(plan, head)) {
            let words = counters.slot(target.slot.index);
            for word in [output::WANTED, output::WAITING] {
                words[word] = words[word].saturating_add_signed(datagrams);
            }
        }
    }

    /// Where the next `size` bytes go, if there is room.
    fn room(&self, size: u32) -> Option<u32> {
        let Some(oldest) = self.copies.front().map(|copy| copy.start) else { return Some(0) };
        if self.end <= oldest {
            return (self.end + size <= oldest).then_some(self.end);
        }
        if self.end + size <= STORE_BYTES {
            return Some(self.end);
        }
        (size <= oldest).then_some(0)
    }
}

/// Finds the places of datagrams, holds those ahead of a gap, and links the others to the lane of
/// the rule that has the outputs, with what follows them.
pub(super) fn place_in_order(
    (merger, held): (&mut Merger, &mut HeldDatagrams),
    lanes: &mut Lanes<'_>,
    (piece, arrival, leg): (EntryPiece, &Arrival, u8),
    (slot, now_us): (u32, u64),
) -> io::Result<Placed> {
    let (mut placed, mut unlinked) = (Placed::default(), 0_u128);
    let Some(head) = held.head else { return Ok(placed) };
    for at in 0..piece.count {
        let bit = 1 << at;
        let (start, len) = piece.span(at, lanes.window.entry(piece.entry));
        let bytes = lanes.ring.bytes(&lanes.window.entry(piece.entry).buffer);
        let bytes = bytes.get(start as usize..).and_then(|rest| rest.get(..len as usize));
        let place = merger.place(leg, bytes.unwrap_or_default(), now_us);
        count_place(lanes.counters.slot(slot), place, 1);
        let is_new = placed.note(place, (bit, len), true);
        let Some((span, order)) = merger.span_in_order().filter(|_| is_new) else {
            unlinked |= if is_new { bit } else { 0 };
            continue;
        };
        if order.begin(span) {
            lanes.link_runs(head, piece, arrival, std::mem::take(&mut unlinked))?;
            held.release(lanes, order, now_us)?;
        }
        let may_hold = !order.begin(span) && held.has_room_for(len);
        match if may_hold { order.admit(span, now_us) } else { Admission::Sent } {
            Admission::Held(_) => {
                held.push(lanes, arrival, (piece.entry, piece.first + at), (start, len));
            }
            Admission::Late => placed.give_up(bit, len),
            Admission::Sent => {
                unlinked |= bit;
                if order.is_next(span) {
                    lanes.link_runs(head, piece, arrival, std::mem::take(&mut unlinked))?;
                    held.release(lanes, order, now_us)?;
                }
            }
        }
    }
    lanes.link_runs(head, piece, arrival, unlinked)?;
    Ok(placed)
}

impl Engine {
    /// How long to sleep at most, in microseconds; `None` while nothing waits.
    #[inline]
    pub(super) fn rest_us(&self) -> Option<u32> {
        let of_egress = self.egress.has_waiting().then(|| self.egress.rest_us());
        let held_us = self.mergers.rest_us().map(|us| u32::try_from(us).unwrap_or(u32::MAX));
        of_egress.into_iter().chain(held_us).min()
    }

    /// Sends what is in the window, and what is held, if there may be no room for the parts of a
    /// super-frame.
    #[cold]
    #[inline(never)]
    pub(super) fn make_room_for_parts(&mut self) -> io::Result<()> {
        let is_full = self.mergers.expire_full();
        if is_full {
            self.release_held()?;
        }
        if is_full || !self.window.has_room_for_parts(MAX_PARTS) {
            self.send_parts()?;
        }
        Ok(())
    }

    /// Moves what is held and leaves now to the window.
    #[inline(never)]
    pub(super) fn release_held(&mut self) -> io::Result<()> {
        loop {
            let Self { ring, plan, window, egress, counters, mergers, .. } = self;
            if mergers.release(&mut Lanes { ring, plan, window, egress, counters })? {
                return Ok(());
            }
            self.send_parts()?;
        }
    }

    /// Sends what is in the window, and frees its memory.
    pub(super) fn send_parts(&mut self) -> io::Result<()> {
        let Self { ring, plan, window, egress, counters, mergers, .. } = self;
        egress.send_window(ring, window, plan, counters)?;
        window.drain().for_each(|buffer| ring.give_back(buffer));
        mergers.reclaim();
        Ok(())
    }
}

/// The memory that a datagram takes.
fn size_of_copy(len: u32) -> u32 {
    len.max(1).next_multiple_of(CELL)
}

/// The outputs of a rule.
fn outputs(plan: &Plan, rule: u32) -> &[PlanOutput] {
    let PlanRule { outputs, .. } = &plan.rules[rule as usize];
    let range = outputs.start as usize..outputs.end as usize;
    plan.share(rule).get(range).unwrap_or_default()
}

/// What of a merging rule must not change while it holds datagrams: its outputs, and what they
/// preserve.
pub(super) fn are_outputs_same((one, head): (&Plan, u32), (other, next): (&Plan, u32)) -> bool {
    let slots = outputs(one, head).iter().map(|target| target.slot);
    slots.eq(outputs(other, next).iter().map(|target| target.slot))
        && one.rules[head as usize].kept == other.rules[next as usize].kept
}
