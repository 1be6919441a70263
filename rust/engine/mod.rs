//! The hot thread: one io_uring, served in turns.
//!
//! A turn receives everything that has arrived, sends it, counts it, and gives the buffers back.
//! Batches form by themselves under load, and a lone datagram leaves at once: there is no timer.
//! The engine gets open sockets and a compiled table; it opens nothing, and nothing on the path of
//! a datagram allocates, locks, logs or calls Python.

pub mod buffers;
mod clocks;
mod counts;
mod egress;
mod entry_pieces;
mod held;
pub mod ingress;
mod intake;
pub mod interface_limiter;
mod lanes;
pub mod limiter;
mod listener;
mod loops;
mod mergers;
mod packet_rings;
pub mod plan;
pub mod rewrite;
pub mod tap;
mod time_stamps;
mod unmatched;
pub(crate) mod window;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use crate::engine::clocks::{clocks, coarse_clock_ms};
use crate::engine::egress::Egress;
use crate::engine::lanes::Lanes;
use crate::engine::loops::LoopWatch;
use crate::engine::mergers::{Mergers, is_merged};
use crate::engine::plan::Plan;
use crate::engine::window::Window;
use crate::stats::{MAX_SLOTS, Writer};
use crate::sys::buffers::Buffer;
use crate::sys::memory::SharedWords;
pub use crate::sys::ring::FreshRing;
use crate::sys::ring::{Ring, RingEvent};
use intake::Intake;

/// A command from the cold side.
pub enum EngineCommand {
    /// Use this plan from now on; the reply is the plan that it replaces.
    Adopt(Box<Plan>),
    /// Answer once everything that had arrived is sent.
    Drain(Sender<()>),
    /// Send what has been received, then end.
    Stop,
}

/// The engine's connection to the cold side, and its settings.
pub struct EngineChannels {
    /// The commands.
    pub commands: Receiver<EngineCommand>,
    /// Returns plans that are out of use, to be freed in another thread together with the sockets
    /// that no later plan has: one plan once the engine runs, then one for each [`EngineCommand::Adopt`].
    pub retired: Sender<Box<Plan>>,
    /// An eventfd that is written after each command.
    pub wake: Arc<OwnedFd>,
    /// Counts the turns in which `wake` was read.
    pub woken: Arc<AtomicU64>,
    /// The counter page; this engine is its only writer.
    pub page: Arc<SharedWords>,
    /// Bytes for all receive buffers together.
    pub buffer_bytes: usize,
    /// Whether datagrams with a wrong UDP checksum are dropped.
    pub verify_checksums: bool,
    /// Whether the flows of rules are counted.
    pub flows: bool,
    /// Whether the latency of rules is measured.
    pub latency: bool,
}

/// The number of datagrams that one check of the ring must deliver to make another check worth a
/// system call.
const BUSY: usize = 16;

/// The most turns that the end of all receives may take: far more than the kernel needs.
const MOST_CLOSING_TURNS: u32 = 5000;
const CLOSING_TURN_US: u32 = 200;

/// Runs an engine in the calling thread until it receives [`EngineCommand::Stop`].
///
/// # Errors
/// io_uring is refused, or there is no memory; later, only errors that make it impossible to
/// continue.
pub fn run(plan: Box<Plan>, ring: FreshRing, channels: EngineChannels) -> io::Result<()> {
    Engine::new(plan, ring, channels)?.work()
}

struct Engine {
    ring: Ring,
    plan: Box<Plan>,
    /// The previous plan, until the kernel has released its sockets.
    replaced: Option<Box<Plan>>,
    intake: Intake,
    window: Window,
    egress: Egress,
    counters: Writer,
    loops: LoopWatch,
    mergers: Mergers,
    /// The answer to the last [`EngineCommand::Drain`].
    drained: Option<Sender<()>>,
    /// Whether flows are counted, latency is measured, there is a tap or a merging rule, or loops are
    /// looked for now.
    observes: bool,
    channels: EngineChannels,
}

impl Engine {
    fn new(first: Box<Plan>, ring: FreshRing, channels: EngineChannels) -> io::Result<Self> {
        let mut ring = Ring::begin(ring)?;
        ring.watch(channels.wake.as_fd())?;
        let mut counters = Writer::new(channels.page.clone());
        if channels.flows {
            counters.count_flows();
        }
        if channels.latency {
            counters.measure_latency();
        }
        let intake =
            Intake::new(channels.buffer_bytes, channels.verify_checksums, channels.latency);
        let egress = Egress::new(MAX_SLOTS as usize);
        let plan = Box::new(Plan::empty());
        let mut engine = Self {
            ring,
            plan,
            replaced: None,
            intake,
            window: Window::new(),
            egress,
            counters,
            loops: LoopWatch::new(RandomState::new().hash_one(0)),
            mergers: Mergers::default(),
            drained: None,
            observes: channels.flows || channels.latency,
            channels,
        };
        engine.adopt(first)?;
        Ok(engine)
    }

    /// Runs all turns.
    // A separate function in every build, so that a profiler can count its instructions without
    // those of setup and cleanup.
    #[inline(never)]
    fn work(&mut self) -> io::Result<()> {
        while self.turn()? {}
        self.finish()
    }

    /// Runs one turn; false if it was the last.
    fn turn(&mut self) -> io::Result<bool> {
        if self.intake.has_frames(&self.ring) || self.drained.is_some() {
            self.ring.poll()?;
        } else {
            self.intake.watch_rings(&mut self.ring)?;
            match self.rest_us() {
                Some(rest_us) => self.ring.wait_for(rest_us)?,
                None => self.ring.wait()?,
            }
        }
        let Reaped { woken, is_all } = self.reap()?;
        self.relay()?;
        self.retire();
        let waits = self.egress.has_waiting() || self.mergers.has_held();
        if self.drained.is_some() && is_all && !waits {
            // The receiver is gone if it has waited for too long.
            self.drained.take().map(|answer| answer.send(()));
        }
        if woken { self.run_commands() } else { Ok(true) }
    }

    /// Receives everything that has arrived.
    fn reap(&mut self) -> io::Result<Reaped> {
        let now_ms = coarse_clock_ms();
        self.counters.set_time(now_ms);
        if self.loops.is_due(now_ms) {
            self.loops.switch(now_ms, |looped| counts::count_looped(&mut self.counters, looped));
            self.choose_path();
        }
        if self.channels.flows {
            self.counters.set_clocks(clocks());
        }
        if self.plan.has_merges {
            self.mergers.set_time(clocks().monotonic_ns, &self.counters);
        }
        let mut woken = false;
        let mut is_all = true;
        loop {
            let before = self.window.len();
            let mut events = 0;
            while let Some(event) = self.ring.next_event() {
                events += 1;
                match event {
                    RingEvent::Woken => woken = true,
                    RingEvent::Ended { token, errno } => {
                        // More may wait in the socket.
                        is_all = false;
                        self.intake.ended(token, errno, &mut self.counters);
                    }
                    RingEvent::Readable { token, failed } => {
                        self.intake.readable(token, failed, &mut self.counters);
                    }
                    RingEvent::NotCancelled { token } => {
                        self.intake.cancel_again(token, &mut self.ring)?;
                    }
                    RingEvent::Received { token, buffer, armed } => {
                        self.handle_received(token, buffer, armed)?;
                    }
                }
            }
            if self.window.len() - before < BUSY {
                is_all &= events < BUSY;
                break;
            }
            self.ring.poll()?;
        }
        is_all &= self.take_slots()?;
        Ok(Reaped { woken, is_all })
    }

    /// Receives the frames in the packet rings, a turn's share of each; returns whether these were
    /// all.
    fn take_slots(&mut self) -> io::Result<bool> {
        let before = self.window.len();
        let mut are_all = true;
        for number in 0..self.intake.rings() {
            let mut left = packet_rings::TURN_FRAMES;
            while left > 0 {
                let Some((token, buffer)) = self.intake.take_slot(number, &mut self.ring) else {
                    break;
                };
                self.handle_received(token, buffer, true)?;
                left -= 1;
            }
            are_all &= left > 0;
        }
        self.intake.note_pace(self.window.len() - before);
        Ok(are_all)
    }

    #[inline(always)]
    fn handle_received(&mut self, token: u32, buffer: Buffer, armed: bool) -> io::Result<()> {
        if self.observes {
            self.handle::<true>(token, buffer, armed)
        } else {
            self.handle::<false>(token, buffer, armed)
        }
    }

    // A function for each case, so that a relay that observes nothing has nothing of that on its
    // path.
    #[inline(never)]
    fn handle<const OBSERVED: bool>(
        &mut self,
        token: u32,
        buffer: Buffer,
        armed: bool,
    ) -> io::Result<()> {
        if OBSERVED && self.plan.has_merges {
            self.make_room_for_parts()?;
        }
        let Self { ring, plan, intake, window, egress, counters, loops, .. } = self;
        let bytes = ring.bytes(&buffer);
        let read = intake.read(token, bytes, plan, counters);
        if !armed {
            intake.disarmed(token);
        }
        let Some((arrival, rules)) = read else { return self.handle_unmatched(token, buffer) };
        if OBSERVED {
            let arrived_ns = intake.arrival_ns(token, bytes, counters.now_ms());
            counts::observe(counters, plan, rules, (&arrival, bytes, arrived_ns));
            if loops.is_on() {
                counts::look_for_loops(loops, plan, rules, arrival, bytes);
            }
            // Else flows and latency would pay for what a tap asks.
            if egress.taps.is_some() {
                egress.note_received(intake.source(token), bytes, plan, window.len());
            }
            if is_merged(plan, rules) {
                let lanes = Lanes { ring, plan, window, egress, counters };
                let from = (intake.source(token), rules);
                // A copy, so that other arrivals stay in registers.
                return self.mergers.enter(lanes, buffer, &{ arrival }, from);
            }
        }
        Lanes { ring, plan, window, egress, counters }.enter(buffer, &arrival, rules)
    }

    /// Sends what was received, gives the buffers back, arms the listeners, and publishes the
    /// counters.
    fn relay(&mut self) -> io::Result<()> {
        if self.plan.has_merges {
            self.release_held()?;
        }
        let Self { ring, window, plan, egress, counters, mergers, .. } = self;
        egress.send_window(ring, window, plan, counters)?;
        counters.measure(clocks);
        for buffer in window.drain() {
            ring.give_back(buffer);
        }
        if plan.has_merges {
            mergers.reclaim();
        }
        ring.offer_buffers();
        self.intake.listen(ring)?;
        counters.publish();
        Ok(())
    }

    /// Runs the waiting commands; false if one of them is to stop.
    fn run_commands(&mut self) -> io::Result<bool> {
        self.ring.watch(self.channels.wake.as_fd())?;
        self.channels.woken.fetch_add(1, Ordering::Relaxed);
        while let Ok(command) = self.channels.commands.try_recv() {
            match command {
                EngineCommand::Stop => return Ok(false),
                EngineCommand::Adopt(plan) => self.adopt(plan)?,
                EngineCommand::Drain(answer) => self.drained = Some(answer),
            }
        }
        Ok(true)
    }

    /// Switches to a new plan, and returns the previous one to be freed in another thread.
    fn adopt(&mut self, mut plan: Box<Plan>) -> io::Result<()> {
        if self.mergers.has_held() {
            self.mergers.expire_changed(&self.plan, &plan);
            self.relay()?;
        }
        let plans = (&*self.plan, &*plan);
        self.egress.settle(&mut self.ring, plans, &mut self.counters)?;
        for released in &plan.released {
            self.counters.release(*released);
            self.loops.forget(released.index);
        }
        for grant in &plan.grants {
            self.counters.grant(grant);
        }
        self.mergers.adopt(&mut plan, &mut self.ring, &mut self.counters)?;
        self.intake.adopt(&plan.sources, &mut self.ring)?;
        self.window.resize(self.intake.most_datagrams(), plan.rules.len());
        self.egress.adopt(&plan, &self.plan);
        self.egress.set_queues(&plan, &mut self.ring)?;
        let entries = self.intake.most_datagrams();
        self.egress.set_taps(plan.taps.as_ref(), entries, self.channels.verify_checksums);
        self.mergers.forget_noted();
        if plan.has_merges {
            self.window.reserve_parts(entries);
        }
        self.counters.publish();
        self.retire_at_once();
        self.replaced = Some(std::mem::replace(&mut self.plan, plan));
        self.choose_path();
        self.retire();
        Ok(())
    }

    /// Chooses the path of datagrams: the one that observes them, if anything asks for it.
    fn choose_path(&mut self) {
        let EngineChannels { flows, latency, .. } = self.channels;
        let Plan { taps, has_merges, .. } = &*self.plan;
        self.observes = flows || latency || taps.is_some() || *has_merges || self.loops.is_on();
    }

    /// Returns the previous plan once nothing of it is in use. Not earlier: the last reference to a
    /// socket closes it, and closing an AF_PACKET socket waits many milliseconds in the kernel
    /// until no processor looks at it any more.
    fn retire(&mut self) {
        if !self.intake.is_closing() {
            self.retire_at_once();
        }
    }

    fn retire_at_once(&mut self) {
        if let Some(plan) = self.replaced.take() {
            // The receiver is gone only when no reply is expected any more.
            self.channels.retired.send(plan).ok();
        }
    }

    /// Relays what had arrived before the end, but no more, however much arrives meanwhile.
    fn finish(&mut self) -> io::Result<()> {
        for _ in 0..=self.intake.slots() / packet_rings::TURN_FRAMES {
            self.reap()?;
            self.relay()?;
        }
        self.end_reception()?;
        self.mergers.expire_all();
        self.relay()?;
        self.egress.finish(&mut self.ring, &self.plan, &mut self.counters)?;
        self.counters.publish();
        Ok(())
    }

    /// Ends all receives, and relays what the kernel takes out of the sockets until they have
    /// ended. What it has not taken stays in the sockets, for a process that continues.
    fn end_reception(&mut self) -> io::Result<()> {
        self.intake.adopt(&[], &mut self.ring)?;
        let mut turns = 0;
        while self.intake.is_closing() && turns < MOST_CLOSING_TURNS {
            turns += 1;
            self.ring.wait_for(CLOSING_TURN_US)?;
            self.reap()?;
            self.relay()?;
        }
        Ok(())
    }
}

/// What a turn has received.
struct Reaped {
    /// Whether a command waits.
    woken: bool,
    /// Whether nothing that had arrived before the turn is left.
    is_all: bool,
}

#[cfg(test)]
mod tests;
