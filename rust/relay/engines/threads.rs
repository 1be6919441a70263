//! The engines' threads: starts and stops them, passes plans to them, and records their errors.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;

use super::placement::CpuPlacement;
use super::pulse::EnginePulse;
use super::rings::{self, EngineFailure, EngineRings};
use crate::engine::plan::Plan;
use crate::engine::{self, EngineChannels, EngineCommand};
use crate::error::{Error, Result};
use crate::relay::Settings;
use crate::sys::memory::SharedWords;
use crate::sys::ring::RingKind;

/// The time that an engine has to execute a command. A turn takes well under a millisecond; a host
/// on which it takes longer than this is not relaying either.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The threads of a relay's engines.
pub(in crate::relay) struct EngineThreads {
    settings: Settings,
    pages: Vec<Arc<SharedWords>>,
    phase: Mutex<Phase>,
    rings: Mutex<EngineRings>,
    exits: Arc<EngineExits>,
    /// The process that owns the threads; a fork copies this value, but no thread.
    process: u32,
}

enum Phase {
    /// Not started yet; the plans to start with.
    Prepared(Vec<Plan>),
    Running(Vec<EngineThread>),
    Stopped,
}

struct EngineThread {
    commands: Sender<EngineCommand>,
    retired: Receiver<Box<Plan>>,
    pulse: EnginePulse,
    thread: JoinHandle<()>,
}

/// The number of running engines, and the failure of the first one that failed.
struct EngineExits {
    state: Mutex<(usize, Option<EngineFailure>)>,
    changed: Condvar,
}

impl EngineThreads {
    /// One engine for each page.
    pub(in crate::relay) fn new(settings: Settings, pages: Vec<Arc<SharedWords>>) -> Self {
        let empty = (0..settings.workers).map(|_| Plan::empty()).collect();
        let exits = EngineExits { state: Mutex::new((0, None)), changed: Condvar::new() };
        Self {
            settings,
            pages,
            phase: Mutex::new(Phase::Prepared(empty)),
            rings: Mutex::default(),
            exits: Arc::new(exits),
            process: std::process::id(),
        }
    }

    pub(in crate::relay) fn pages(&self) -> Vec<Arc<SharedWords>> {
        self.pages.clone()
    }

    /// Checks that the engines can adopt plans, before any socket is opened for one.
    ///
    /// # Errors
    /// The relay is closed, or an engine has ended.
    pub(in crate::relay) fn can_adopt(&self) -> Result<()> {
        if matches!(*self.phase(), Phase::Stopped) {
            return Err(Error::Invalid("the relay is closed".to_owned()));
        }
        self.error().map_or(Ok(()), |error| Err(Error::Engine(error)))
    }

    /// Passes each engine its plan, and returns once all of them use it.
    ///
    /// # Errors
    /// The relay is closed, or an engine has ended or does not answer.
    pub(in crate::relay) fn adopt(&self, plans: Vec<Plan>) -> Result<()> {
        match &mut *self.phase() {
            Phase::Prepared(prepared) => {
                for (old, mut new) in prepared.iter_mut().zip(plans) {
                    // The previous plan was never used: its slots are still to be granted, except
                    // those released since.
                    old.grants.retain(|grant| !new.released.contains(&grant.slot));
                    new.grants.splice(0..0, old.grants.drain(..));
                    new.released.splice(0..0, old.released.drain(..));
                    *old = new;
                }
                Ok(())
            }
            Phase::Stopped => Err(Error::Invalid("the relay is closed".to_owned())),
            Phase::Running(workers) => {
                for (worker, plan) in workers.iter().zip(plans) {
                    worker.send(EngineCommand::Adopt(Box::new(plan)));
                }
                workers.iter().try_for_each(|worker| self.await_answer(worker))
            }
        }
    }

    /// Waits until each engine has sent everything that had arrived; returns false if one has not
    /// within this time. Engines that do not run have nothing.
    #[cfg(feature = "offload")]
    pub(in crate::relay) fn drain(&self, patience: Duration) -> bool {
        let phase = self.phase();
        let Phase::Running(workers) = &*phase else { return true };
        let deadline = Instant::now() + patience;
        let asked = workers.iter().map(|worker| {
            let (sender, receiver) = mpsc::channel();
            worker.send(EngineCommand::Drain(sender));
            receiver
        });
        let asked: Vec<Receiver<()>> = asked.collect();
        asked.iter().all(|answer| {
            answer.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
        })
    }

    /// Whether this process started the engines, and is not one forked from that.
    #[cfg(feature = "offload")]
    pub(in crate::relay) fn are_own(&self) -> bool {
        std::process::id() == self.process
    }

    /// Sets the rings to start with; missing ones are created by [`EngineThreads::start`].
    pub(in crate::relay) fn set_rings(&self, rings: EngineRings) {
        *self.rings() = rings;
    }

    /// How the engines receive and send; `None` before a ring was created for the first.
    pub(in crate::relay) fn ring_kind(&self) -> Option<RingKind> {
        self.rings().kind()
    }

    /// Why the engines do without io_uring; `None` if they do not.
    pub(in crate::relay) fn poll_warning(&self) -> Option<String> {
        self.rings().refusal().map(rings::poll_warning)
    }

    pub(in crate::relay) fn start(&self) -> Result<()> {
        let mut phase = self.phase();
        let Phase::Prepared(plans) = &mut *phase else {
            return Err(Error::Invalid("the relay was started before".to_owned()));
        };
        let plans = std::mem::take(plans);
        *phase = Phase::Running(Vec::with_capacity(plans.len()));
        let Phase::Running(workers) = &mut *phase else { return Ok(()) };
        // If a step below fails, `stop` still finds the running threads.
        for (plan, page) in plans.into_iter().zip(&self.pages) {
            workers.push(self.spawn(workers.len(), plan, page.clone())?);
        }
        workers.iter().try_for_each(|worker| self.await_answer(worker))
    }

    /// The pulse of each running engine.
    pub(super) fn pulses(&self) -> Vec<EnginePulse> {
        let phase = self.phase();
        let Phase::Running(workers) = &*phase else { return Vec::new() };
        workers.iter().map(|worker| worker.pulse.clone()).collect()
    }

    /// Stops all engines and waits for their threads. In a forked child it only forgets them: the
    /// threads, and the descriptors that would wake them, belong to the parent.
    pub(in crate::relay) fn stop(&self) {
        if std::process::id() != self.process {
            // Another thread of the parent may have held the lock during the fork.
            if let Ok(mut phase) = self.phase.try_lock() {
                std::mem::forget(std::mem::replace(&mut *phase, Phase::Stopped));
            }
            return;
        }
        let workers = std::mem::replace(&mut *self.phase(), Phase::Stopped);
        let Phase::Running(workers) = workers else { return };
        for worker in &workers {
            worker.send(EngineCommand::Stop);
        }
        for worker in workers {
            // A panic was caught in the thread and recorded as the error.
            drop(worker.thread.join());
        }
    }

    pub(in crate::relay) fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.exits.state();
        while state.0 > 0 && state.1.is_none() {
            let left =
                deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(false);
            }
            let woken = self.exits.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        match &state.1 {
            Some(failure) => Err(Error::Engine(failure.text.clone())),
            None => Ok(true),
        }
    }

    pub(in crate::relay) fn error(&self) -> Option<String> {
        self.exits.state().1.as_ref().map(|failure| failure.text.clone())
    }

    fn spawn(&self, number: usize, plan: Plan, page: Arc<SharedWords>) -> Result<EngineThread> {
        let (commands, command_receiver) = mpsc::channel();
        let (retired_sender, retired) = mpsc::channel();
        let flags = EfdFlags::EFD_CLOEXEC;
        let wake = EventFd::from_value_and_flags(0, flags)
            .map_err(|e| Error::os("eventfd", "the engine", e))?;
        let pulse = EnginePulse { wake: Arc::new(wake.into()), woken: Arc::default() };
        let channels = EngineChannels {
            commands: command_receiver,
            retired: retired_sender,
            wake: pulse.wake.clone(),
            woken: pulse.woken.clone(),
            page,
            buffer_bytes: self.settings.buffer_bytes,
            verify_checksums: self.settings.verify_checksums,
            flows: self.settings.flows,
            latency: self.settings.latency,
        };
        let ring = self.rings().take()?;
        let exits = self.exits.clone();
        exits.state().0 += 1;
        let placement = CpuPlacement::of(&self.settings, number);
        // Dropped last, so that a thread that waits for an answer fails only once the reason is
        // recorded.
        let answers = channels.retired.clone();
        let run = move || {
            // Signals belong to the threads of the program that uses this library.
            SigSet::all().thread_block().ok();
            let result = catch_unwind(AssertUnwindSafe(|| {
                placement.apply()?;
                engine::run(Box::new(plan), ring, channels)
            }));
            exits.record(result);
            drop(answers);
        };
        let thread = thread::Builder::new().name(format!("mcr-engine-{number}")).spawn(run);
        let thread = thread.map_err(|error| {
            self.exits.state().0 -= 1;
            Error::os("starting a thread", "the engine", error)
        })?;
        Ok(EngineThread { commands, retired, pulse, thread })
    }

    fn rings(&self) -> MutexGuard<'_, EngineRings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_answer(&self, worker: &EngineThread) -> Result<()> {
        match worker.retired.recv_timeout(ANSWER_TIME) {
            // Frees the retired plan here, off the hot thread.
            Ok(_plan) => Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(Error::Engine("it has not answered for 10 seconds".to_owned()))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let failure = self.exits.state().1.clone();
                let stopped = || EngineFailure::other("it was stopped".to_owned());
                Err(failure.unwrap_or_else(stopped).into_error())
            }
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EngineThread {
    fn send(&self, command: EngineCommand) {
        // If the engine has ended, its error is recorded, and `await_answer` returns it.
        drop(self.commands.send(command));
        self.pulse.wake();
    }
}

impl EngineExits {
    fn state(&self) -> MutexGuard<'_, (usize, Option<EngineFailure>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, result: std::result::Result<io::Result<()>, Box<dyn Any + Send>>) {
        let mut state = self.state();
        state.0 -= 1;
        let error = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(EngineFailure::from(&error)),
            Err(panic) => {
                Some(EngineFailure::other(format!("panic: {}", panic_text(panic.as_ref()))))
            }
        };
        if state.1.is_none() {
            state.1 = error;
        }
        self.changed.notify_all();
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of unknown cause")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::Ingress;
    use crate::stats::{self, Grant, MAX_SLOTS, Slot, SlotOwner};

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

    fn workers() -> EngineThreads {
        let settings = Settings::new(Ingress::Udp, 1 << 20);
        EngineThreads::new(settings, vec![stats::create_page().unwrap()])
    }

    /// A plan that the cold side never compiles: it resets a slot beyond the end of the page.
    fn impossible() -> Plan {
        let slot = Slot { index: MAX_SLOTS, generation: 1 };
        let grants = vec![Grant { slot, owner: SlotOwner::rule(""), is_continued: false }];
        Plan { grants, ..Plan::empty() }
    }

    fn assert_panicked(workers: &EngineThreads, error: &Error) {
        let Error::Engine(text) = error else { panic!("{error:?}") };
        assert!(text.contains("panic: index out of bounds"), "{text}");
        assert_eq!(workers.error().as_ref(), Some(text));
        assert_eq!(workers.wait(PATIENCE).unwrap_err().to_string(), error.to_string());
        workers.stop();
    }

    #[test]
    fn a_panic_at_the_start_is_returned_by_start() {
        let workers = workers();
        workers.adopt(vec![impossible()]).unwrap();
        let error = workers.start().unwrap_err();
        assert_panicked(&workers, &error);
    }

    #[test]
    fn an_engine_with_nothing_to_do_has_a_pulse_until_it_ends() {
        let workers = workers();
        assert!(workers.pulses().is_empty());
        workers.start().unwrap();
        let pulse = workers.pulses().remove(0);
        for _ in 0..3 {
            let before = pulse.request();
            let deadline = Instant::now() + Duration::from_secs(10);
            while pulse.count() == before {
                assert!(Instant::now() < deadline, "the engine does not turn");
                thread::yield_now();
            }
        }
        workers.stop();
        assert_eq!(pulse.request(), pulse.count());
    }

    #[test]
    fn a_later_panic_is_returned_by_wait() {
        let workers = workers();
        workers.start().unwrap();
        assert!(!workers.wait(Some(Duration::ZERO)).unwrap());
        let error = workers.adopt(vec![impossible()]).unwrap_err();
        assert_panicked(&workers, &error);
        assert!(matches!(workers.adopt(vec![Plan::empty()]), Err(Error::Invalid(_))));
    }
}
