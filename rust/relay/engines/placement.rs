//! The CPUs of the engines' threads.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::relay::Settings;

/// The CPU on which an engine runs.
#[derive(Clone, Copy)]
pub(super) enum CpuPlacement {
    /// The kernel chooses.
    Anywhere,
    /// The engine with this number, of several, gets its own CPU among those that the program may
    /// use. A thread that moves in the middle of a flow would reorder it: the kernel queues what it
    /// sent before and after the move on two CPUs.
    Exclusive(usize),
    /// The CPU that the settings name.
    On(usize),
}

impl CpuPlacement {
    /// That of the engine with this number.
    pub(super) fn of(settings: &Settings, number: usize) -> Self {
        match settings.cpus.get(number) {
            Some(&cpu) => Self::On(cpu),
            None if settings.workers == 1 => Self::Anywhere,
            None => Self::Exclusive(number),
        }
    }

    /// Moves the calling thread there.
    ///
    /// # Errors
    /// The kernel's, if the settings name the CPU.
    pub(super) fn apply(self) -> io::Result<()> {
        let exclusive_cpu = |number: usize| {
            let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
            let may_use = |&cpu: &usize| allowed.is_set(cpu) == Ok(true);
            let cpus: Vec<usize> = (0..CpuSet::count()).filter(may_use).collect();
            cpus.get(number % cpus.len().max(1)).copied()
        };
        match self {
            Self::Anywhere => {}
            // Only an optimization: on an error the engine runs anywhere.
            Self::Exclusive(number) => drop(exclusive_cpu(number).map(pin_to_cpu)),
            Self::On(cpu) => pin_to_cpu(cpu)?,
        }
        Ok(())
    }
}

fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    let result = only.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &only));
    result
        .map_err(|error| io::Error::other(format!("the engine may not run on CPU {cpu}: {error}")))
}
