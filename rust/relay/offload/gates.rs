//! How rules in the kernel move from and to the engine: their gates.

use std::time::Instant;

use super::drain;
use super::kernel_relay::{KernelRelay, PlacedRule};
use super::mode::OffloadMode;
use super::weighing::{MANY_OUTPUTS, Weighing};
use crate::offload::Mode;
use crate::relay::live::RuleId;

/// A count that no gate reaches.
const NEVER: u64 = u64::MAX;

impl KernelRelay {
    /// Whether the engine relays a rule because it is faster.
    pub(super) fn is_for_engine(&self, id: &RuleId) -> bool {
        self.weighings.get(id).is_some_and(Weighing::is_for_engine)
    }

    /// Looks at the streams of all rules, and has those pass their gate that the engine relays
    /// faster. What the engine no longer does waits for its gate to open.
    pub(super) fn weigh(&mut self) {
        let Some(table) = &mut self.table else { return };
        if self.mode == OffloadMode::Require {
            return;
        }
        let now = Instant::now();
        let many = |placed: &PlacedRule| placed.rule.outputs.len() >= MANY_OUTPUTS;
        let weighed = self.placed.iter_mut().filter(|(_, placed)| many(placed));
        for (id, placed) in weighed {
            let Ok(observed) = table.observed(placed.key) else { continue };
            let weighing = self.weighings.entry(id.clone()).or_default();
            if !weighing.look(observed, placed.rule.outputs.len(), now) {
                continue;
            }
            placed.attempts = 0;
            if weighing.is_for_engine() && !placed.is_gated {
                if placed.rule.cpu.is_some() {
                    drain::finish(table, &[placed.key]);
                }
                placed.is_gated = table.set_mode(placed.key, Mode::Gate).is_ok();
            }
        }
    }

    /// The rules that wait behind closed gates, with the frames that each has passed.
    pub(in crate::relay) fn gate_counts(&mut self) -> Vec<(RuleId, u64)> {
        let Some(table) = &self.table else { return Vec::new() };
        let weighings = &self.weighings;
        let waits = |id: &RuleId, placed: &PlacedRule| {
            placed.is_gated && !weighings.get(id).is_some_and(Weighing::is_for_engine)
        };
        let gated = self.placed.iter_mut().filter(|(id, placed)| waits(id, placed));
        let counts = gated.filter_map(|(id, placed)| {
            placed.attempts += 1;
            Some((id.clone(), table.gate_count(placed.key).ok()?))
        });
        counts.collect()
    }

    /// Opens gates for these counts; those that more frames have passed stay closed.
    pub(in crate::relay) fn open_gates(&mut self, counts: &[(RuleId, u64)]) {
        let Some(table) = &mut self.table else { return };
        for (id, count) in counts {
            if let Some(placed) = self.placed.get(id)
                && table.gate_count(placed.key).is_ok_and(|now| now == *count)
            {
                table.open_gate(placed.key, *count).ok();
            }
        }
    }

    /// Has rules whose gate has opened be relayed for good; closes the others again.
    pub(in crate::relay) fn finish_gates(&mut self, counts: &[(RuleId, u64)]) {
        let Some(table) = &mut self.table else { return };
        for (id, count) in counts {
            let Some(placed) = self.placed.get_mut(id) else { continue };
            if table.gate_count(placed.key).is_ok_and(|now| now == *count) {
                placed.is_gated = table.set_mode(placed.key, Mode::Relay).is_err();
            } else {
                table.open_gate(placed.key, NEVER).ok();
            }
        }
    }

    /// Whether a gate is to be tried again soon: at first most are, later streams without a pause
    /// are left.
    pub(in crate::relay) fn tries_soon(&self) -> bool {
        const SOON: u32 = 8;
        let is_new = |placed: &PlacedRule| placed.is_gated && placed.attempts < SOON;
        self.placed.iter().any(|(id, placed)| is_new(placed) && !self.is_for_engine(id))
    }
}
