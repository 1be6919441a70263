//! The rules of a relay that are in the kernel: puts and removes them, and opens their gates.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::candidates::{self, Candidate, Decisions};
use super::copying_cpus::CopyingCpus;
use super::drain;
use super::drivers::Drivers;
use super::input_hooks::InputHooks;
use super::input_users::InputUsers;
use super::mode::OffloadMode;
use super::reason::EngineReason;
use super::totals::{LostCopies, RuleTotals};
use super::way::RuleWay;
use super::weighing::Weighing;
use crate::error::{Error, Result};
use crate::offload::{
    Endpoint, Fan, KernelOpener, KernelRule, KernelTable, LocalOpener, Mode, Put, Retired,
    RuleCounters, Volume,
};
use crate::relay::inputs::Inputs;
use crate::relay::live::{NetworkContext, RuleId};
use crate::relay::shaping::LiveShaping;
use crate::relay::taps::LiveTaps;
use crate::relay::{Settings, Share};
use crate::sockets::InterfaceRef;
use crate::sockets::netlink::devices::DeviceSocket;
use crate::sockets::netlink::group_users::GroupUserList;

/// After a refusal the programs are loaded again at the earliest after this time.
const LOAD_PAUSE: Duration = Duration::from_secs(8);

/// The relay in the kernel, as far as it is of one relay of this process.
pub(in crate::relay) struct KernelRelay {
    pub(super) mode: OffloadMode,
    share: Share,
    pub(super) opener: Box<dyn KernelOpener>,
    devices: Option<DeviceSocket>,
    members: GroupUserList,
    pub(super) table: Option<KernelTable>,
    load_refusal: Option<(EngineReason, Instant)>,
    /// Whether the relay has started.
    is_on: bool,
    hooks: InputHooks,
    cpus: CopyingCpus,
    pub(super) placed: BTreeMap<RuleId, PlacedRule>,
    pub(super) weighings: BTreeMap<RuleId, Weighing>,
    pub(super) retiring: Vec<RetiringRule>,
    pub(super) totals: BTreeMap<RuleId, RuleTotals>,
    /// What rules without a place have matched, by the name of the interface.
    pub(super) interfaces: BTreeMap<String, Volume>,
    /// The rules that an earlier process has put, by the id of their place.
    pub(super) inherited: BTreeMap<u64, InheritedRule>,
    /// The names of inputs' interfaces, by their index.
    names: BTreeMap<u32, String>,
    reasons: BTreeMap<RuleId, EngineReason>,
    /// Who relayed each rule at the end.
    last_ways: BTreeMap<RuleId, RuleWay>,
    last_key: u64,
}

/// A rule in the kernel.
pub(super) struct PlacedRule {
    pub(super) key: u64,
    pub(super) rule: KernelRule,
    /// Whether it waits until the engine has finished.
    pub(super) is_gated: bool,
    /// How often its gate was tried.
    pub(super) attempts: u32,
    /// The name of the input's interface.
    pub(super) interface: String,
    pub(super) lost: LostCopies,
}

/// A rule that was taken from the kernel, whose copies may still be on their way.
pub(super) struct RetiringRule {
    pub(super) retired: Retired,
    /// The rule, if it still exists.
    pub(super) id: Option<RuleId>,
    pub(super) interface: String,
    /// The position of each output among the counters.
    pub(super) order: Option<Vec<u64>>,
    /// What the totals contain.
    pub(super) counted: RuleCounters,
    pub(super) since: Instant,
}

/// A rule that an earlier process has put and this one has.
pub(super) struct InheritedRule {
    pub(super) id: RuleId,
    /// The name of the input's interface.
    pub(super) interface: String,
    /// For each output its position among the counters, plus one.
    pub(super) order: Vec<u64>,
}

/// The rules that a change of the relay's rules concerns.
#[derive(Default)]
pub(in crate::relay) struct ChangedRules {
    /// Those that are relayed from now on, and of which the engines have nothing yet.
    pub(in crate::relay) fresh: BTreeSet<RuleId>,
    /// Those that are removed or replaced.
    pub(in crate::relay) gone: BTreeSet<RuleId>,
}

impl KernelRelay {
    /// Without rules.
    ///
    /// # Errors
    /// No free descriptor.
    pub(in crate::relay) fn new(settings: &Settings) -> Result<Self> {
        let is_wanted = settings.offload != OffloadMode::Off;
        Ok(Self {
            mode: settings.offload,
            share: settings.share,
            opener: Box::new(LocalOpener::default()),
            devices: is_wanted.then(DeviceSocket::open).transpose()?,
            members: if is_wanted { GroupUserList::open() } else { GroupUserList::default() },
            table: None,
            load_refusal: None,
            is_on: false,
            hooks: InputHooks::default(),
            cpus: CopyingCpus::new(&settings.cpus),
            placed: BTreeMap::new(),
            weighings: BTreeMap::new(),
            retiring: Vec::new(),
            totals: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            inherited: BTreeMap::new(),
            names: BTreeMap::new(),
            reasons: BTreeMap::new(),
            last_ways: BTreeMap::new(),
            last_key: 0,
        })
    }

    pub(in crate::relay) fn set_opener(&mut self, opener: Box<dyn KernelOpener>) {
        self.opener = opener;
    }

    /// Whether any rule may be relayed in the kernel.
    pub(in crate::relay) fn is_wanted(&self) -> bool {
        self.mode != OffloadMode::Off
    }

    /// Whether all rules have to be.
    pub(in crate::relay) fn is_required(&self) -> bool {
        self.mode == OffloadMode::Require
    }

    /// Whether the relay has started, so that the kernel relays what it has.
    pub(in crate::relay) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Who relays a rule.
    pub(in crate::relay) fn way(&self, id: &RuleId) -> RuleWay {
        if let Some(way) = self.last_ways.get(id) {
            return *way;
        }
        if !self.is_wanted() {
            return RuleWay::OFF;
        }
        self.engine_reason(id).map_or(RuleWay::Kernel, EngineReason::way)
    }

    /// Why the engine relays a rule; `None` if the kernel does.
    fn engine_reason(&self, id: &RuleId) -> Option<&EngineReason> {
        match self.placed.get(id) {
            Some(placed) if !placed.is_gated => None,
            Some(_) if self.is_for_engine(id) => Some(&EngineReason::Batches),
            Some(_) => Some(&EngineReason::Pause),
            None => Some(self.reasons.get(id).unwrap_or(&EngineReason::Waiting)),
        }
    }

    /// Why the engine relays a rule, in a sentence, if the state of the rule does not tell.
    pub(in crate::relay) fn engine_sentence(&self, id: &RuleId) -> Option<String> {
        if !self.is_wanted() {
            return None;
        }
        match self.engine_reason(id)? {
            EngineReason::Disabled | EngineReason::Waiting => None,
            reason => Some(reason.to_string()),
        }
    }

    /// Decides who is to relay each rule, and attaches the programs to the inputs of those that the
    /// kernel can relay.
    pub(in crate::relay) fn decide(
        &mut self,
        rules: &[Candidate<'_>],
        context: &NetworkContext<'_>,
        inputs: &Inputs,
        kept: (&LiveTaps, &LiveShaping),
    ) -> Decisions {
        let Some(devices) = &self.devices else { return Decisions::new() };
        if self.share.of > 1 {
            let all = rules.iter().map(|it| (it.rule.id.clone(), Err(EngineReason::Processes)));
            return all.collect();
        }
        let users = InputUsers::new(&self.members, inputs);
        let drivers = Drivers::new(devices);
        let mut decisions = candidates::decide(rules, context, (&drivers, &users), kept);
        for decision in decisions.values_mut() {
            let Ok(rule) = decision else { continue };
            let index = rule.endpoint.ifindex;
            let name = context.links.name(index).unwrap_or_default();
            self.names.insert(index, name.to_owned());
            let attached = self
                .load()
                .and_then(|()| self.hooks.open(InterfaceRef { index, name }, &*self.opener));
            match attached {
                Ok(()) => rule.cpu = self.cpus.choose(rule, &*self.opener),
                Err(reason) => *decision = Err(reason),
            }
        }
        decisions
    }

    /// Loads the programs, unless they are.
    ///
    /// # Errors
    /// Why not, now or at the last attempt.
    pub(in crate::relay) fn load(&mut self) -> std::result::Result<(), EngineReason> {
        if self.table.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        if let Some((reason, _)) = self.load_refusal.as_ref().filter(|(_, until)| now < *until) {
            return Err(reason.clone());
        }
        let is_on = self.is_on;
        let opened = self.opener.maps().and_then(KernelTable::open).and_then(|mut table| {
            // New maps are off; those of a predecessor keep relaying.
            if is_on {
                table.switch(true)?;
            }
            Ok(table)
        });
        match opened {
            Ok(table) => {
                self.cpus.inherit(table.inherited_cpus());
                self.table = Some(table);
                Ok(())
            }
            Err(error) => {
                let reason = refused(error);
                self.load_refusal = Some((reason.clone(), now + LOAD_PAUSE));
                Err(reason)
            }
        }
    }

    /// Puts and removes rules, all at once. Those of which the engine may have something are put
    /// behind a closed gate.
    pub(in crate::relay) fn enact(&mut self, decisions: Decisions, changed: &ChangedRules) {
        self.reasons.clear();
        let (mut wanted, mut puts) = (BTreeMap::new(), Vec::new());
        for (id, decision) in decisions {
            match decision {
                Ok(rule) => drop(wanted.insert(id, rule)),
                Err(reason) => drop(self.reasons.insert(id, reason)),
            }
        }
        let stays = |id: &RuleId, placed: &PlacedRule| {
            !changed.gone.contains(id) && wanted.get(id) == Some(&placed.rule)
        };
        let leaving = self.placed.iter().filter(|(id, placed)| !stays(id, placed));
        let leaving: Vec<RuleId> = leaving.map(|(id, _)| id.clone()).collect();
        wanted.retain(|id, _| !self.placed.contains_key(id) || leaving.contains(id));
        for (id, rule) in wanted {
            match self.opener.fan(&rule.shape()) {
                Ok(fan) => puts.push(self.put(id, rule, fan, changed)),
                Err(error) => drop(self.reasons.insert(id, refused(error))),
            }
        }
        self.change(&leaving, puts, &changed.gone);
    }

    /// A rule to put, with its key and mode.
    fn put(
        &mut self,
        id: RuleId,
        rule: KernelRule,
        fan: Fan,
        changed: &ChangedRules,
    ) -> (RuleId, Put) {
        self.last_key += 1;
        let before = self.placed.get(&id).filter(|_| !changed.gone.contains(&id));
        let relays = before.map_or(changed.fresh.contains(&id), |placed| !placed.is_gated);
        let mode = if relays { Mode::Relay } else { Mode::Gate };
        (id, Put { key: self.last_key, rule, fan, mode })
    }

    fn change(&mut self, leaving: &[RuleId], puts: Vec<(RuleId, Put)>, gone: &BTreeSet<RuleId>) {
        let has_inherited = self.has_inherited();
        let Some(table) = &mut self.table else { return };
        if leaving.is_empty() && puts.is_empty() && !has_inherited {
            return;
        }
        let keys: Vec<u64> =
            leaving.iter().filter_map(|id| self.placed.get(id)).map(|it| it.key).collect();
        let stay: BTreeSet<Endpoint> = puts.iter().map(|(_, put)| put.rule.endpoint).collect();
        drain::finish(table, &keys_to_drain(&self.placed, leaving, &stay));
        let all = puts.iter().map(|(_, put)| put.clone()).collect();
        let (retired, puts) = match table.change(&keys, all) {
            Ok(retired) => (retired, puts),
            Err(error) => {
                let reason = refused(error);
                let all = puts.into_iter().map(|(id, _)| (id, reason.clone()));
                self.reasons.extend(all);
                // Removing takes no room.
                (table.change(&keys, Vec::new()).unwrap_or_default(), Vec::new())
            }
        };
        let old: BTreeMap<u64, (RuleId, String)> = (leaving.iter())
            .filter_map(|id| Some((id, self.placed.remove(id)?)))
            .map(|(id, placed)| (placed.key, (id.clone(), placed.interface)))
            .collect();
        for retired in retired {
            self.retire(retired, &old, gone);
        }
        self.inherited.clear();
        for id in gone {
            self.totals.remove(id);
        }
        for (id, put) in puts {
            let placed = PlacedRule {
                key: put.key,
                is_gated: put.mode == Mode::Gate,
                attempts: 0,
                interface: self.names.get(&put.rule.endpoint.ifindex).cloned().unwrap_or_default(),
                lost: LostCopies::new(put.rule.outputs.len(), put.rule.cpu.is_some()),
                rule: put.rule,
            };
            self.placed.insert(id, placed);
        }
        self.weighings.retain(|id, _| self.placed.contains_key(id));
        let retiring = self.retiring.iter().map(|one| one.retired.endpoint());
        let used = self.placed.values().map(|placed| placed.rule.endpoint).chain(retiring);
        self.cpus.retain(&used.collect());
    }

    /// Counts what a rule out of force has relayed.
    fn retire(
        &mut self,
        retired: Retired,
        old: &BTreeMap<u64, (RuleId, String)>,
        gone: &BTreeSet<RuleId>,
    ) {
        let place = retired.place_id();
        let (counted, since) = (RuleCounters::default(), Instant::now());
        let (id, interface, order) = match retired.key().and_then(|key| old.get(&key)) {
            Some((id, interface)) => {
                (Some(id.clone()).filter(|id| !gone.contains(id)), interface.clone(), None)
            }
            None => match self.inherited.remove(&place) {
                Some(InheritedRule { id, interface, order }) => (Some(id), interface, Some(order)),
                None => (None, String::new(), None),
            },
        };
        self.retiring.push(RetiringRule { retired, id, interface, order, counted, since });
        self.count_retiring();
    }

    /// Detaches the programs from interfaces without rules, and forgets those that were deleted.
    pub(in crate::relay) fn follow_hooks(
        &mut self,
        inputs: &BTreeSet<u32>,
        deleted: &BTreeSet<u32>,
    ) {
        self.hooks.forget(deleted);
        self.hooks.retain(|index| inputs.contains(&index));
    }

    /// Whether rules of an earlier process are in the kernel, until the first change.
    pub(in crate::relay) fn has_inherited(&self) -> bool {
        self.table.as_ref().is_some_and(KernelTable::has_inherited)
    }

    /// Lets the kernel relay.
    ///
    /// # Errors
    /// The kernel's.
    pub(in crate::relay) fn begin(&mut self) -> Result<()> {
        self.is_on = true;
        self.table.as_mut().map_or(Ok(()), |table| table.switch(true))
    }

    /// Forgets the attachments in a forked process: they belong to the parent.
    pub(in crate::relay) fn disown(&mut self) {
        self.hooks.disown();
    }

    /// Whether copies of rules without a place may still be on their way.
    pub(in crate::relay) fn has_retiring(&self) -> bool {
        !self.retiring.is_empty()
    }

    /// Ends relaying: every frame goes on to the engines and the programs are detached.
    pub(in crate::relay) fn end(&mut self) {
        let rules = self.placed.keys().chain(self.reasons.keys());
        self.last_ways = rules.map(|id| (id.clone(), self.way(id))).collect();
        self.is_on = false;
        let all: Vec<RuleId> = self.placed.keys().cloned().collect();
        self.change(&all, Vec::new(), &BTreeSet::new());
        if let Some(table) = &mut self.table {
            table.switch(false).ok();
        }
        self.hooks = InputHooks::default();
    }
}

/// The rules that pass their datagrams on from now on, and for which another CPU copies.
fn keys_to_drain(
    placed: &BTreeMap<RuleId, PlacedRule>,
    leaving: &[RuleId],
    stay: &BTreeSet<Endpoint>,
) -> Vec<u64> {
    let leaving = leaving.iter().filter_map(|id| placed.get(id));
    let queued = leaving.filter(|it| it.rule.cpu.is_some() && !it.is_gated);
    queued.filter(|it| !stay.contains(&it.rule.endpoint)).map(|it| it.key).collect()
}

fn refused(error: Error) -> EngineReason {
    match error {
        Error::Permission(right) => EngineReason::Rights(right),
        other => EngineReason::Refused(other.to_string()),
    }
}
