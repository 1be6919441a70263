//! The counters of all workers, added up and put beside what they count.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};

use crate::addr::Addr;
use crate::packet::Discard;
use crate::relay::network::link_table::LinkTable;
use crate::relay::state::State;
use crate::stats::{self, Loss, Slot, SlotWords, group, interface, output, rule};
use crate::sys::memory::SharedWords;

/// The counters of a relay at one moment.
pub struct Report {
    /// One for each input interface.
    pub interfaces: Vec<InterfaceReport>,
    /// One for each rule, in the order of their ids.
    pub rules: Vec<RuleReport>,
}

/// `received = matched + sum(dropped)`, in datagrams.
pub struct InterfaceReport {
    /// Its name.
    pub name: String,
    /// Datagrams that arrived.
    pub received: u64,
    /// Datagrams that some rule took.
    pub matched: u64,
    /// Frames lost in the kernel before they were received: we were late.
    pub kernel_dropped_frames: u64,
    /// How often all buffers were in use, so that frames waited in the kernel.
    pub buffer_waits: u64,
    /// The errno that ended the reception, 0 while it goes on.
    pub error: u64,
    /// Datagrams discarded, by reason.
    pub dropped: [(Discard, u64); Discard::COUNT],
}

/// What a rule took, and what helps to see why it took nothing.
pub struct RuleReport {
    /// As its `RuleSpec` says.
    pub id: String,
    /// Whether it takes what comes.
    pub enabled: bool,
    /// Why its input waits or nothing can come, in a sentence; `None` while all is well.
    pub trouble: Option<String>,
    /// Datagrams.
    pub matched: u64,
    /// Bytes of their payloads.
    pub matched_bytes: u64,
    /// The source of the last one.
    pub last_source: Option<IpAddr>,
    /// How long ago that was, in milliseconds.
    pub last_seen_age_ms: Option<u64>,
    /// Datagrams of the group on the interface that no rule took.
    pub group_seen: u64,
    /// How long ago the last of these was, in milliseconds.
    pub group_seen_age_ms: Option<u64>,
    /// The last port of the group that no rule names.
    pub other_port: Option<u16>,
    /// The last source that no rule on the same input lists.
    pub other_source: Option<IpAddr>,
    /// In the order of the rule's outputs.
    pub outputs: Vec<OutputReport>,
}

/// `wanted = sent + sum(dropped) + pending`, in copies.
pub struct OutputReport {
    /// Why nothing is sent now, in a sentence; `None` while all is well.
    pub parked: Option<String>,
    /// Copies that should have been sent since the output was added.
    pub wanted: u64,
    /// Copies that the kernel took.
    pub sent: u64,
    /// Bytes of their payloads.
    pub sent_bytes: u64,
    /// Copies on their way. Sends are complete when the counters are published.
    pub pending: u64,
    /// Sends that an ICMP error answered and that were repeated.
    pub refused: u64,
    /// Copies lost, by reason.
    pub dropped: [(Loss, u64); Loss::COUNT],
    /// Copies lost as `send_error`, by errno; 0 collects the rare rest.
    pub errors: BTreeMap<u64, u64>,
    /// The last loss.
    pub last_loss: Option<LastLoss>,
    /// How long ago the last of `refused` was, in milliseconds.
    pub refused_age_ms: Option<u64>,
}

/// When and why an output lost a copy.
pub struct LastLoss {
    /// How long ago, in milliseconds.
    pub age_ms: u64,
    /// The reason.
    pub loss: Loss,
    /// The errno of a `send_error`, else 0.
    pub errno: u64,
}

impl LastLoss {
    /// The reason as states name it: `output_full`, `send_error (ENETUNREACH)`.
    #[must_use]
    pub fn reason(&self) -> String {
        match self.loss {
            Loss::SendError => format!("{} ({})", self.loss.name(), errno_name(self.errno)),
            loss => loss.name().to_owned(),
        }
    }
}

/// `ENETUNREACH` for 101; `other` where the number was not kept.
#[must_use]
pub fn errno_name(errno: u64) -> String {
    match i32::try_from(errno) {
        Ok(errno) if errno != 0 => format!("{:?}", Errno::from_raw(errno)),
        _ => "other".to_owned(),
    }
}

pub(in crate::relay) fn read(
    state: &State,
    links: &LinkTable,
    pages: &[Arc<SharedWords>],
) -> Report {
    let interfaces = state.inputs.interfaces().map(|interface| {
        let (name, copies) = (interface.name.clone(), copies(pages, interface.slot));
        InterfaceReport::new(name, interface.kernel_drops(), &copies)
    });
    let interfaces = interfaces.collect();
    let now_ms = now_ms();
    let rules = state.rules.values().map(|live| {
        let trouble = live.trouble(links, state.ingress());
        let (id, enabled) = (live.id.to_string(), live.enabled);
        let outputs = live
            .outputs
            .iter()
            .map(|output| OutputReport::new(output.trouble(), &copies(pages, output.slot), now_ms));
        let outputs = outputs.collect();
        let [counted, group] = [live.slot, live.group].map(|slot| copies(pages, slot));
        let report = RuleReport::new(&counted, &group, outputs, now_ms);
        RuleReport { id, enabled, trouble, ..report }
    });
    Report { interfaces, rules: rules.collect() }
}

impl InterfaceReport {
    /// What the copies of an interface's slot say.
    pub(super) fn new(name: String, kernel_dropped_frames: u64, copies: &[SlotWords]) -> Self {
        let words = sum(copies);
        Self {
            name,
            received: words[interface::RECEIVED],
            matched: words[interface::MATCHED],
            kernel_dropped_frames,
            buffer_waits: words[interface::BUFFER_WAITS],
            error: newest(copies, interface::ERROR)[interface::ERROR],
            dropped: Discard::ALL.map(|why| (why, words[interface::DROPPED + why as usize])),
        }
    }
}

impl RuleReport {
    /// What the copies of a rule's slot and of its group's say; nobody's, and without any trouble.
    pub(super) fn new(
        copies: &[SlotWords],
        groups: &[SlotWords],
        outputs: Vec<OutputReport>,
        now_ms: u64,
    ) -> Self {
        let (counted, newest_rule) = (sum(copies), newest(copies, rule::LAST_SEEN_MS));
        let newest_group = newest(groups, group::LAST_SEEN_MS);
        let other_port = newest_group[group::OTHER_PORT].checked_sub(1);
        Self {
            id: String::new(),
            enabled: true,
            trouble: None,
            matched: counted[rule::MATCHED],
            matched_bytes: counted[rule::MATCHED_BYTES],
            last_source: address(&newest_rule[rule::LAST_SOURCE..]),
            last_seen_age_ms: age(newest_rule[rule::LAST_SEEN_MS], now_ms),
            group_seen: sum(groups)[group::UNMATCHED],
            group_seen_age_ms: age(newest_group[group::LAST_SEEN_MS], now_ms),
            other_port: other_port.and_then(|port| u16::try_from(port).ok()),
            other_source: address(&newest_group[group::OTHER_SOURCE..]),
            outputs,
        }
    }
}

impl OutputReport {
    /// What the copies of an output's slot say.
    pub(super) fn new(parked: Option<String>, copies: &[SlotWords], now_ms: u64) -> Self {
        let mut errors: BTreeMap<u64, u64> = BTreeMap::new();
        for words in copies {
            let pairs = words[output::ERRORS..].chunks_exact(2).take(output::ERROR_PAIRS);
            for pair in pairs.filter(|pair| pair[1] != 0) {
                let count = errors.entry(pair[0]).or_default();
                *count = count.saturating_add(pair[1]);
            }
        }
        let words = sum(copies);
        let dropped = Loss::ALL.map(|why| (why, words[output::DROPPED + why as usize]));
        let settled = dropped.iter().map(|(_, lost)| *lost);
        let settled = settled.fold(words[output::SENT], u64::saturating_add);
        Self {
            parked,
            wanted: words[output::WANTED],
            sent: words[output::SENT],
            sent_bytes: words[output::SENT_BYTES],
            pending: words[output::WANTED].saturating_sub(settled),
            refused: words[output::REFUSED],
            dropped,
            errors,
            last_loss: last_loss(&newest(copies, output::LOST_MS), now_ms),
            refused_age_ms: age(newest(copies, output::REFUSED_MS)[output::REFUSED_MS], now_ms),
        }
    }
}

fn last_loss(words: &SlotWords, now_ms: u64) -> Option<LastLoss> {
    let age_ms = age(words[output::LOST_MS], now_ms)?;
    let loss = Loss::ALL.get(usize::try_from(words[output::LAST_LOSS]).ok()?).copied()?;
    Some(LastLoss { age_ms, loss, errno: words[output::LAST_ERRNO] })
}

/// What a rule has taken, and what of it overtakes others where the kernel merges: datagrams.
pub(in crate::relay) fn order(pages: &[Arc<SharedWords>], slot: Slot) -> [u64; 2] {
    let words = sum(&copies(pages, slot));
    [words[rule::MATCHED], words[rule::OVERTAKING]]
}

/// A slot as each engine has counted in it.
fn copies(pages: &[Arc<SharedWords>], slot: Slot) -> Vec<SlotWords> {
    pages.iter().filter_map(|page| stats::read(page.view(), slot)).collect()
}

/// Each word of the copies of a slot, added up.
fn sum(copies: &[SlotWords]) -> SlotWords {
    let mut total = [0_u64; stats::SLOT_WORDS];
    for words in copies {
        for (sum, word) in total.iter_mut().zip(words) {
            *sum = sum.saturating_add(*word);
        }
    }
    total
}

/// The copy of a slot in which the word `by` is the greatest.
fn newest(copies: &[SlotWords], by: usize) -> SlotWords {
    copies.iter().max_by_key(|words| words[by]).copied().unwrap_or([0; stats::SLOT_WORDS])
}

fn address(words: &[u64]) -> Option<IpAddr> {
    let bits = u128::from(words[0]) << 64 | u128::from(words[1]);
    (bits != 0).then(|| Addr::from_bits(bits).ip())
}

/// How long ago something was, by the time at which it was counted; 0 means never.
fn age(then_ms: u64, now_ms: u64) -> Option<u64> {
    (then_ms != 0).then(|| now_ms.saturating_sub(then_ms))
}

/// CLOCK_MONOTONIC_COARSE in milliseconds.
pub(in crate::relay) fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE);
    now.map_or(0, |now| u64::try_from(Duration::from(now).as_millis()).unwrap_or(0))
}
