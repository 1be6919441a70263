//! Copies for the taps of an engine: what has become of each.

use std::ops::Range;

use super::Egress;
use super::cursor::Cursor;
use crate::engine::plan::{Plan, Source};
use crate::engine::tap::CopyEvent;
use crate::engine::window::Window;
use crate::stats::Loss;
use crate::sys::ring::Ring;
use crate::tap::Step;

/// What has become of some copies of a batch.
pub(super) struct CopyOutcome {
    /// The rule's number, and the output's position in its share.
    pub(super) rule: u32,
    pub(super) output: u32,
    pub(super) batch: u32,
    pub(super) datagrams: Range<u32>,
    /// Why they are lost, with the kernel's error; `None` if they were sent.
    pub(super) loss: Option<(Loss, u32)>,
}

impl CopyOutcome {
    /// What has become of the datagrams that a cursor has handled since it had handled `done`.
    pub(super) fn since(done: u32, cursor: &Cursor, loss: Option<(Loss, u32)>) -> Self {
        let Cursor { rule, output, batch, .. } = *cursor;
        Self { rule, output, batch, datagrams: done..cursor.done, loss }
    }
}

impl Egress {
    /// Records a buffer that becomes entry `entry` of the window.
    // It reads the buffer again: else every datagram is kept in memory for it, recorded or not.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_received(
        &mut self,
        source: Option<&Source>,
        bytes: &[u8],
        plan: &Plan,
        entry: usize,
    ) {
        if let (Some(taps), Some(source)) = (&mut self.taps, source) {
            taps.note_received(source, bytes, plan, entry);
        }
    }

    /// Records that an output gets nothing of these batches.
    #[cold]
    pub(super) fn record_unsent(
        &mut self,
        view: (&Ring, &Window),
        plan: &Plan,
        (rule, output): (u32, u32),
        batches: Range<u32>,
        loss: (Loss, u32),
    ) {
        for batch in batches {
            let datagrams = 0..self.batches.datagrams(batch);
            let loss = Some(loss);
            self.record(view, plan, &CopyOutcome { rule, output, batch, datagrams, loss });
        }
    }

    /// Records what has become of the copies of a wave.
    #[cold]
    pub(super) fn record_outcomes(&mut self, view: (&Ring, &Window), plan: &Plan) {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        outcomes.iter().for_each(|outcome| self.record(view, plan, outcome));
        outcomes.clear();
        self.outcomes = outcomes;
    }

    /// Records what has become of some copies.
    pub(super) fn record(
        &mut self,
        (ring, window): (&Ring, &Window),
        plan: &Plan,
        outcome: &CopyOutcome,
    ) {
        let Some(taps) = &mut self.taps else { return };
        let CopyOutcome { rule, output, batch, ref datagrams, loss } = *outcome;
        let output = output - plan.rules[rule as usize].outputs.start;
        let (step, errno) = loss.map_or((Step::Sent, 0), |(loss, errno)| (Step::Lost(loss), errno));
        let event = CopyEvent { rule, output, step, errno };
        for number in datagrams.clone() {
            let Some((entry, number, payload)) = self.batches.find(window, batch, number) else {
                return;
            };
            let bytes = ring.bytes(&window.entry(entry).buffer);
            let payload = bytes.get(payload.start as usize..payload.end as usize);
            taps.record_copy(event, (entry, number), payload.unwrap_or_default());
        }
    }
}
