//! What this process writes into its page beside what the engine counts. It must not know who
//! reads it.

use std::time::{Duration, Instant};

use crate::relay::Relay;

/// How often a reader hears that this process is there, and of frames that the kernel lost.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// The share of the time that may go into asking the kernel, which is asked once for each socket.
const SHARE: u32 = 20;

/// When what is published next.
pub(super) struct PagePublisher {
    kernel_drops_due: Instant,
}

impl PagePublisher {
    pub(super) fn new() -> Self {
        Self { kernel_drops_due: Instant::now() }
    }

    /// Publishes what is due.
    pub(super) fn publish(&mut self, relay: &Relay) {
        relay.publish_alive();
        if Instant::now() >= self.kernel_drops_due {
            self.publish_kernel_drops(relay);
        }
    }

    /// Publishes what the kernel has lost until now.
    pub(super) fn publish_kernel_drops(&mut self, relay: &Relay) {
        let start = Instant::now();
        relay.publish_kernel_drops();
        self.kernel_drops_due = Instant::now() + TICK.max(start.elapsed() * SHARE);
    }
}
