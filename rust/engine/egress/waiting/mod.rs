//! Copies that wait until the rate of their output admits them.
//!
//! A queue takes the tokens of each copy that it accepts at once. So it is known from the start when
//! a copy leaves, and what would wait too long is refused. Copies that wait are in memory of their
//! own, since received buffers are few; when they are due they form a window, with a lane for each
//! output, and leave in batches like any others.

mod queue;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use hashbrown::HashMap;

use super::limited::OutputBatch;
use super::{Cursor, Egress};
use crate::engine::clocks::monotonic_clock_ns;
use crate::engine::plan::{Plan, PlanOutput, PlanRule};
use crate::engine::rewrite::Origin;
use crate::engine::tap::Noted;
use crate::engine::window::{MAX_FLOWS, Window, WindowEntry};
use crate::stats::{self, Loss, Writer, output};
use crate::sys::messages::Piece;
use crate::sys::ring::Ring;
use queue::OutputQueue;

/// The most copies that leave at once: each may be a flow of its own.
const MOST_COPIES: usize = MAX_FLOWS;
/// The shortest sleep in microseconds before copies leave, so that they leave in batches.
const LEAST_REST_US: u64 = 200;
/// How long before a paced copy leaves the engine stops sleeping: the system takes about as long to
/// wake it.
const POLLING_US: u64 = 60;
/// The longest sleep: another look at the time costs nothing then.
const MOST_REST_US: u64 = 100_000;

/// The queues of an engine's outputs.
pub(super) struct OutputQueues {
    queues: Vec<OutputQueue>,
    /// The number of each output's queue, by its counter slot.
    numbers: HashMap<u32, u16>,
    /// The queues in which copies wait, by the time at which the first of each leaves.
    due: BinaryHeap<Reverse<(u64, u16)>>,
    /// Whether copies of some output leave one by one.
    is_paced: bool,
    /// The copies that leave now, with a lane for each queue.
    window: Window,
    /// What taps need of these.
    noted: Vec<Noted>,
}

impl OutputQueues {
    /// The queues for a plan, of which those that are `known` continue; `None` if it has none.
    fn adopt(
        known: Option<Box<Self>>,
        plan: &Plan,
        ring: &mut Ring,
    ) -> io::Result<Option<Box<Self>>> {
        let known = known.into_iter().flat_map(|known| known.queues);
        let mut known: HashMap<u32, OutputQueue> = known.map(|it| (it.slot, it)).collect();
        let (mut queues, mut numbers) = (Vec::new(), HashMap::new());
        for (place, target) in queued(plan) {
            let Some(limiter) = target.limiter() else { continue };
            let queue = match known.remove(&target.slot.index) {
                Some(mut queue) if queue.fits(target) => {
                    queue.place = place;
                    queue
                }
                other => {
                    other.into_iter().for_each(|queue| ring.remove_store(queue.store));
                    OutputQueue::new(target, limiter, place, ring)?
                }
            };
            numbers.insert(queue.slot, u16::try_from(queues.len()).unwrap_or(u16::MAX));
            queues.push(queue);
        }
        known.into_values().for_each(|queue| ring.remove_store(queue.store));
        if queues.is_empty() {
            return Ok(None);
        }
        let mut window = Window::new();
        window.resize(MOST_COPIES, queues.len());
        let due = BinaryHeap::with_capacity(queues.len());
        let noted = Vec::with_capacity(MOST_COPIES);
        let is_paced = queues.iter().any(OutputQueue::is_paced);
        let mut waiting = Self { queues, numbers, due, is_paced, window, noted };
        waiting.sort();
        Ok(Some(Box::new(waiting)))
    }

    /// Lets all copies of these queues leave now.
    fn expire(&mut self, is_ending: impl Fn(&OutputQueue) -> bool) {
        for queue in self.queues.iter_mut().filter(|queue| is_ending(queue)) {
            queue.expire();
        }
        self.sort();
    }

    fn sort(&mut self) {
        self.due.clear();
        for (number, queue) in (0..).zip(&self.queues) {
            if let Some(due_ns) = queue.due_ns() {
                self.due.push(Reverse((due_ns, number)));
            }
        }
    }

    /// Moves the copies that are due at `now_ns` to the window, as many as it holds; false if there
    /// is none.
    fn fill_window(&mut self, ring: &Ring, now_ns: u64) -> bool {
        let Self { queues, due, window, noted, .. } = self;
        noted.clear();
        while window.len() < MOST_COPIES
            && let Some(&Reverse((first_ns, number))) = due.peek()
            && first_ns <= now_ns
        {
            due.pop();
            let queue = &mut queues[usize::from(number)];
            while let Some(due_ns) = queue.due_ns() {
                if due_ns > now_ns || window.len() == MOST_COPIES {
                    due.push(Reverse((due_ns, number)));
                    break;
                }
                let Some(copy) = queue.take(now_ns) else { break };
                let (ttl, dscp) = copy.origin.map_or((0, 0), |origin| (origin.ttl, origin.dscp));
                let (buffer, start, len) = (ring.stored(queue.store), copy.start, copy.len);
                let entry = WindowEntry::single(buffer, (start, len), ttl, dscp);
                let entry = window.push(entry);
                let is_linked = window.link_again(number.into(), copy.origin.as_ref(), entry);
                debug_assert!(is_linked, "the window has room for as many flows");
                noted.push(copy.noted.unwrap_or(Noted::NOTHING));
            }
        }
        window.len() > 0
    }
}

impl Egress {
    /// Prepares the queues of a plan's outputs; those of outputs in the previous plan continue.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn set_queues(&mut self, plan: &Plan, ring: &mut Ring) -> io::Result<()> {
        if self.waiting.is_some() || plan.has_limits {
            self.waiting = OutputQueues::adopt(self.waiting.take(), plan, ring)?;
        }
        Ok(())
    }

    /// Sends what waits for outputs that `next` leaves out, or gives other options.
    ///
    /// # Errors
    /// The ring's.
    pub(super) fn end_queues(
        &mut self,
        ring: &mut Ring,
        (plan, next): (&Plan, &Plan),
        counters: &mut Writer,
    ) -> io::Result<()> {
        let Some(waiting) = &mut self.waiting else { return Ok(()) };
        let outputs = queued(next).map(|(_, target)| (target.slot.index, target));
        let targets: HashMap<u32, &PlanOutput> = outputs.collect();
        waiting.expire(|queue| targets.get(&queue.slot).is_none_or(|target| !queue.fits(target)));
        self.send_due(ring, plan, counters)
    }

    /// Sends all that waits, before the end.
    ///
    /// # Errors
    /// The ring's.
    pub(super) fn empty_queues(
        &mut self,
        ring: &mut Ring,
        plan: &Plan,
        counters: &mut Writer,
    ) -> io::Result<()> {
        if let Some(waiting) = &mut self.waiting {
            waiting.expire(|_| true);
        }
        self.send_due(ring, plan, counters)
    }

    /// Whether copies wait for the rate of their output.
    pub(super) fn has_queued(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.due.is_empty())
    }

    /// How long until the next copies leave, in microseconds.
    pub(super) fn queue_rest_us(&self) -> Option<u64> {
        let waiting = self.waiting.as_ref()?;
        let Reverse((first_ns, _)) = *waiting.due.peek()?;
        let rest_us = first_ns.saturating_sub(monotonic_clock_ns()).div_ceil(1000);
        if waiting.is_paced {
            return Some(rest_us.saturating_sub(POLLING_US).min(MOST_REST_US));
        }
        Some(rest_us.clamp(LEAST_REST_US, MOST_REST_US))
    }

    /// The number of an output's queue, and whether copies wait in it.
    pub(super) fn queue_of(&self, slot: u32) -> Option<(u16, bool)> {
        let waiting = self.waiting.as_ref()?;
        let number = *waiting.numbers.get(&slot)?;
        Some((number, !waiting.queues[usize::from(number)].copies.is_empty()))
    }

    /// Forgets what taps need of the copies that wait, as other taps have begun.
    pub(super) fn forget_noted(&mut self) {
        let queues = self.waiting.iter_mut().flat_map(|waiting| &mut waiting.queues);
        queues.flat_map(|queue| &mut queue.copies).for_each(|copy| copy.noted = None);
    }

    /// Puts a datagram of a batch into a queue; false if there is no room, or if it would wait too
    /// long.
    pub(super) fn wait(
        &mut self,
        (ring, window): (&mut Ring, &Window),
        number: u16,
        (batch, datagram): (u32, u32),
        now_ns: u64,
        origin: Option<&Origin>,
    ) -> bool {
        let Some(waiting) = &mut self.waiting else { return false };
        let Some((entry, of_entry, payload)) = self.batches.find(window, batch, datagram) else {
            return false;
        };
        let noted = self.taps.as_ref().and_then(|taps| taps.noted(entry, of_entry));
        let entry = window.entry(entry);
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let piece = Piece { buffer: &entry.buffer, start: payload.start, len };
        let origin = origin.map(|origin| Origin { ttl: entry.ttl, dscp: entry.dscp, ..*origin });
        let queue = &mut waiting.queues[usize::from(number)];
        let is_accepted = queue.push(ring, now_ns, piece, origin, noted);
        if is_accepted
            && queue.copies.len() == 1
            && let Some(due_ns) = queue.due_ns()
        {
            waiting.due.push(Reverse((due_ns, number)));
        }
        is_accepted
    }

    /// Sends the copies that have waited long enough, before any that have arrived since.
    ///
    /// # Errors
    /// The ring's.
    pub(super) fn send_due(
        &mut self,
        ring: &mut Ring,
        plan: &Plan,
        counters: &mut Writer,
    ) -> io::Result<()> {
        let Some(mut waiting) = self.waiting.take_if(|waiting| !waiting.due.is_empty()) else {
            return Ok(());
        };
        let now_ns = monotonic_clock_ns();
        while waiting.fill_window(ring, now_ns) {
            if let Some(taps) = &mut self.taps {
                taps.exchange(&mut waiting.noted);
            }
            while !waiting.window.active().is_empty() {
                self.gather_due(ring, &mut waiting, plan, counters);
                while !self.cursors.is_empty() {
                    self.queue(ring, &waiting.window, plan, false)?;
                    self.await_sends::<false>(ring, &waiting.window, plan, counters)?;
                }
                self.batches.clear();
            }
            if let Some(taps) = &mut self.taps {
                taps.exchange(&mut waiting.noted);
            }
            waiting.window.forget_flows();
            waiting.window.drain().for_each(drop);
        }
        self.waiting = Some(waiting);
        Ok(())
    }

    /// Takes the next batch of each lane, as [`Egress::gather`] does. What no copy could carry never
    /// waits.
    fn gather_due(
        &mut self,
        ring: &Ring,
        waiting: &mut OutputQueues,
        plan: &Plan,
        counters: &mut Writer,
    ) {
        let OutputQueues { queues, window, .. } = waiting;
        for position in 0..window.active().len() {
            if self.cursors.len() == self.cursors.capacity() {
                break;
            }
            let lane = window.active()[position];
            let (rule, output) = queues[window.rule(lane) as usize].place;
            let target = &plan.share(rule)[output as usize];
            let PlanRule { kept, .. } = &plan.rules[rule as usize];
            let Some(batch) = self.batches.take(window, lane, kept.as_ref()) else { continue };
            let datagrams = u64::from(self.batches.datagrams(batch));
            let now_ms = counters.now_ms();
            let words = counters.slot(target.slot.index);
            words[output::WAITING] = words[output::WAITING].saturating_sub(datagrams);
            if target.has_carrier() {
                let of = OutputBatch { rule, output, batch, origin: None };
                // The rate of the interface holds for what leaves now, not for what has arrived.
                let admitted = self.admit_to_interface((ring, &*window), plan, &of, counters);
                if let Some(batch) = admitted {
                    self.cursors.push(Cursor::new(rule, output, target, batch));
                }
                continue;
            }
            stats::count_loss(words, Loss::NoCarrier, datagrams, now_ms);
            let (batches, loss) = (batch..batch + 1, (Loss::NoCarrier, 0));
            self.record_unsent((ring, &*window), plan, (rule, output), batches, loss);
        }
        window.retire_finished();
    }
}

/// The outputs of a plan in which copies may wait, each with its rule's number and its position in
/// the share.
fn queued(plan: &Plan) -> impl Iterator<Item = ((u32, u32), &PlanOutput)> {
    let rules = (0..).zip(plan.rules.iter()).filter(|_| plan.has_limits);
    let outputs = rules.flat_map(|(rule, PlanRule { outputs, .. })| {
        let range = outputs.start as usize..outputs.end as usize;
        let targets = plan.share(rule).get(range).unwrap_or_default();
        outputs.clone().zip(targets).map(move |(output, target)| ((rule, output), target))
    });
    outputs.filter(|(_, target)| target.limiter().is_some_and(|limiter| limiter.has_queue()))
}
