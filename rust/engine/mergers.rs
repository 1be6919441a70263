//! The mergers of an engine, and the step from datagrams of a merging rule to the window: those that
//! are new are sent by the rule that has the outputs.

use std::io;

use crate::engine::counts;
use crate::engine::ingress::{Arrival, OrderCheck};
use crate::engine::lanes::Lanes;
use crate::engine::plan::{Plan, PlanMerge, PlanRule};
use crate::merge::{FeedPlace, Merger};
use crate::packet::Discard;
use crate::stats::{SlotWords, interface, rule, skew};
use crate::sys::buffers::Buffer;

/// The most parts of one super-frame: the kernel forms none with more than 128 datagrams, and of
/// two neighbours only one begins a part. Several rules may each have theirs.
pub(super) const MAX_PARTS: usize = 512;
/// Datagrams that are placed at once, one bit each.
const PIECE: u32 = u128::BITS;

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
    now_us: u64,
}

/// Some datagrams of an entry of the window.
#[derive(Clone, Copy)]
struct EntryPiece {
    entry: u16,
    /// The first of them, and their number: at most [`PIECE`].
    first: u32,
    count: u32,
    /// Bytes of each datagram but the last of the entry.
    segment: u32,
}

/// What becomes of datagrams, one bit for each.
#[derive(Clone, Copy, Default)]
struct Placed {
    sent: u128,
    dropped: [u128; 3],
}

/// The reasons of [`Placed::dropped`].
const REASONS: [Discard; 3] = [Discard::Duplicate, Discard::Late, Discard::OutOfSequence];

impl Mergers {
    /// Takes the mergers of a plan, and leaves it those out of use, to be freed with it.
    pub(super) fn adopt(&mut self, plan: &mut Plan) {
        let released = plan.released.iter();
        let released =
            released.filter_map(|slot| self.mergers.get_mut(slot.index as usize)?.take());
        let unused: Vec<_> = released.collect();
        for (slot, merger) in &mut plan.mergers {
            let at = *slot as usize;
            if self.mergers.len() <= at {
                self.mergers.resize_with(at + 1, || None);
            }
            std::mem::swap(&mut self.mergers[at], merger);
        }
        plan.mergers.extend(unused.into_iter().map(|merger| (0, Some(merger))));
    }

    /// Sets the time of subsequent arrivals, of CLOCK_MONOTONIC.
    pub(super) fn set_time(&mut self, now_ns: u64) {
        self.now_us = now_ns / 1000;
    }

    /// Counts the datagrams of a buffer for each of these rules, and adds them to its lane, or
    /// those that are new to the lane of the rule that has the outputs.
    #[inline(never)]
    pub(super) fn enter(
        &mut self,
        mut lanes: Lanes<'_>,
        buffer: Buffer,
        arrival: &Arrival,
        (source, rules): (u32, &[u32]),
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
            let (mut sent, mut placed) = (0, Placed::default());
            for &rule in rules {
                let rule = &lanes.plan.rules[rule as usize];
                if let Some(merge) = rule.merge {
                    placed = self.place(&mut lanes, piece, arrival, (rule, merge));
                    lanes.link_runs(merge.head, piece, arrival, placed.sent)?;
                    sent |= placed.sent;
                }
            }
            if !is_relayed {
                let words = lanes.counters.slot(source);
                for (reason, dropped) in REASONS.into_iter().zip(placed.dropped) {
                    let dropped = u64::from((dropped & !sent).count_ones());
                    words[interface::MATCHED] -= dropped;
                    words[interface::DROPPED + reason as usize] += dropped;
                }
            }
            first += count;
        }
        Ok(())
    }

    /// Finds the places of datagrams, and counts them for an input.
    fn place(
        &mut self,
        lanes: &mut Lanes<'_>,
        piece: EntryPiece,
        arrival: &Arrival,
        (rule, merge): (&PlanRule, PlanMerge),
    ) -> Placed {
        let Lanes { ring, window, counters, .. } = lanes;
        let is_v4 = arrival.datagram.group.is_v4();
        if rule.order != OrderCheck::Nothing && piece.first == 0 {
            let order = (rule.slot, rule.order);
            counts::check_order((ring, window), piece.entry, is_v4, order, counters);
        }
        let Some(Some(merger)) = self.mergers.get_mut(merge.merger as usize) else {
            return Placed::default();
        };
        let entry = window.entry(piece.entry);
        let bytes = ring.bytes(&entry.buffer).get(entry.start as usize..).unwrap_or_default();
        let bytes = bytes.get(..entry.len as usize).unwrap_or_default();
        let before = merger.active();
        let words = counters.slot(rule.slot);
        let (mut placed, mut matched_bytes) = (Placed::default(), 0);
        for at in 0..piece.count {
            let start = ((piece.first + at) * piece.segment) as usize;
            let rest = bytes.get(start..).unwrap_or_default();
            let datagram = rest.get(..piece.segment as usize).unwrap_or(rest);
            let place = merger.place(merge.leg, datagram, self.now_us);
            let bit = 1 << at;
            if merger.sends(place) {
                placed.sent |= bit;
                matched_bytes += datagram.len() as u64;
            }
            count_place(words, place);
            match place {
                FeedPlace::First => {}
                FeedPlace::Late => placed.dropped[1] |= bit & !placed.sent,
                FeedPlace::Duplicate { .. } => placed.dropped[0] |= bit,
                FeedPlace::OutOfSequence => placed.dropped[2] |= bit,
            }
        }
        words[rule::RECEIVED] += u64::from(piece.count);
        words[rule::MISSING] = merger.missing(merge.leg);
        let sent = u64::from(placed.sent.count_ones());
        counts::count_matched(counters, rule.slot, arrival, (sent, matched_bytes));
        count_merge(counters.slot(merge.merger), merger, before);
        placed
    }
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

/// Counts the place of a datagram for an input.
#[inline]
fn count_place(words: &mut SlotWords, place: FeedPlace) {
    let word = match place {
        FeedPlace::First => rule::FIRST,
        FeedPlace::Late => rule::LATE,
        FeedPlace::Duplicate { .. } => rule::DUPLICATE,
        FeedPlace::OutOfSequence => rule::OUT_OF_SEQUENCE,
    };
    words[word] += 1;
    if let FeedPlace::Duplicate { skew_us: Some(skew_us) } = place {
        skew::count(words, skew_us);
    }
}

impl Lanes<'_> {
    /// Adds the datagrams of a piece that are sent to the lane of a rule: as few entries as may be.
    fn link_runs(
        &mut self,
        rule: u32,
        piece: EntryPiece,
        arrival: &Arrival,
        sent: u128,
    ) -> io::Result<()> {
        if sent.count_ones() == arrival.datagram.segments {
            return self.link(rule, arrival, piece.entry);
        }
        let (mut left, mut at) = (sent, 0);
        while left != 0 {
            at += left.trailing_zeros();
            let run = (sent >> at).trailing_ones();
            let first = (piece.first + at) * piece.segment;
            let part = self.window.push_part(piece.entry, (first, run));
            self.link(rule, arrival, part)?;
            at += run;
            left = sent.checked_shr(at).unwrap_or(0);
        }
        Ok(())
    }
}
