//! Reads the kernel's counters, and publishes what the kernel has relayed beside the counters of the
//! engines.

use std::time::Instant;

use super::kernel_relay::{InheritedRule, KernelRelay, RetiringRule};
use super::totals::{FLIGHT, QUEUE_FLIGHT, RuleTotals};
use crate::offload::{KernelTable, OutputCounters, RuleCounters, Volume};
use crate::relay::counters::report::now_ms;
use crate::relay::counters::slots::SlotAllocator;
use crate::relay::live::LiveRule;
use crate::relay::state::State;
use crate::stats::kernel::{KernelInterfaceCounts, KernelOutputCounts, KernelRuleCounts};

impl State {
    /// Reads what the kernel has relayed, for readers of the pages.
    pub(in crate::relay) fn publish_kernel_counts(&mut self) {
        if !self.kernel.is_wanted() {
            return;
        }
        self.kernel.count_retiring();
        let names = self.inputs.interfaces().map(|interface| interface.name.clone());
        let mut relayed: Vec<(String, Volume)> =
            names.map(|name| (name, Volume::default())).collect();
        for rule in self.rules.values() {
            let matched = self.kernel.publish_rule(rule, &self.slots);
            let place = relayed.iter_mut().find(|(name, _)| *name == rule.input.interface);
            place.into_iter().for_each(|(_, sum)| *sum = sum.plus(matched));
        }
        for (interface, (name, sum)) in self.inputs.interfaces().zip(relayed) {
            let base = self.kernel.interfaces.get(&name).copied().unwrap_or_default();
            let Volume { datagrams: relayed, bytes: relayed_bytes } = base.plus(sum);
            let base = [base.datagrams, base.bytes];
            let counts = KernelInterfaceCounts { relayed, relayed_bytes, base };
            self.slots.set_kernel(interface.slot, &counts.to_words());
        }
    }
}

impl KernelRelay {
    /// Publishes the counts of a rule; returns what its present place has matched.
    fn publish_rule(&mut self, rule: &LiveRule, slots: &SlotAllocator) -> Volume {
        let way = self.way(&rule.id).to_word();
        let totals = self.totals.entry(rule.id.clone());
        let totals = totals.or_insert_with(|| RuleTotals::new(rule.outputs.len()));
        let (now, mut counters) = (Instant::now(), RuleCounters::default());
        let (mut lost, mut place) = (vec![[0; 2]; rule.outputs.len()], 0);
        let mut positions = vec![0; rule.outputs.len()];
        if let (Some(table), Some(placed)) = (&self.table, self.placed.get_mut(&rule.id)) {
            if let Ok(read) = table.counters(placed.key) {
                placed.lost.update(&read, now);
                let overflowed = placed.lost.overflowed;
                lost = placed.lost.lost.iter().map(|lost| [overflowed, *lost]).collect();
                counters = read;
            }
            if let Some((id, order)) = table.place_id(placed.key) {
                place = id;
                positions = order.iter().map(|at| u64::from(*at) + 1).collect();
            }
        }
        totals.note_last(&counters);
        let matched = counters.matched;
        slots.set_kernel(rule.slot, &totals.rule(&counters, place, way).to_words());
        for (at, output) in rule.outputs.iter().enumerate() {
            let retiring = self.retiring.iter().filter(|one| one.id.as_ref() == Some(&rule.id));
            let waiting = retiring.map(|one| one.unhanded(at)).sum();
            let counts = totals.output(at, &counters, lost[at], waiting);
            let counts = totals.dated(at, counts, now_ms());
            let position = positions.get(at).copied().unwrap_or(0);
            let counts = KernelOutputCounts { position, ..counts };
            slots.set_kernel(output.slot, &counts.to_words());
        }
        matched
    }

    /// Continues the counts that an earlier process has left of a rule; returns whether the kernel
    /// relays it since then.
    pub(super) fn resume(
        &mut self,
        rule: &LiveRule,
        counts: &KernelRuleCounts,
        outputs: &[KernelOutputCounts],
    ) -> bool {
        let has_place = counts.place != 0 && self.load().is_ok();
        let inherited = self.table.iter().flat_map(KernelTable::inherited_ids);
        let relays = has_place && inherited.into_iter().any(|place| place == counts.place);
        let counted = if relays { *counts } else { KernelRuleCounts { place: 0, ..*counts } };
        self.totals.insert(rule.id.clone(), RuleTotals::resumed(&counted, outputs));
        if relays {
            let order = outputs.iter().map(|output| output.position).collect();
            let (id, interface) = (rule.id.clone(), rule.input.interface.clone());
            self.inherited.insert(counts.place, InheritedRule { id, interface, order });
        }
        relays
    }

    /// Adds what rules without a place have counted since the last call, and frees those whose
    /// copies have all left.
    pub(super) fn count_retiring(&mut self) {
        let Some(table) = &mut self.table else { return };
        let now = Instant::now();
        let mut left = Vec::with_capacity(self.retiring.len());
        for mut one in std::mem::take(&mut self.retiring) {
            let mut is_final = true;
            if let Ok(read) = table.retired_counters(&one.retired) {
                let read = one.in_order(read);
                let interface = self.interfaces.entry(one.interface.clone()).or_default();
                *interface = interface.plus(read.matched.without(one.counted.matched));
                let totals = one.id.as_ref().and_then(|id| self.totals.get_mut(id));
                let age = now.duration_since(one.since);
                is_final = age >= QUEUE_FLIGHT || age >= FLIGHT && read.is_copied();
                if let Some(totals) = totals {
                    totals.add(&read, &one.counted);
                    totals.note_last(&read);
                    if is_final {
                        totals.add_lost(&read);
                    }
                }
                one.counted = read;
            }
            if is_final {
                table.free(one.retired);
            } else {
                left.push(one);
            }
        }
        self.retiring = left;
    }
}

impl RetiringRule {
    /// Copies for an output that may still be on their way.
    fn unhanded(&self, output: usize) -> u64 {
        let handed = self.counted.outputs.get(output).map(|it| it.handed).unwrap_or_default();
        self.counted.matched.without(handed).datagrams
    }

    /// Counters with the outputs in the order of the rule.
    fn in_order(&self, read: RuleCounters) -> RuleCounters {
        let Some(order) = &self.order else { return read };
        let at = |position: &u64| usize::try_from(position.wrapping_sub(1)).unwrap_or(usize::MAX);
        let none = OutputCounters::default();
        let outputs = order.iter().map(|position| *read.outputs.get(at(position)).unwrap_or(&none));
        RuleCounters { outputs: outputs.collect(), ..read }
    }
}
