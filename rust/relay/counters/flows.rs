//! The flows of rules, summed over all engines.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::rates::{RateWindows, Rates};
use crate::stats::sequences::{self, Basis, SequenceWords};
use crate::stats::{FlowRow, SlotOwner};

/// A flow of a rule: what one sender sent to one group and port.
pub struct FlowReport {
    /// The rule's id.
    pub rule: String,
    /// The sender.
    pub source: IpAddr,
    /// The sender's port.
    pub source_port: u16,
    /// The destination address.
    pub group: IpAddr,
    /// The destination port.
    pub port: u16,
    /// Matched datagrams.
    pub datagrams: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// The rates of these.
    pub rates: Rates,
    /// The ages of the first and the last datagram, in milliseconds.
    pub age_ms: [u64; 2],
    /// The smallest and the largest TTL seen.
    pub ttls: [u8; 2],
    /// The DSCPs seen.
    pub dscps: Vec<u8>,
    /// What is known of the numbers in its datagrams.
    pub numbers: SequenceWords,
}

/// For each of these rules, the number of senders with a datagram in the last `window_ms`.
#[must_use]
pub fn senders(flows: &[FlowReport], rules: &[String], window_ms: u64) -> Vec<usize> {
    let mut found: HashMap<&str, HashSet<IpAddr>> = HashMap::new();
    for flow in flows.iter().filter(|flow| flow.age_ms[1] <= window_ms) {
        found.entry(&flow.rule).or_default().insert(flow.source);
    }
    rules.iter().map(|rule| found.get(rule.as_str()).map_or(0, HashSet::len)).collect()
}

/// The flows in which numbers are missing, each with how many.
pub fn sequence_gaps(flows: &[FlowReport]) -> impl Iterator<Item = (&FlowReport, u64)> {
    flows.iter().filter(|flow| Basis::of(&flow.numbers) != Basis::Undecided).filter_map(|flow| {
        let lost = flow.numbers[sequences::word::LOST];
        (lost > 0).then_some((flow, lost))
    })
}

/// The flows of these rules in the rows of all pages, those with the most datagrams first.
pub(super) fn report(
    pages: impl Iterator<Item = Vec<FlowRow>>,
    rules: &[String],
    windows: &RateWindows,
    now_ms: u64,
) -> Vec<FlowReport> {
    let ids: HashMap<u64, &String> =
        rules.iter().map(|id| (SlotOwner::rule(id).tag(), id)).collect();
    let mut found: HashMap<u64, FlowRow> = HashMap::new();
    for row in pages.flatten().filter(|row| ids.contains_key(&row.rule)) {
        found.entry(row.tag()).and_modify(|known| known.merge(&row)).or_insert(row);
    }
    let flow = |(tag, row): (u64, FlowRow)| FlowReport {
        rule: ids.get(&row.rule).map_or_else(String::new, |id| (*id).clone()),
        source: row.source.ip(),
        source_port: row.source_port,
        group: row.group.ip(),
        port: row.port,
        datagrams: row.datagrams,
        bytes: row.bytes,
        rates: windows.rates_of(tag, row.totals()),
        age_ms: row.seen_ms.map(|then| now_ms.saturating_sub(then)),
        ttls: row.ttls,
        dscps: (0..64).filter(|dscp| row.dscps >> dscp & 1 == 1).collect(),
        numbers: row.numbers,
    };
    let mut flows: Vec<FlowReport> = found.into_iter().map(flow).collect();
    flows.sort_by_key(|flow| Reverse(flow.datagrams));
    flows
}
