//! Compiles the state of a relay into the plans of its engines: one for each engine, updated from
//! the previous one.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use crate::engine::plan::{OutputBuckets, Plan, PlanMerge, PlanOutput, PlanRule, SHARE_RULES};
use crate::engine::rewrite::Preserved;
use crate::merge::{MAX_LEGS, MergeSpec, Merger};
use crate::relay::counters::slots::SlotChanges;
use crate::relay::live::{LiveRule, RuleId};
use crate::relay::state::State;
use crate::rules::{Compiler, Table};
use crate::spec::{leg_id, rule_of_leg};

/// The number of unused rule numbers, beside as many as there are rules, above which all rules are
/// renumbered.
const SPARE_NUMBERS: usize = 1024;

/// The parts of the last plans, so that a change only compiles what it changes.
#[derive(Default)]
pub(in crate::relay) struct Plans {
    compiler: Compiler,
    /// The number of each rule in the plans.
    numbers: HashMap<RuleId, u32>,
    /// The rule of each number; `None` for unused numbers.
    ids: Vec<Option<RuleId>>,
    rules: Vec<PlanRule>,
    groups: Vec<u32>,
    /// For each engine, the outputs in shares of [`SHARE_RULES`] rules.
    outputs: Vec<Vec<Arc<[PlanOutput]>>>,
    /// The shares with an output that has a rate.
    limited: BTreeSet<usize>,
    disabled: DisabledRules,
}

/// The disabled rules, in a separate table that shows why a datagram is not relayed.
#[derive(Default)]
struct DisabledRules {
    compiler: Compiler,
    numbers: HashMap<RuleId, u32>,
}

impl Plans {
    /// Compiles a plan for each of `workers` engines, after the rules `touched` were added, removed
    /// or changed, and with `is_reshaped` for other rates of interfaces or classes. Plans contain no
    /// rules whose input waits; disabled rules are only in the table.
    pub(in crate::relay) fn compile(
        &mut self,
        state: &State,
        (mut touched, is_reshaped): (BTreeSet<RuleId>, bool),
        workers: u16,
        owners: &SlotChanges,
    ) -> Vec<Plan> {
        if self.compiler.span() > 2 * state.rules.len() + SPARE_NUMBERS {
            *self = Self::default();
            touched = state.rules.keys().cloned().collect();
        }
        self.outputs.resize_with(usize::from(workers), Vec::new);
        touched.extend(merged_with(&touched, state));
        self.refresh(state, &touched);
        if is_reshaped {
            (0..self.ids.len().div_ceil(SHARE_RULES))
                .for_each(|share| self.rebuild_share(share, state));
        }
        debug_assert!(self.match_state(state), "a rule has changed and was not touched");
        let new = new_merges(&touched, state, owners);
        self.build_plans(state, owners, &new)
    }

    /// Updates the parts for the rules that were touched.
    fn refresh(&mut self, state: &State, touched: &BTreeSet<RuleId>) {
        let mut shares = BTreeSet::new();
        if self.disabled.refresh(touched, state) {
            self.compiler.set_disabled(self.disabled.table());
        }
        for id in touched {
            if let Some(number) = self.numbers.remove(id) {
                self.compiler.remove(number);
                self.ids[number as usize] = None;
                shares.insert(number as usize / SHARE_RULES);
            }
        }
        for id in touched {
            if let Some(rule) = state.rules.get(id).filter(|rule| rule.is_in_plans()) {
                let number = self.put(id, rule);
                shares.insert(number as usize / SHARE_RULES);
            }
        }
        for share in shares {
            self.rebuild_share(share, state);
        }
    }

    fn put(&mut self, id: &RuleId, rule: &LiveRule) -> u32 {
        let number = self.compiler.add(rule.input.table_rule());
        self.numbers.insert(id.clone(), number);
        self.ids.resize(self.compiler.span(), None);
        self.ids[number as usize] = Some(id.clone());
        self.rules.resize(self.compiler.span(), PlanRule::default());
        self.groups.resize(self.compiler.groups(), 0);
        self.groups[self.compiler.group_of(number) as usize] = rule.group.index;
        number
    }

    /// Rebuilds a share of the outputs, and the rules that point into it.
    fn rebuild_share(&mut self, share: usize, state: &State) {
        let first = share * SHARE_RULES;
        let numbers = first..(first + SHARE_RULES).min(self.ids.len());
        let rules = numbers.map(|number| (number, self.ids[number].as_ref()));
        let rules = rules.filter_map(|(number, id)| Some((number, state.rules.get(id?)?)));
        let rules: Vec<(usize, &LiveRule)> = rules.collect();
        let unused = first..(first + SHARE_RULES).min(self.rules.len());
        self.rules[unused].fill(PlanRule::default());
        let mut end = 0;
        for &(number, rule) in &rules {
            let first = end;
            end += u32::try_from(rule.outputs.len()).unwrap_or(0);
            let kept =
                Preserved::by(rule.outputs.iter().filter_map(|output| output.rewrite.as_deref()));
            let (slot, order, sequence) = (rule.slot.index, rule.order, rule.input.sequence);
            let merge = self.merge(rule, state);
            let outputs = first..end;
            self.rules[number] = PlanRule { slot, outputs, kept, order, sequence, merge };
        }
        let mut has_limit = false;
        for (worker, shares) in (0..).zip(&mut self.outputs) {
            let outputs = rules.iter().flat_map(|(_, rule)| plan_outputs(rule, worker, state));
            if shares.len() <= share {
                shares.resize(share + 1, Arc::default());
            }
            shares[share] = outputs.collect();
            has_limit |= shares[share].iter().any(|output| output.buckets.is_some());
        }
        if has_limit {
            self.limited.insert(share);
        } else {
            self.limited.remove(&share);
        }
    }

    /// How a rule's input is merged with others.
    fn merge(&self, rule: &LiveRule, state: &State) -> Option<PlanMerge> {
        let (_, leg) = rule.merge?;
        let head = rule_of_leg(&rule.id);
        let merger = state.rules.get(head)?.slot.index;
        Some(PlanMerge { merger, head: *self.numbers.get(head)?, leg })
    }

    /// Whether the parts agree with the state.
    fn match_state(&self, state: &State) -> bool {
        let mut live = state.rules.iter().filter(|(_, rule)| rule.is_in_plans());
        let are_all_known = live.clone().count() == self.numbers.len();
        are_all_known
            && live.all(|(id, rule)| {
                self.numbers.get(id).is_some_and(|number| {
                    let now = plan_outputs(rule, 0, state);
                    *self.compiler.rule(*number) == rule.input.table_rule()
                        && self.has_outputs(*number, now)
                })
            })
    }

    fn has_outputs(&self, number: u32, now: impl Iterator<Item = PlanOutput>) -> bool {
        let Range { start, end } = self.rules[number as usize].outputs;
        let share = &self.outputs[0][number as usize / SHARE_RULES];
        let carrier = |output: &PlanOutput| output.carrier.as_ref().map(Arc::as_ptr);
        let xdp = |output: &PlanOutput| output.xdp.as_ref().map(Arc::as_ptr);
        let key = |output: &PlanOutput| {
            let parts = (carrier(output), xdp(output));
            (output.slot, output.max_segment, output.burst, parts)
        };
        let known = &share[start as usize..end as usize];
        let now: Vec<PlanOutput> = now.collect();
        let is_same = |(one, other): (&PlanOutput, &PlanOutput)| {
            let (own, others) = (one.buckets.as_deref(), other.buckets.as_deref());
            key(one) == key(other) && OutputBuckets::are_same(own, others)
        };
        now.len() == known.len() && now.iter().zip(known).all(is_same)
    }

    fn build_plans(&mut self, state: &State, owners: &SlotChanges, new: &[NewMerger]) -> Vec<Plan> {
        let has_merges = self.rules.iter().any(|rule| rule.merge.is_some());
        let mergers = |worker: u16| {
            let new = new.iter().filter(move |new| new.engine == worker);
            new.map(|new| (new.slot, Some(Box::new(Merger::new(new.by))))).collect()
        };
        let table = self.compiler.table();
        let rules: Arc<[PlanRule]> = self.rules.as_slice().into();
        let groups: Arc<[u32]> = self.groups.as_slice().into();
        let plan = |(worker, outputs): (u16, &Vec<Arc<[PlanOutput]>>)| Plan {
            sources: state.inputs.sources(worker),
            table: table.clone(),
            rules: rules.clone(),
            outputs: outputs.as_slice().into(),
            has_limits: !self.limited.is_empty(),
            links: state.xdp_links.of_worker(worker),
            groups: groups.clone(),
            taps: state.taps.plan(worker, &self.ids, &state.rules),
            mergers: mergers(worker),
            has_merges,
            grants: owners.granted.clone(),
            released: owners.released.clone(),
        };
        (0..).zip(&self.outputs).map(plan).collect()
    }
}

/// The outputs of a rule in the plan of one worker.
fn plan_outputs(rule: &LiveRule, worker: u16, state: &State) -> impl Iterator<Item = PlanOutput> {
    rule.outputs.iter().map(move |output| {
        let class = state.shaping.class_share(&output.interface, rule.class.as_deref());
        output.plan(worker, &state.stand_in, class)
    })
}

impl DisabledRules {
    /// Updates the table for the rules that were touched; returns whether it has changed.
    fn refresh(&mut self, touched: &BTreeSet<RuleId>, state: &State) -> bool {
        let mut has_changed = false;
        for id in touched {
            if let Some(number) = self.numbers.remove(id) {
                self.compiler.remove(number);
                has_changed = true;
            }
            let rule = state.rules.get(id);
            if let Some(rule) = rule.filter(|rule| !rule.enabled && rule.waiting.is_none()) {
                self.numbers.insert(id.clone(), self.compiler.add(rule.input.table_rule()));
                has_changed = true;
            }
        }
        has_changed
    }

    fn table(&mut self) -> Option<Arc<Table>> {
        (!self.numbers.is_empty()).then(|| self.compiler.table())
    }
}

/// The other inputs of merging rules of which one was touched.
fn merged_with(touched: &BTreeSet<RuleId>, state: &State) -> Vec<RuleId> {
    let is_merged = |id: &&RuleId| {
        let head = rule_of_leg(id);
        head != &***id || state.rules.get(head).is_some_and(|rule| rule.merge.is_some())
    };
    let merged = touched.iter().filter(is_merged);
    let legs =
        merged.flat_map(|id| (0_u8..).take(MAX_LEGS).map(|leg| leg_id(rule_of_leg(id), leg)));
    legs.filter_map(|leg| Some(state.rules.get_key_value(leg.as_str())?.0.clone())).collect()
}

/// A merging rule that has got a slot: it begins without datagrams.
struct NewMerger {
    slot: u32,
    by: MergeSpec,
    /// Where its inputs meet.
    engine: u16,
}

/// The merging rules of this process that have got a slot.
fn new_merges(touched: &BTreeSet<RuleId>, state: &State, owners: &SlotChanges) -> Vec<NewMerger> {
    let is_new = |rule: &&LiveRule| owners.granted.iter().any(|grant| grant.slot == rule.slot);
    let rules = touched.iter().filter_map(|id| state.rules.get(id)).filter(is_new);
    let new = rules.filter_map(|rule| {
        let (by, _) = rule.merge.filter(|(_, leg)| *leg == 0)?;
        Some(NewMerger { slot: rule.slot.index, by, engine: rule.home?.engine? })
    });
    new.collect()
}
