//! The counters of all workers, added up and put beside what they count.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};

use crate::addr::Addr;
use crate::packet::Discard;
use crate::relay::live::{LiveOutput, LiveRule};
use crate::relay::network::link_table::LinkTable;
use crate::relay::state::State;
use crate::stats::{self, Loss, Slot, SlotWords, group, interface, output, rule};
use crate::sys::memory::SharedWords;

/// The counters of a relay at one moment.
pub struct Report {
    /// One for each input interface.
    pub interfaces: Vec<InterfaceReport>,
    /// One for each rule, in the order of their keys.
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
    /// As `Relay::change` gave it.
    pub key: u32,
    /// As its `RuleSpec` says.
    pub id: String,
    /// Whether it takes nothing for now.
    pub paused: bool,
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
    let interfaces = state.inputs.interfaces().map(|interface| InterfaceReport {
        name: interface.name.clone(),
        kernel_dropped_frames: interface.kernel_drops(),
        ..interface_report(&sum(pages, interface.slot))
    });
    let interfaces = interfaces.collect();
    let now_ms = now_ms();
    let rules = state.rules.iter().map(|(&key, live)| {
        let trouble = live.trouble(links, state.ingress());
        let (id, paused) = (live.id.clone(), live.paused);
        RuleReport { key, id, paused, trouble, ..rule_report(live, pages, now_ms) }
    });
    Report { interfaces, rules: rules.collect() }
}

fn interface_report(words: &SlotWords) -> InterfaceReport {
    InterfaceReport {
        name: String::new(),
        received: words[interface::RECEIVED],
        matched: words[interface::MATCHED],
        kernel_dropped_frames: 0,
        buffer_waits: words[interface::BUFFER_WAITS],
        error: words[interface::ERROR],
        dropped: Discard::ALL.map(|why| (why, words[interface::DROPPED + why as usize])),
    }
}

fn rule_report(live: &LiveRule, pages: &[Arc<SharedWords>], now_ms: u64) -> RuleReport {
    let group = newest(pages, live.group, group::LAST_SEEN_MS);
    let counted = sum(pages, live.slot);
    let newest = newest(pages, live.slot, rule::LAST_SEEN_MS);
    RuleReport {
        key: 0,
        id: String::new(),
        paused: false,
        trouble: None,
        matched: counted[rule::MATCHED],
        matched_bytes: counted[rule::MATCHED_BYTES],
        last_source: address(&newest[rule::LAST_SOURCE..]),
        last_seen_age_ms: age(newest[rule::LAST_SEEN_MS], now_ms),
        group_seen: group[group::UNMATCHED],
        group_seen_age_ms: age(group[group::LAST_SEEN_MS], now_ms),
        other_port: group[group::OTHER_PORT]
            .checked_sub(1)
            .and_then(|port| u16::try_from(port).ok()),
        other_source: address(&group[group::OTHER_SOURCE..]),
        outputs: live.outputs.iter().map(|output| output_report(output, pages, now_ms)).collect(),
    }
}

fn output_report(live: &LiveOutput, pages: &[Arc<SharedWords>], now_ms: u64) -> OutputReport {
    let mut errors = BTreeMap::new();
    for page in pages {
        let words = stats::read(page, live.slot).unwrap_or([0; stats::SLOT_WORDS]);
        let pairs = words[output::ERRORS..].chunks_exact(2).take(output::ERROR_PAIRS);
        for pair in pairs.filter(|pair| pair[1] != 0) {
            *errors.entry(pair[0]).or_insert(0) += pair[1];
        }
    }
    let words = sum(pages, live.slot);
    let dropped = Loss::ALL.map(|why| (why, words[output::DROPPED + why as usize]));
    let release_unclaimed =
        words[output::SENT] + dropped.iter().map(|(_, copies)| copies).sum::<u64>();
    OutputReport {
        parked: live.trouble(),
        wanted: words[output::WANTED],
        sent: words[output::SENT],
        sent_bytes: words[output::SENT_BYTES],
        pending: words[output::WANTED].saturating_sub(release_unclaimed),
        refused: words[output::REFUSED],
        dropped,
        errors,
        last_loss: last_loss(&newest(pages, live.slot, output::LOST_MS), now_ms),
        refused_age_ms: age(
            newest(pages, live.slot, output::REFUSED_MS)[output::REFUSED_MS],
            now_ms,
        ),
    }
}

fn last_loss(words: &SlotWords, now_ms: u64) -> Option<LastLoss> {
    let age_ms = age(words[output::LOST_MS], now_ms)?;
    let loss = Loss::ALL.get(usize::try_from(words[output::LAST_LOSS]).ok()?).copied()?;
    Some(LastLoss { age_ms, loss, errno: words[output::LAST_ERRNO] })
}

/// What a rule has taken, and what of it overtakes others where the kernel merges: datagrams.
pub(in crate::relay) fn order(pages: &[Arc<SharedWords>], slot: Slot) -> [u64; 2] {
    let words = sum(pages, slot);
    [words[rule::MATCHED], words[rule::OVERTAKING]]
}

/// The words of a slot, each added up over the workers.
fn sum(pages: &[Arc<SharedWords>], slot: Slot) -> SlotWords {
    let mut total = [0; stats::SLOT_WORDS];
    for words in pages.iter().filter_map(|page| stats::read(page, slot)) {
        for (sum, word) in total.iter_mut().zip(words) {
            *sum += word;
        }
    }
    total
}

/// A slot's words from the worker where the word `by` is the greatest.
fn newest(pages: &[Arc<SharedWords>], slot: Slot, by: usize) -> SlotWords {
    let slots = pages.iter().filter_map(|page| stats::read(page, slot));
    slots.max_by_key(|words| words[by]).unwrap_or([0; stats::SLOT_WORDS])
}

fn address(words: &[u64]) -> Option<IpAddr> {
    let bits = u128::from(words[0]) << 64 | u128::from(words[1]);
    (bits != 0).then(|| Addr::from_bits(bits).ip())
}

/// How long ago something was, by the time at which it was counted; 0 means never.
fn age(then_ms: u64, now_ms: u64) -> Option<u64> {
    (then_ms != 0).then(|| now_ms.saturating_sub(then_ms))
}

fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE);
    now.map_or(0, |now| u64::try_from(Duration::from(now).as_millis()).unwrap_or(0))
}
