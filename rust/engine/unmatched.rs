//! Buffers that match no rule as they arrived: most are given back, some are finished first.

use std::io;

use super::Engine;
use super::counts;
use super::lanes::Lanes;
use super::mergers::is_merged;
use crate::sys::buffers::Buffer;

impl Engine {
    /// Gives back a buffer that matches no rule, unless it must be finished first.
    #[inline(never)]
    pub(super) fn handle_unmatched(&mut self, token: u32, buffer: Buffer) -> io::Result<()> {
        let Self { ring, plan, intake, window, egress, counters, loops, .. } = self;
        if let Some(taps) = &mut egress.taps
            && let Some(source) = intake.source(token)
        {
            taps.note_discarded(ring.bytes(&buffer), source, plan);
        }
        if !intake.awaits_finish() {
            ring.give_back(buffer);
            return Ok(());
        }
        if !ring.has_scratch() {
            egress.send_window(ring, window, plan, counters)?;
            window.drain().for_each(|buffer| ring.give_back(buffer));
        }
        let arrived_ns = intake.arrival_ns(token, ring.bytes(&buffer), counters.now_ms());
        let finished = intake.finish(token, buffer, ring, plan, counters);
        let Some((buffer, arrival, rules)) = finished else { return Ok(()) };
        let content = ring.bytes(&buffer);
        counts::observe(counters, plan, rules, (&arrival, content, arrived_ns));
        if loops.is_on() {
            counts::look_for_loops(loops, plan, rules, arrival, content);
        }
        if let Some(taps) = &mut egress.taps {
            taps.note_finished(
                intake.source(token),
                ring.bytes(&buffer),
                arrival,
                rules,
                window.len(),
            );
        }
        if is_merged(plan, rules) {
            let lanes = Lanes { ring, plan, window, egress, counters };
            let from = (intake.source(token), rules);
            return self.mergers.enter(lanes, buffer, &arrival, from);
        }
        Lanes { ring, plan, window, egress, counters }.enter(buffer, &arrival, rules)
    }
}
