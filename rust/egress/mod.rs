//! Sending: batches of a rule's datagrams to each of its outputs, in waves.
//!
//! One wave holds at most one batch of each rule, and is over before the next begins, so that a
//! batch that the kernel refuses can be split and repeated without anything overtaking it.
//! This module must not know where datagrams come from or who counts for whom.

mod batch;
mod limits;
mod outcome;

use std::io;
use std::os::fd::AsFd;

use batch::Batches;
pub(crate) use limits::Limits;
use outcome::Outcome;

use crate::plan::{Plan, PlanOutput};
use crate::stats::{self, Loss, Writer, output};
use crate::sys::messages::MAX_MESSAGES;
use crate::sys::ring::Ring;
use crate::window::Window;

/// One batch on its way to one output.
#[derive(Clone, Copy)]
struct Cursor {
    /// The output's index in the plan.
    output: usize,
    batch: u32,
    /// Datagrams of the batch that are done with.
    done: u32,
    /// Datagrams in the send that is under way.
    chunk: u32,
    /// Whether the send before answered for an earlier one, and this is its repetition.
    repeated: bool,
}

/// The sending side of an engine.
pub(crate) struct Egress {
    batches: Batches,
    cursors: Vec<Cursor>,
    /// What each output's link has refused, by the output's slot.
    limits: Box<[Limits]>,
}

impl Egress {
    pub(crate) fn new(slots: usize) -> Self {
        let limits = vec![Limits::default(); slots].into();
        Self { batches: Batches::new(), cursors: Vec::new(), limits }
    }

    /// Makes room, so that nothing is allocated while datagrams flow, and forgets what was
    /// learnt of outputs that are new.
    pub(crate) fn adopt(&mut self, plan: &Plan) {
        self.batches.reserve(plan.rules.len());
        self.cursors.reserve(plan.outputs.len());
        for reset in &plan.resets {
            self.limits[reset.index as usize] = Limits::default();
        }
        for output in &plan.outputs {
            self.limits[output.slot.index as usize].start(output.max_segment);
        }
    }

    /// Sends every datagram that the window's rules took, and counts what became of it.
    ///
    /// # Errors
    /// The ring's; a datagram makes none.
    pub(crate) fn send_window(
        &mut self,
        ring: &mut Ring,
        window: &mut Window,
        plan: &Plan,
        counters: &mut Writer,
    ) -> io::Result<()> {
        while !window.active().is_empty() {
            self.gather(window, plan, counters);
            while !self.cursors.is_empty() {
                self.queue(ring, window, plan)?;
                self.settle(ring, plan, counters)?;
            }
            self.batches.clear();
        }
        Ok(())
    }

    /// Takes the next batch of every rule, for each of its outputs that has a carrier: without
    /// one the kernel would lose the copies and report success.
    fn gather(&mut self, window: &mut Window, plan: &Plan, counters: &mut Writer) {
        for position in 0..window.active().len() {
            let rule = window.active()[position];
            let Some(batch) = self.batches.take(window, rule) else { continue };
            let datagrams = self.batches.datagrams(batch);
            let outputs = plan.rules[rule as usize].outputs.clone();
            for (index, target) in (outputs.start..).zip(&plan.outputs[outputs.clone()]) {
                let words = counters.slot(target.slot.index);
                words[output::WANTED] += u64::from(datagrams);
                if !target.has_carrier() {
                    words[output::DROPPED + Loss::NoCarrier as usize] += u64::from(datagrams);
                    continue;
                }
                let cursor = Cursor { output: index, batch, done: 0, chunk: 0, repeated: false };
                self.cursors.push(cursor);
            }
        }
        window.retire_finished();
    }

    /// Queues the next send of as many cursors as the ring has room for.
    fn queue(&mut self, ring: &mut Ring, window: &Window, plan: &Plan) -> io::Result<()> {
        self.batches.forget_messages();
        for (token, cursor) in (0..).zip(self.cursors.iter_mut().take(MAX_MESSAGES)) {
            let target = &plan.outputs[cursor.output];
            let limits = self.limits[target.slot.index as usize];
            let made = self.batches.message(ring, window, cursor.batch, cursor.done, limits);
            let Some((message, chunk)) = made else { break };
            cursor.chunk = chunk;
            ring.send(target.fd.as_fd(), message, token)?;
        }
        Ok(())
    }

    /// Awaits the sends that are under way and counts each; cursors with datagrams left stay.
    fn settle(&mut self, ring: &mut Ring, plan: &Plan, counters: &mut Writer) -> io::Result<()> {
        let Self { batches, cursors, limits } = self;
        ring.finish_wave(|token, result| {
            let cursor = &mut cursors[token as usize];
            let target = &plan.outputs[cursor.output];
            let segment = batches.segment(cursor.batch);
            let learnt = &mut limits[target.slot.index as usize];
            let outcome = outcome::judge(result, cursor.chunk, segment, cursor.repeated, learnt);
            account(cursor, target, outcome, counters);
        })?;
        cursors.retain(|cursor| cursor.done < batches.datagrams(cursor.batch));
        Ok(())
    }
}

/// Counts what became of a cursor's chunk, and moves on unless it is to be sent again.
fn account(cursor: &mut Cursor, target: &PlanOutput, outcome: Outcome, counters: &mut Writer) {
    let copies = u64::from(cursor.chunk);
    let words = counters.slot(target.slot.index);
    match outcome {
        Outcome::Sent { bytes } => {
            words[output::SENT] += copies;
            words[output::SENT_BYTES] += u64::from(bytes);
            words[output::REFUSED] += u64::from(cursor.repeated);
        }
        Outcome::Again { repeated } => {
            cursor.repeated = repeated;
            cursor.chunk = 0;
            return;
        }
        Outcome::Lost(loss) => words[output::DROPPED + loss as usize] += copies,
        Outcome::Failed { errno } => stats::count_send_error(words, u64::from(errno), copies),
    }
    cursor.done += cursor.chunk;
    cursor.chunk = 0;
    cursor.repeated = false;
}
