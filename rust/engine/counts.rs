//! The counting of received datagrams, in the slots of interface, group and rule.

use crate::addr::Addr;
use crate::engine::ingress::{Arrival, OrderCheck};
use crate::engine::loops::{LoopWatch, Looped};
use crate::engine::plan::{Plan, PlanRule, Source};
use crate::engine::window::{Window, WindowEntry};
use crate::packet::{Datagram, Discard, Span};
use crate::stats::{Content, SlotWords, Writer, group, interface, rule};
use crate::sys::ring::Ring;

/// Counts unreadable datagrams from a source. Returns true, without counting, if they may have to
/// be finished first.
#[cold]
#[inline(never)]
pub(super) fn discard(
    source: &Source,
    buffer: &[u8],
    reason: Discard,
    counters: &mut Writer,
) -> bool {
    if reason == Discard::BadHeader {
        return true;
    }
    let datagrams = source.kind.count_discarded(buffer, reason);
    count_discarded(counters.slot(source.slot), reason, datagrams);
    false
}

/// Counts datagrams that were received but are not relayed.
pub(super) fn count_discarded(words: &mut SlotWords, reason: Discard, datagrams: u32) {
    words[interface::RECEIVED] += u64::from(datagrams);
    words[interface::DROPPED + reason as usize] += u64::from(datagrams);
}

/// Counts a datagram that matches a rule.
#[inline]
pub(super) fn count_match(counters: &mut Writer, slot: u32, arrival: &Arrival) {
    let Datagram { segments, payload, .. } = arrival.datagram;
    count_matched(counters, slot, arrival, (segments.into(), payload.len.into()));
}

/// Counts the arrival of datagrams, and those of them that a rule relays, with their bytes.
#[inline(always)]
pub(super) fn count_matched(
    counters: &mut Writer,
    slot: u32,
    arrival: &Arrival,
    (datagrams, bytes): (u64, u64),
) {
    let now_ms = counters.now_ms();
    let words = counters.slot(slot);
    words[rule::MATCHED] += datagrams;
    words[rule::MATCHED_BYTES] += bytes;
    words[rule::LAST_SEEN_MS] = now_ms;
    store_address(&mut words[rule::LAST_SOURCE..], arrival.datagram.source);
}

/// Counts the datagrams of a buffer in their flow of each of these rules, and measures their latency
/// from this time on, as far as the relay does either. Without a time they have arrived now.
#[inline(always)]
pub(super) fn observe(
    counters: &mut Writer,
    plan: &Plan,
    rules: &[u32],
    (arrival, buffer, arrived_ns): (&Arrival, &[u8], Option<u64>),
) {
    let datagram = &arrival.datagram;
    if counters.counts_flows() {
        let (payload, segment) = content(arrival, buffer);
        let arrival_ns = counters.arrival_ns(arrived_ns);
        for &rule in rules {
            let PlanRule { slot, sequence, .. } = plan.rules[rule as usize];
            let content = Content { datagram, sequence, payload, segment, arrival_ns };
            counters.count_flow(slot, &content);
        }
    }
    if counters.measures_latency() {
        for &rule in rules {
            counters.await_sends(plan.rules[rule as usize].slot, datagram.segments, arrived_ns);
        }
    }
}

/// Counts a datagram if GRO lets it overtake others.
// Not inlined: for most rules nothing is merged, or super-frames carry many datagrams at a time.
#[inline(never)]
pub(super) fn check_order(
    (ring, window): (&Ring, &Window),
    entry: u16,
    is_v4: bool,
    (slot, order): (u32, OrderCheck),
    counters: &mut Writer,
) {
    let WindowEntry { buffer, start, len, count: 1, .. } = window.entry(entry) else { return };
    let payload = Span { start: *start, len: *len };
    if order.overtakes(ring.bytes(buffer), payload, is_v4) {
        counters.slot(slot)[rule::OVERTAKING] += 1;
    }
}

/// Records why no rule matches, for the user: the group arrives, but not as any rule expects it.
#[inline(never)]
pub(super) fn count_unmatched(
    counters: &mut Writer,
    slot: u32,
    datagram: Datagram,
    reason: Discard,
) {
    let now_ms = counters.now_ms();
    let words = counters.slot(slot);
    words[group::UNMATCHED] += u64::from(datagram.segments);
    words[group::LAST_SEEN_MS] = now_ms;
    match reason {
        Discard::Source => store_address(&mut words[group::OTHER_SOURCE..], datagram.source),
        Discard::NoRule => words[group::OTHER_PORT] = u64::from(datagram.port) + 1,
        _ => {}
    }
}

/// Looks whether the datagrams of a buffer have come back to any of these rules.
// The arrival is passed by value, so that it needs to be in memory only here.
#[cold]
#[inline(never)]
pub(super) fn look_for_loops(
    loops: &mut LoopWatch,
    plan: &Plan,
    rules: &[u32],
    arrival: Arrival,
    buffer: &[u8],
) {
    let datagram = &arrival.datagram;
    let (payload, segment) = content(&arrival, buffer);
    for &rule in rules {
        loops.look(plan.rules[rule as usize].slot, datagram, payload, segment);
    }
}

/// The bytes of the datagrams in a buffer, and the size of each but the last.
#[inline(always)]
fn content<'a>(arrival: &Arrival, buffer: &'a [u8]) -> (&'a [u8], usize) {
    let Arrival { datagram: Datagram { payload: Span { start, len }, .. }, segment } = *arrival;
    let payload = buffer.get(start as usize..).and_then(|rest| rest.get(..len as usize));
    let payload = payload.unwrap_or_default();
    (payload, if segment == 0 { payload.len() } else { usize::from(segment) })
}

/// Counts payloads that have come back to a rule.
#[cold]
pub(super) fn count_looped(counters: &mut Writer, looped: Looped) {
    let now_ms = counters.now_ms();
    let words = counters.slot(looped.slot);
    words[rule::LOOPED] += u64::from(looped.payloads);
    words[rule::LOOPED_MS] = now_ms;
    store_address(&mut words[rule::LOOPED_SOURCE..], looped.source);
}

#[inline]
fn store_address(words: &mut [u64], address: Addr) {
    let [upper, lower] = split(address.bits());
    words[0] = upper;
    words[1] = lower;
}

/// The upper and lower half of an address.
#[inline]
fn split(bits: u128) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bits.to_be_bytes();
    [u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes([i, j, k, l, m, n, o, p])]
}
