//! Shows whether an engine runs turns, also one that has nothing to receive.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::relay::Relay;

/// Wakes an engine and counts how often it woke. It takes no lock, so that a change of rules, which
/// holds those of the cold side, does not look like an engine that hangs.
#[derive(Clone)]
pub struct EnginePulse {
    /// The eventfd that wakes the engine.
    pub(super) wake: Arc<OwnedFd>,
    /// The turns in which the engine has read the eventfd.
    pub(super) woken: Arc<AtomicU64>,
}

impl EnginePulse {
    /// Requests a turn; returns the count that this turn exceeds.
    #[must_use]
    pub fn request(&self) -> u64 {
        let before = self.count();
        self.wake();
        before
    }

    /// The turns that the engine has run because it was woken.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.woken.load(Ordering::Relaxed)
    }

    pub(super) fn wake(&self) {
        // Fails only if the eventfd was written 2^64 - 2 times and never read.
        nix::unistd::write(&self.wake, &1_u64.to_ne_bytes()).ok();
    }
}

impl Relay {
    /// The pulse of each engine; none before the start.
    #[must_use]
    pub fn pulses(&self) -> Vec<EnginePulse> {
        self.shared.workers.pulses()
    }
}
