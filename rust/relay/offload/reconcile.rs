//! When rules move between the engines and the kernel. Nothing is lost, relayed twice or out of
//! order then: the engines have every rule, and relay what the kernel passes on.
//!
//! A new rule is put into the kernel at once, and the engines get it only when they have finished
//! everything that arrived before ([`LiveRule::is_held`]). A rule that the engines relay moves in a
//! pause of its stream: its gate counts the frames that pass, and opens if none has passed since
//! the engines had finished. A rule leaves the kernel by its removal.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use super::candidates::{Candidate, covers};
use super::kernel_relay::ChangedRules;
use super::reason::EngineReason;
use super::totals::FLIGHT;
use super::way::RuleWay;
use crate::error::{Error, Result};
use crate::offload::{Obstacle, Volume};
use crate::relay::Shared;
use crate::relay::counters::slots::SlotChanges;
use crate::relay::error::ChangeError;
use crate::relay::live::{LiveRule, NetworkContext, RuleId};
use crate::relay::network::watch::LinkNews;
use crate::relay::rule_change::Difference;
use crate::relay::state::{Opened, State};
use crate::sockets::socket;
use crate::stats::kernel::{KernelInterfaceCounts, KernelOutputCounts, KernelRuleCounts};

/// The time after which a frame that the kernel has passed on is in the queue of a socket.
const ARRIVAL: Duration = Duration::from_millis(1);
/// How long a gate waits for the engines.
const GATE_PATIENCE: Duration = Duration::from_millis(20);
/// How long a change waits for the engines: no queue has more than they take in this time, even if
/// they are never idle.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
/// How long a change waits for the Ethernet addresses of hosts, which take a millisecond.
const RESOLUTION: Duration = Duration::from_millis(100);
const RESOLUTION_STEP: Duration = Duration::from_millis(2);

impl State {
    /// Decides on all rules as the network is now, and has the kernel follow.
    pub(in crate::relay) fn follow_offload(
        &mut self,
        context: &NetworkContext<'_>,
        changes: &LinkNews,
    ) {
        // A successor has no rules at first, and keeps those of its predecessor until then.
        if !self.kernel.is_wanted() || self.kernel.has_inherited() {
            return;
        }
        let inputs = self.input_indices();
        self.kernel.follow_hooks(&inputs, &changes.gone);
        let rules: Vec<Candidate<'_>> = self.rules.values().map(Candidate::from).collect();
        let decisions =
            self.kernel.decide(&rules, context, &self.inputs, (&self.taps, &self.shaping));
        self.kernel.enact(decisions, &ChangedRules::default());
        self.kernel.weigh();
        self.publish_kernel_counts();
    }

    /// Checks that new rules can be relayed in the kernel, if all have to be. Attaches the programs
    /// to their inputs, which takes rights.
    ///
    /// # Errors
    /// Why a rule cannot. One that waits for something is accepted.
    pub(in crate::relay) fn check_offload(
        &mut self,
        opened: &Opened,
        difference: &Difference<'_>,
        context: &NetworkContext<'_>,
    ) -> std::result::Result<(), ChangeError> {
        if !self.kernel.is_wanted() || opened.rules.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + RESOLUTION;
        loop {
            let rules = candidates(&self.rules, &opened.rules, difference);
            let decisions =
                self.kernel.decide(&rules, context, &self.inputs, (&self.taps, &self.shaping));
            let refused = opened
                .rules
                .iter()
                .filter_map(|rule| Some((&rule.id, decisions.get(&rule.id)?.as_ref().err()?)));
            let refused: Vec<_> = refused.collect();
            // Sockets of rules that were replaced before may still be members.
            let awaits = refused.iter().any(|(_, reason)| {
                matches!(
                    reason,
                    EngineReason::Rule(Obstacle::NoNeighbour) | EngineReason::Listener(..)
                )
            });
            if awaits && Instant::now() < deadline {
                thread::sleep(RESOLUTION_STEP);
                continue;
            }
            let first = refused.iter().find(|(_, reason)| !reason.is_transient());
            return match first.filter(|_| self.kernel.is_required()) {
                Some((id, reason)) => {
                    Err(ChangeError { rule: Some(id.to_string()), error: reason.refusal() })
                }
                None => Ok(()),
            };
        }
    }

    /// Has the kernel follow a change of the rules before the engines do. `known` are the sockets
    /// that the engines receive from. Returns whether the engines have to finish what they have
    /// before they get the new rules.
    pub(in crate::relay) fn place_rules(
        &mut self,
        opened: &mut Opened,
        difference: &Difference<'_>,
        known: &BTreeSet<u64>,
        context: &NetworkContext<'_>,
    ) -> bool {
        if !self.kernel.is_wanted() {
            return false;
        }
        let resumed = self.resume_counts(opened);
        let rules = candidates(&self.rules, &opened.rules, difference);
        let decisions =
            self.kernel.decide(&rules, context, &self.inputs, (&self.taps, &self.shaping));
        let starts = |candidate: &&Candidate<'_>| {
            let id = &candidate.rule.id;
            if resumed.contains_key(id) {
                return resumed[id];
            }
            let is_new = opened.rules.iter().any(|rule| rule.id == *id);
            let is_enabled = difference.enable.iter().any(|(other, on)| other == id && *on);
            (is_new || is_enabled) && !self.engine_has(candidate.rule)
        };
        let fresh = rules.iter().filter(starts).map(|candidate| candidate.rule.id.clone());
        let changed = ChangedRules {
            fresh: fresh.collect(),
            gone: difference.remove.iter().cloned().collect(),
        };
        self.kernel.enact(decisions, &changed);
        let is_fresh =
            |id: &RuleId| changed.fresh.contains(id) && self.kernel.way(id) == RuleWay::Kernel;
        let is_held = |id: &RuleId| is_fresh(id) && !resumed.contains_key(id);
        for rule in opened.rules.iter_mut().filter(|rule| is_held(&rule.id)) {
            let sources = self.inputs.source_ids(&rule.input);
            rule.is_held = !self.kernel.is_on() || sources.iter().any(|id| !known.contains(id));
        }
        changed.fresh.iter().any(is_fresh) && self.kernel.is_on()
    }

    /// Continues the counts that an earlier process has left of new rules; returns for each of these
    /// whether the kernel relays it since then.
    fn resume_counts(&mut self, opened: &Opened) -> BTreeMap<RuleId, bool> {
        let mut resumed = BTreeMap::new();
        for interface in self.inputs.interfaces() {
            let base = || {
                let words = self.slots.kernel(interface.slot);
                let [datagrams, bytes] = KernelInterfaceCounts::from_words(&words).base;
                Volume { datagrams, bytes }
            };
            self.kernel.interfaces.entry(interface.name.clone()).or_insert_with(base);
        }
        for rule in &opened.rules {
            let is_continued =
                (opened.slots.iter()).any(|grant| grant.slot == rule.slot && grant.is_continued);
            if is_continued {
                let counts = KernelRuleCounts::from_words(&self.slots.kernel(rule.slot));
                let outputs = rule.outputs.iter().map(|output| self.slots.kernel(output.slot));
                let outputs: Vec<_> =
                    outputs.map(|words| KernelOutputCounts::from_words(&words)).collect();
                let relays = self.kernel.resume(rule, &counts, &outputs);
                resumed.insert(rule.id.clone(), relays);
            }
        }
        resumed
    }

    /// Whether the engines relay datagrams for the input of a rule that is not among the rules yet,
    /// or replaces one of them.
    fn engine_has(&self, rule: &LiveRule) -> bool {
        let is_with_engine =
            |other: &LiveRule| other.is_active() && self.kernel.way(&other.id) != RuleWay::Kernel;
        let mut others = self.rules.values().filter(|other| is_with_engine(other));
        others.any(|other| covers(&other.input, &rule.input))
    }

    /// Lets the plans have all rules; returns whether any was held back.
    pub(in crate::relay) fn release_held(&mut self) -> bool {
        let mut has_any = false;
        for (id, rule) in self.rules.iter_mut().filter(|(_, rule)| rule.is_held) {
            rule.is_held = false;
            self.touched.insert(id.clone());
            has_any = true;
        }
        has_any
    }

    fn input_indices(&self) -> BTreeSet<u32> {
        self.rules.values().map(|rule| rule.input.ifindex).filter(|index| *index != 0).collect()
    }
}

impl Shared {
    /// Has the kernel follow an agreed change of the rules. `known` are the sockets that the engines
    /// receive from.
    pub(in crate::relay) fn place(
        &self,
        state: &mut State,
        difference: &Difference<'_>,
        mut opened: Opened,
        known: &BTreeSet<u64>,
    ) -> Opened {
        let links = self.links.watch().latest();
        if state.place_rules(&mut opened, difference, known, &self.context(&links)) {
            self.finish_arrived();
        }
        opened
    }

    /// Completes the change once the engines have followed.
    ///
    /// # Errors
    /// An engine has ended.
    pub(in crate::relay) fn follow_placed(&self, state: &mut State) -> Result<()> {
        if !state.kernel.is_wanted() {
            return Ok(());
        }
        if state.kernel.is_on() {
            self.follow_held(state)?;
        }
        state.publish_kernel_counts();
        self.links.wake();
        Ok(())
    }

    /// Waits until the engines have finished what had arrived before the kernel took a new rule.
    pub(in crate::relay) fn finish_arrived(&self) {
        thread::sleep(ARRIVAL);
        self.workers.drain(DRAIN_PATIENCE);
    }

    /// Gives the engines the rules that were held back.
    ///
    /// # Errors
    /// An engine has ended.
    pub(in crate::relay) fn follow_held(&self, state: &mut State) -> Result<()> {
        if !state.rules.values().any(|rule| rule.is_held) {
            return Ok(());
        }
        self.finish_arrived();
        state.release_held();
        self.follow_plans(state, SlotChanges::default())
    }

    /// Moves rules whose stream pauses into the kernel; returns whether to try again soon.
    pub(in crate::relay) fn open_gates(&self, state: &mut State) -> bool {
        let counts = state.kernel.gate_counts();
        if counts.is_empty() {
            return false;
        }
        thread::sleep(ARRIVAL);
        if self.workers.drain(GATE_PATIENCE) {
            let is_sent = |id: &RuleId| state.rules.get(id).is_some_and(has_sent_all);
            let counts: Vec<_> = counts.into_iter().filter(|(id, _)| is_sent(id)).collect();
            state.kernel.open_gates(&counts);
            thread::sleep(ARRIVAL);
            state.kernel.finish_gates(&counts);
        }
        state.kernel.tries_soon()
    }

    /// Lets the kernel relay, before the engines start.
    ///
    /// # Errors
    /// The kernel's.
    pub(in crate::relay) fn begin_offload(&self) -> Result<()> {
        let mut state = self.state();
        if state.kernel.is_required() {
            state.kernel.load().map_err(|reason| match reason {
                EngineReason::Rights(right) => Error::Permission(right),
                other => Error::Invalid(other.to_string()),
            })?;
        }
        state.kernel.begin()
    }

    /// Ends the relay in the kernel, before the engines stop; its counts stay readable.
    pub(in crate::relay) fn end_offload(&self) {
        if !self.workers.are_own() {
            // Another thread of the parent may have held the lock during the fork.
            if let Ok(mut state) = self.state.try_lock() {
                state.kernel.disown();
            }
            return;
        }
        let mut state = self.state();
        if !state.kernel.is_wanted() {
            return;
        }
        state.kernel.end();
        while state.kernel.has_retiring() {
            thread::sleep(FLIGHT);
            state.publish_kernel_counts();
        }
    }
}

/// The rules after a change, those that replace others included.
fn candidates<'a>(
    rules: &'a BTreeMap<RuleId, LiveRule>,
    opened: &'a [LiveRule],
    difference: &Difference<'_>,
) -> Vec<Candidate<'a>> {
    let removed: BTreeSet<&RuleId> = difference.remove.iter().collect();
    let enabled = |rule: &LiveRule| {
        let changed = difference.enable.iter().find(|(id, _)| *id == rule.id);
        changed.map_or(rule.enabled, |(_, on)| *on)
    };
    let kept = rules.values().filter(|rule| !removed.contains(&rule.id));
    let kept = kept.map(|rule| Candidate { rule, enabled: enabled(rule) });
    kept.chain(opened.iter().map(Candidate::from)).collect()
}

/// Whether all copies have left the queues of this host.
fn has_sent_all(rule: &LiveRule) -> bool {
    let mut sockets = rule.outputs.iter().flat_map(|output| output.sockets());
    sockets.all(|fd| socket::unsent(fd).is_ok_and(|bytes| bytes == 0))
}
