//! The mergers of an engine, and the step from datagrams of a merging rule to the window: those that
//! are new are sent by the rule that has the outputs.

use std::io;

use crate::engine::clocks::monotonic_clock_ns;
use crate::engine::counts;
use crate::engine::entry_pieces::{EntryPiece, PIECE, Placed, REASONS, count_place};
use crate::engine::held::{HeldDatagrams, are_outputs_same, place_in_order};
use crate::engine::ingress::{Arrival, OrderCheck};
use crate::engine::lanes::Lanes;
use crate::engine::plan::{Plan, PlanMerge, PlanRule, Source};
use crate::merge::{FeedPlace, MergedFrame, Merger, Reorderer};
use crate::stats::{SlotWords, Writer, interface, rule};
use crate::sys::buffers::Buffer;
use crate::sys::ring::Ring;

/// Whether one of these rules merges its inputs.
#[inline(always)]
pub(super) fn is_merged(plan: &Plan, rules: &[u32]) -> bool {
    plan.has_merges && is_any_merged(plan, rules)
}

#[cold]
fn is_any_merged(plan: &Plan, rules: &[u32]) -> bool {
    rules.iter().any(|&rule| plan.rules[rule as usize].merge.is_some())
}

/// The mergers, by the counter slot of their rule's first input.
#[derive(Default)]
pub(super) struct Mergers {
    mergers: Vec<Option<Box<Merger>>>,
    /// What rules hold, by the same slots.
    held: Vec<(u32, HeldDatagrams)>,
    now_us: u64,
}

impl Mergers {
    /// Takes the mergers of a plan, and leaves it those out of use, to be freed with it.
    pub(super) fn adopt(
        &mut self,
        plan: &mut Plan,
        ring: &mut Ring,
        counters: &mut Writer,
    ) -> io::Result<()> {
        let released = plan.released.iter();
        let released =
            released.filter_map(|slot| self.mergers.get_mut(slot.index as usize)?.take());
        let unused: Vec<_> = released.collect();
        let is_released = |slot: u32| plan.released.iter().any(|known| known.index == slot);
        self.held.extract_if(.., |(slot, _)| is_released(*slot)).for_each(|(_, held)| {
            ring.remove_store(held.store());
        });
        for (slot, merger) in &mut plan.mergers {
            let at = *slot as usize;
            if self.mergers.len() <= at {
                self.mergers.resize_with(at + 1, || None);
            }
            if let Some(merger) = merger {
                merger.resume(&counters.sent_streams(*slot));
                if merger.has_payloads()
                    && let Some(row) = counters.payload_row(*slot)
                {
                    merger.resume_payloads(row);
                }
            }
            std::mem::swap(&mut self.mergers[at], merger);
            if self.mergers[at].as_mut().is_some_and(|merger| merger.order().is_some()) {
                self.held.push((*slot, HeldDatagrams::new(ring)?));
            }
        }
        plan.mergers.extend(unused.into_iter().map(|merger| (0, Some(merger))));
        for (slot, held) in &mut self.held {
            held.set_head(head_of(plan, *slot));
        }
        Ok(())
    }

    /// Whether datagrams are held.
    pub(super) fn has_held(&self) -> bool {
        self.orders().any(|order| !order.is_empty())
    }

    /// How long until the next of them leave, in microseconds.
    pub(super) fn rest_us(&self) -> Option<u64> {
        let due_us = self.orders().filter_map(Reorderer::due_us).min()?;
        Some(due_us.saturating_sub(monotonic_clock_ns() / 1000))
    }

    /// Lets all leave that is held for outputs that another plan does not have.
    pub(super) fn expire_changed(&mut self, plan: &Plan, next: &Plan) {
        let is_released = |slot: u32| next.released.iter().any(|known| known.index == slot);
        self.expire(|slot, held| {
            let heads = held.head().zip(head_of(next, slot));
            is_released(slot)
                || !heads.is_some_and(|(head, other)| are_outputs_same((plan, head), (next, other)))
        });
    }

    /// Lets all leave that is held.
    pub(super) fn expire_all(&mut self) {
        self.expire(|_, _| true);
    }

    /// Lets all leave that rules hold which have no room for the datagrams of another buffer;
    /// returns whether there are such.
    pub(super) fn expire_full(&mut self) -> bool {
        let is_full = self.held.iter().any(|(_, held)| !held.has_room());
        if is_full {
            self.expire(|_, held| !held.has_room());
        }
        is_full
    }

    fn expire(&mut self, ends: impl Fn(u32, &HeldDatagrams) -> bool) {
        for (slot, held) in &self.held {
            let merger = self.mergers.get_mut(*slot as usize).and_then(Option::as_mut);
            if let Some(order) = merger.and_then(|merger| merger.order())
                && ends(*slot, held)
            {
                order.expire();
            }
        }
    }

    /// Moves what is held and leaves now to the window; false if that has no more room.
    pub(super) fn release(&mut self, lanes: &mut Lanes<'_>) -> io::Result<bool> {
        let mut are_all = true;
        for (slot, held) in &mut self.held {
            let merger = self.mergers.get_mut(*slot as usize).and_then(Option::as_mut);
            let Some(merger) = merger else { continue };
            if let Some(order) = merger.order() {
                are_all &= held.release(lanes, order, self.now_us)?;
                record_sent(lanes.counters, *slot, merger);
            }
        }
        Ok(are_all)
    }

    /// Frees the memory of what was held and has been sent.
    pub(super) fn reclaim(&mut self) {
        for (slot, held) in &mut self.held {
            let merger = self.mergers.get_mut(*slot as usize).and_then(Option::as_mut);
            if let Some(order) = merger.and_then(|merger| merger.order()) {
                held.reclaim(order);
            }
        }
    }

    fn orders(&self) -> impl Iterator<Item = &Reorderer> {
        let mergers =
            self.held.iter().filter_map(|(slot, _)| self.mergers.get(*slot as usize)?.as_ref());
        mergers.filter_map(|merger| merger.held_order())
    }

    /// Forgets what taps need of what is held, as other taps have begun.
    pub(super) fn forget_noted(&mut self) {
        self.held.iter_mut().for_each(|(_, held)| held.forget_noted());
    }

    /// Sets the time of subsequent arrivals, of CLOCK_MONOTONIC.
    pub(super) fn set_time(&mut self, now_ns: u64, counters: &Writer) {
        self.now_us = now_ns / 1000;
        counters.note_turn(self.now_us);
    }

    /// Counts the datagrams of a buffer for each of these rules, and adds them to its lane, or
    /// those that are new to the lane of the rule that has the outputs.
    #[inline(never)]
    pub(super) fn enter(
        &mut self,
        mut lanes: Lanes<'_>,
        buffer: Buffer,
        arrival: &Arrival,
        (source, rules): (Option<&Source>, &[u32]),
    ) -> io::Result<()> {
        let (entry, segment) = lanes.push(buffer, arrival);
        for &rule in rules {
            let PlanRule { merge, .. } = &lanes.plan.rules[rule as usize];
            if merge.is_none() {
                lanes.enter_rule(entry, arrival, rule)?;
            }
        }
        let is_relayed = rules.iter().any(|&rule| lanes.plan.rules[rule as usize].merge.is_none());
        let mut first = 0;
        while first < arrival.datagram.segments {
            let count = (arrival.datagram.segments - first).min(PIECE);
            let piece = EntryPiece { entry, first, count, segment };
            let mut fate = Placed::default();
            for &number in rules {
                let rule = &lanes.plan.rules[number as usize];
                if let Some(merge) = rule.merge {
                    let placed = self.place(&mut lanes, piece, arrival, (rule, merge))?;
                    fate.join(&placed);
                    lanes.note_placed((piece, &placed), (number, rules.len()), arrival, source);
                }
            }
            if !is_relayed {
                let words = lanes.counters.slot(source.map_or(0, |source| source.slot));
                for (reason, dropped) in REASONS.into_iter().zip(fate.dropped) {
                    let dropped = u64::from(dropped.count_ones());
                    words[interface::MATCHED] -= dropped;
                    words[interface::DROPPED + reason as usize] += dropped;
                }
            }
            first += count;
        }
        Ok(())
    }

    /// Finds the places of datagrams, counts them for an input, and adds those that are sent to the
    /// lane of the rule that has the outputs.
    fn place(
        &mut self,
        lanes: &mut Lanes<'_>,
        piece: EntryPiece,
        arrival: &Arrival,
        (rule, merge): (&PlanRule, PlanMerge),
    ) -> io::Result<Placed> {
        let is_v4 = arrival.datagram.group.is_v4();
        if rule.order != OrderCheck::Nothing && piece.first == 0 {
            let order = (rule.slot, rule.order);
            let view = (&*lanes.ring, &*lanes.window);
            counts::check_order(view, piece.entry, is_v4, order, lanes.counters);
        }
        let Some(Some(merger)) = self.mergers.get_mut(merge.merger as usize) else {
            return Ok(refuse(lanes.counters.slot(rule.slot), piece));
        };
        let before = merger.active();
        let held = self.held.iter_mut().find(|(slot, _)| *slot == merge.merger);
        let placed = if let Some((_, held)) = held {
            let from = (piece, arrival, merge.leg);
            let placed = place_in_order((merger, held), lanes, from, (rule.slot, self.now_us))?;
            record_sent(lanes.counters, merge.merger, merger);
            placed
        } else {
            let placed = place_at_once(merger, lanes, (piece, merge.leg), (rule.slot, self.now_us));
            record_sent(lanes.counters, merge.merger, merger);
            lanes.link_runs(merge.head, piece, arrival, placed.sent)?;
            placed
        };
        let counters = &mut *lanes.counters;
        let words = counters.slot(rule.slot);
        words[rule::RECEIVED] += u64::from(piece.count);
        words[rule::MISSING] = merger.missing(merge.leg);
        let sent = u64::from(placed.sent.count_ones());
        counts::count_matched(counters, rule.slot, arrival, (sent, placed.bytes));
        count_merge(counters.slot(merge.merger), merger, before);
        Ok(placed)
    }
}

/// Drops datagrams that another engine merges: the kernel had queued them for this one before it led
/// all inputs of the rule to that.
#[cold]
fn refuse(words: &mut SlotWords, piece: EntryPiece) -> Placed {
    words[rule::RECEIVED] += u64::from(piece.count);
    words[rule::OUT_OF_SEQUENCE] += u64::from(piece.count);
    Placed::out_of_sequence(u128::MAX >> (PIECE - piece.count))
}

/// Finds the places of datagrams of which none is held.
fn place_at_once(
    merger: &mut Merger,
    lanes: &mut Lanes<'_>,
    (piece, leg): (EntryPiece, u8),
    (slot, now_us): (u32, u64),
) -> Placed {
    let Lanes { ring, window, counters, .. } = lanes;
    let entry = window.entry(piece.entry);
    let (words, late) = (counters.slot(slot), merger.sends(FeedPlace::Late));
    let (start, len) = piece.bytes(entry);
    let bytes = ring.bytes(&entry.buffer).get(start as usize..).unwrap_or_default();
    let bytes = bytes.get(..len as usize).unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "a piece has at most 128")]
    let frame =
        MergedFrame { bytes, segment: piece.segment as usize, datagrams: piece.count as u8 };
    let (mut placed, mut at) = (Placed::default(), 0);
    merger.place_all(leg, frame, now_us, |place, datagrams| {
        let count = u32::from(datagrams);
        count_place(words, place, datagrams);
        let bits = u128::MAX >> (PIECE - count) << at;
        let end = ((at + count) * piece.segment).min(len);
        placed.note(place, (bits, end - (at * piece.segment).min(len)), late);
        at += count;
    });
    placed
}

/// Records what is sent next, before that: a successor of this process sends none of it again.
#[inline]
fn record_sent(counters: &mut Writer, slot: u32, merger: &mut Merger) {
    while let Some((stream, sent)) = merger.take_advanced() {
        counters.set_sent(slot, stream, sent);
    }
}

/// The number of the rule that has the outputs of a merge, if a plan has it.
fn head_of(plan: &Plan, merger: u32) -> Option<u32> {
    let is_head =
        |rule: &PlanRule| rule.merge.is_some_and(|merge| merge.merger == merger && merge.leg == 0);
    let number = plan.rules.iter().position(is_head)?;
    u32::try_from(number).ok()
}

/// Counts what a merger knows of all inputs, in the words of the first one.
#[inline]
fn count_merge(words: &mut SlotWords, merger: &Merger, before: Option<u8>) {
    if let Some(active) = merger.active() {
        words[rule::ACTIVE] = rule::ACTIVE_MARK | u64::from(active);
        words[rule::SWITCHES] += u64::from(before != Some(active));
    } else {
        (words[rule::LOST], words[rule::RESTARTS]) = (merger.lost(), merger.restarts());
    }
}
