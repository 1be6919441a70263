//! Reports: the counters of all engines, summed for each interface, rule and output.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};

use super::rates::{self, RateWindows, Rates};
use super::sampler::RateSampler;
use crate::addr::Addr;
use crate::packet::Discard;
use crate::relay::egress::way::OutputWay;
use crate::relay::network::blocked::InputTrouble;
use crate::relay::network::link_table::LinkTable;
use crate::relay::offload::RuleWay;
use crate::relay::state::State;
use crate::stats::kernel::{KernelInterfaceCounts, KernelOutputCounts, KernelRuleCounts};
use crate::stats::{
    self, Loss, Slot, SlotOwner, SlotTotals, SlotWords, group, interface, output, rule, skew,
};
use crate::sys::memory::SharedWords;

/// The counters of a relay at one moment.
pub struct Report {
    /// One for each input interface.
    pub interfaces: Vec<InterfaceReport>,
    /// One for each rule, sorted by id.
    pub rules: Vec<RuleReport>,
}

/// The counters of an input interface, in datagrams: `received = matched + sum(dropped)`.
pub struct InterfaceReport {
    /// The interface's name.
    pub name: String,
    /// Datagrams that arrived.
    pub received: u64,
    /// Bytes of the payloads of those that could be read.
    pub received_bytes: u64,
    /// The rates of `received` and `dropped`.
    pub rates: Rates,
    /// Datagrams that at least one rule matched.
    pub matched: u64,
    /// Frames that the kernel lost because the engine received too slowly.
    pub kernel_dropped_frames: u64,
    /// How often all buffers were in use, so that frames waited in the kernel.
    pub buffer_waits: u64,
    /// The errno that ended the reception; 0 while it continues.
    pub error: u64,
    /// Datagrams discarded, by reason.
    pub dropped: [(Discard, u64); Discard::COUNT],
}

/// The status and counters of a rule, and hints why it matched nothing.
pub struct RuleReport {
    /// The id of its `RuleSpec`.
    pub id: String,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Why its input cannot receive; `None` if it can.
    pub trouble: Option<InputTrouble>,
    /// Who relays it.
    pub offload: RuleWay,
    /// Why the engine does, in a sentence; `None` if there is nothing to say.
    pub engine_sentence: Option<String>,
    /// Matched datagrams.
    pub matched: u64,
    /// Bytes of their payloads.
    pub matched_bytes: u64,
    /// The rates of these, and of the copies that the outputs dropped.
    pub rates: Rates,
    /// Flows of it that gave way to others in the table of flows.
    pub flows_evicted: u64,
    /// Payloads that came back to it again and again, among those watched.
    pub looped: u64,
    /// Where the last of them came back from.
    pub looped_source: Option<IpAddr>,
    /// The source address of the last matched datagram.
    pub last_source: Option<IpAddr>,
    /// The age of the last matched datagram, in milliseconds.
    pub last_seen_age_ms: Option<u64>,
    /// Datagrams of the group on the interface that no rule matched.
    pub group_seen: u64,
    /// The age of the last of these, in milliseconds.
    pub group_seen_age_ms: Option<u64>,
    /// The destination port of the last of these whose port no rule names.
    pub other_port: Option<u16>,
    /// The source address of the last of these whose source no rule for the same input lists.
    pub other_source: Option<IpAddr>,
    /// Of an input that is merged with others.
    pub merge: Option<LegReport>,
    /// In the order of the rule's outputs.
    pub outputs: Vec<OutputReport>,
}

/// What an input that is merged with others has delivered, in datagrams.
pub struct LegReport {
    /// All, by what became of them: new, behind a later one of another input, delivered before,
    /// and without a number that continues the input.
    pub received: u64,
    /// The new ones.
    pub first: u64,
    /// Those that no input had delivered before, behind a later one.
    pub late: u64,
    /// Those that an input had delivered before.
    pub duplicate: u64,
    /// Those without a number that continues the input.
    pub out_of_sequence: u64,
    /// Numbers that it has not delivered.
    pub missing: u64,
    /// Of the first input: numbers that no input has delivered.
    pub lost: u64,
    /// Of the first input: how often the numbers began anew.
    pub restarts: u64,
    /// How far half of the duplicates were at most behind the first ones, in microseconds.
    pub skew_p50_us: Option<u64>,
    /// How far 99 % of them were.
    pub skew_p99_us: Option<u64>,
    /// Of the first input, where one input is sent at a time: the number of that input, from 0.
    pub active: Option<u64>,
    /// Of the first input: how often another input was chosen.
    pub switches: u64,
}

impl LegReport {
    fn new(words: &SlotWords) -> Option<Self> {
        let active = words[rule::ACTIVE];
        let active = (active & rule::ACTIVE_MARK != 0).then_some(active & !rule::ACTIVE_MARK);
        let skew_us =
            |thousandths| skew::percentile_us(words, thousandths).filter(|_| active.is_none());
        (words[rule::RECEIVED] > 0 || words[rule::LOST] > 0 || active.is_some()).then(|| Self {
            received: words[rule::RECEIVED],
            first: words[rule::FIRST],
            late: words[rule::LATE],
            duplicate: words[rule::DUPLICATE],
            out_of_sequence: words[rule::OUT_OF_SEQUENCE],
            missing: words[rule::MISSING],
            lost: words[rule::LOST],
            restarts: words[rule::RESTARTS],
            skew_p50_us: skew_us(500),
            skew_p99_us: skew_us(990),
            active,
            switches: if active.is_some() { words[rule::SWITCHES] } else { 0 },
        })
    }
}

/// The status and counters of an output, in copies: `wanted = sent + sum(dropped) + pending`.
pub struct OutputReport {
    /// Why copies cannot be sent now, in a sentence; `None` if no reason is known.
    pub parked: Option<String>,
    /// The way of its copies; `None` if no worker has published it.
    pub way: Option<OutputWay>,
    /// Copies that were due since the output was added.
    pub wanted: u64,
    /// Copies that the kernel accepted.
    pub sent: u64,
    /// Bytes of their payloads.
    pub sent_bytes: u64,
    /// The rates of `sent` and `dropped`.
    pub rates: Rates,
    /// Copies that wait for the output's rate, or for the driver. All other sends are complete when
    /// the counters are published.
    pub pending: u64,
    /// Sends that failed with the ICMP error of an earlier datagram, and were repeated.
    pub refused: u64,
    /// Copies lost, by reason.
    pub dropped: [(Loss, u64); Loss::COUNT],
    /// Copies lost as `send_error`, by errno; 0 collects those beyond the recorded errors.
    pub errors: BTreeMap<u64, u64>,
    /// The last loss.
    pub last_loss: Option<LastLoss>,
    /// The age of the last of `refused`, in milliseconds.
    pub refused_age_ms: Option<u64>,
}

/// When and why an output lost a copy.
pub struct LastLoss {
    /// Its age, in milliseconds.
    pub age_ms: u64,
    /// The reason.
    pub loss: Loss,
    /// The errno if the reason is `send_error`, else 0.
    pub errno: u64,
}

impl LastLoss {
    /// The name of the errno, such as `ENETUNREACH`, if the reason is `send_error`.
    #[must_use]
    pub fn errno_name(&self) -> Option<String> {
        (self.loss == Loss::SendError).then(|| errno_name(self.errno))
    }
}

/// The name of an errno, such as `ENETUNREACH` for 101; `other` for 0, if it was not recorded.
#[must_use]
pub fn errno_name(errno: u64) -> String {
    match i32::try_from(errno) {
        Ok(errno) if errno != 0 => format!("{:?}", Errno::from_raw(errno)),
        _ => "other".to_owned(),
    }
}

/// Reads the counters of all interfaces and rules.
pub(in crate::relay) fn read(
    state: &State,
    links: &LinkTable,
    pages: &[Arc<SharedWords>],
    sampler: &RateSampler,
) -> Report {
    let windows = sampler.windows();
    let interfaces = state.inputs.interfaces().map(|interface| {
        let (name, copies) = (interface.name.clone(), copies(pages, interface.slot));
        let kernel = KernelInterfaceCounts::from_words(&state.slots.kernel(interface.slot));
        InterfaceReport::new(name, interface.kernel_drops(), &copies, kernel, &windows)
    });
    let interfaces = interfaces.collect();
    let now_ms = now_ms();
    let rules = state.rules.values().map(|live| {
        let trouble = live.trouble(links, state.ingress());
        let (id, enabled) = (live.id.to_string(), live.enabled);
        let outputs = live.outputs.iter().map(|output| {
            let (trouble, way) = (output.trouble(), Some(output.way()));
            let kernel = KernelOutputCounts::from_words(&state.slots.kernel(output.slot));
            let report = OutputReport::new(trouble, way, &copies(pages, output.slot), now_ms);
            report.with(&kernel, now_ms).with_rates(SlotOwner::output(output.key), &windows)
        });
        let outputs = outputs.collect();
        let [counted, group] = [live.slot, live.group].map(|slot| copies(pages, slot));
        let kernel = KernelRuleCounts::from_words(&state.slots.kernel(live.slot));
        let report = RuleReport::new(&counted, &group, outputs, now_ms).with(&kernel, now_ms);
        let report = report.with_rates(SlotOwner::rule(&id), &windows);
        let (offload, engine_sentence) =
            (state.rule_way(&live.id), state.engine_sentence(&live.id));
        RuleReport { id, enabled, trouble, offload, engine_sentence, ..report }
    });
    Report { interfaces, rules: rules.collect() }
}

impl InterfaceReport {
    /// The report from the copies of an interface's slot, and with what the kernel has relayed.
    pub(super) fn new(
        name: String,
        kernel_dropped_frames: u64,
        copies: &[SlotWords],
        kernel: KernelInterfaceCounts,
        windows: &RateWindows,
    ) -> Self {
        let words = sum(copies);
        let KernelInterfaceCounts { relayed, relayed_bytes, .. } = kernel;
        let mut totals = SlotTotals::of_interface(&words);
        totals += SlotTotals { datagrams: relayed, bytes: relayed_bytes, dropped: 0 };
        let rates = windows.rates(SlotOwner::interface(&name), totals);
        Self {
            name,
            received_bytes: words[interface::RECEIVED_BYTES].saturating_add(relayed_bytes),
            rates,
            received: words[interface::RECEIVED].saturating_add(relayed),
            matched: words[interface::MATCHED].saturating_add(relayed),
            kernel_dropped_frames,
            buffer_waits: words[interface::BUFFER_WAITS],
            error: newest(copies, interface::ERROR)[interface::ERROR],
            dropped: Discard::ALL.map(|why| (why, words[interface::DROPPED + why as usize])),
        }
    }
}

impl RuleReport {
    /// The report from the copies of the slots of a rule and of its group. The caller sets `id`,
    /// `enabled` and `trouble`.
    pub(super) fn new(
        copies: &[SlotWords],
        groups: &[SlotWords],
        outputs: Vec<OutputReport>,
        now_ms: u64,
    ) -> Self {
        let (counted, newest_rule) = (sum(copies), newest(copies, rule::LAST_SEEN_MS));
        let newest_loop = newest(copies, rule::LOOPED_MS);
        let newest_group = newest(groups, group::LAST_SEEN_MS);
        let other_port = newest_group[group::OTHER_PORT].checked_sub(1);
        Self {
            id: String::new(),
            enabled: true,
            trouble: None,
            offload: RuleWay::OFF,
            engine_sentence: None,
            matched: counted[rule::MATCHED],
            matched_bytes: counted[rule::MATCHED_BYTES],
            rates: [None; 2],
            flows_evicted: counted[rule::FLOWS_EVICTED],
            looped: counted[rule::LOOPED],
            looped_source: address(&newest_loop[rule::LOOPED_SOURCE..]),
            merge: LegReport::new(&counted),
            last_source: address(&newest_rule[rule::LAST_SOURCE..]),
            last_seen_age_ms: age(newest_rule[rule::LAST_SEEN_MS], now_ms),
            group_seen: sum(groups)[group::UNMATCHED],
            group_seen_age_ms: age(newest_group[group::LAST_SEEN_MS], now_ms),
            other_port: other_port.and_then(|port| u16::try_from(port).ok()),
            other_source: address(&newest_group[group::OTHER_SOURCE..]),
            outputs,
        }
    }

    /// The same with its rates; those of the outputs are known.
    pub(super) fn with_rates(self, owner: SlotOwner, windows: &RateWindows) -> Self {
        let totals = SlotTotals { datagrams: self.matched, bytes: self.matched_bytes, dropped: 0 };
        let own = windows.rates(owner, totals);
        let outputs = self.outputs.iter().map(|output| &output.rates);
        Self { rates: rates::with_drops(own, outputs), ..self }
    }

    /// The report with what the kernel has relayed.
    pub(super) fn with(mut self, kernel: &KernelRuleCounts, now_ms: u64) -> Self {
        self.matched = self.matched.saturating_add(kernel.matched);
        self.matched_bytes = self.matched_bytes.saturating_add(kernel.matched_bytes);
        let seen = age(kernel.last_seen_ms, now_ms);
        if seen.is_some() && self.last_seen_age_ms.is_none_or(|own| Some(own) > seen) {
            self.last_seen_age_ms = seen;
            self.last_source = address(&kernel.last_source).or(self.last_source);
        }
        self
    }
}

impl OutputReport {
    /// The report from the copies of an output's slot.
    pub(super) fn new(
        parked: Option<String>,
        way: Option<OutputWay>,
        copies: &[SlotWords],
        now_ms: u64,
    ) -> Self {
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
            way,
            wanted: words[output::WANTED],
            sent: words[output::SENT],
            sent_bytes: words[output::SENT_BYTES],
            rates: [None; 2],
            pending: words[output::WANTED].saturating_sub(settled),
            refused: words[output::REFUSED],
            dropped,
            errors,
            last_loss: last_loss(&newest(copies, output::LOST_MS), now_ms),
            refused_age_ms: age(newest(copies, output::REFUSED_MS)[output::REFUSED_MS], now_ms),
        }
    }
}

impl OutputReport {
    /// The same with its rates.
    pub(super) fn with_rates(self, owner: SlotOwner, windows: &RateWindows) -> Self {
        let dropped = self.dropped.iter().map(|(_, lost)| *lost);
        let dropped = dropped.fold(0, u64::saturating_add);
        let totals = SlotTotals { datagrams: self.sent, bytes: self.sent_bytes, dropped };
        Self { rates: windows.rates(owner, totals), ..self }
    }

    /// The report with what the kernel has relayed.
    pub(super) fn with(mut self, kernel: &KernelOutputCounts, now_ms: u64) -> Self {
        self.wanted = self.wanted.saturating_add(kernel.wanted());
        self.sent = self.sent.saturating_add(kernel.sent);
        self.sent_bytes = self.sent_bytes.saturating_add(kernel.sent_bytes);
        self.pending = self.pending.saturating_add(kernel.pending);
        for (loss, count) in [(Loss::DeviceFull, kernel.full), (Loss::DeviceLost, kernel.lost)] {
            let own = &mut self.dropped[loss as usize].1;
            *own = own.saturating_add(count);
        }
        let found = loss_at(kernel.loss_ms, kernel.loss, 0, now_ms);
        let known = self.last_loss.take();
        self.last_loss = known.into_iter().chain(found).min_by_key(|loss| loss.age_ms);
        self
    }
}

fn last_loss(words: &SlotWords, now_ms: u64) -> Option<LastLoss> {
    let [then_ms, loss, errno] =
        [output::LOST_MS, output::LAST_LOSS, output::LAST_ERRNO].map(|at| words[at]);
    loss_at(then_ms, loss, errno, now_ms)
}

/// The loss with this number; `None` if there was none, or for an invalid number.
fn loss_at(then_ms: u64, loss: u64, errno: u64, now_ms: u64) -> Option<LastLoss> {
    let age_ms = age(then_ms, now_ms)?;
    let loss = Loss::ALL.get(usize::try_from(loss).ok()?).copied()?;
    Some(LastLoss { age_ms, loss, errno })
}

/// The number of datagrams that a rule matched, and of those among them that would overtake others
/// if the kernel merged.
pub(in crate::relay) fn order(pages: &[Arc<SharedWords>], slot: Slot) -> [u64; 2] {
    let words = sum(&copies(pages, slot));
    [words[rule::MATCHED], words[rule::OVERTAKING]]
}

/// The contents of a slot in the page of each engine.
fn copies(pages: &[Arc<SharedWords>], slot: Slot) -> Vec<SlotWords> {
    pages.iter().filter_map(|page| stats::read(page.view(), slot)).collect()
}

/// The sums of the words of all copies of a slot.
fn sum(copies: &[SlotWords]) -> SlotWords {
    let mut total = [0_u64; stats::SLOT_WORDS];
    for words in copies {
        for (sum, word) in total.iter_mut().zip(words) {
            *sum = sum.saturating_add(*word);
        }
    }
    total
}

/// The copy of a slot with the greatest value in the word `by`.
fn newest(copies: &[SlotWords], by: usize) -> SlotWords {
    copies.iter().max_by_key(|words| words[by]).copied().unwrap_or([0; stats::SLOT_WORDS])
}

fn address(words: &[u64]) -> Option<IpAddr> {
    let bits = u128::from(words[0]) << 64 | u128::from(words[1]);
    (bits != 0).then(|| Addr::from_bits(bits).ip())
}

/// The age of an event in milliseconds, from its time; `None` if that is 0, which means never.
fn age(then_ms: u64, now_ms: u64) -> Option<u64> {
    (then_ms != 0).then(|| now_ms.saturating_sub(then_ms))
}

/// The time of CLOCK_MONOTONIC_COARSE, in milliseconds.
pub(in crate::relay) fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE);
    now.map_or(0, |now| u64::try_from(Duration::from(now).as_millis()).unwrap_or(0))
}
