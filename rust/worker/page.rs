//! Publishes this process's sign of life and the kernel's losses in the counter page.

use std::time::{Duration, Instant};

use crate::relay::Relay;

/// The interval of the sign of life and of the kernel's losses.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// Queries of the losses, one for each socket, take at most one part in this many of the time.
const SHARE: u32 = 20;

/// Publishes the sign of life, and the losses when they are due.
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
        relay.publish_ways();
        if Instant::now() >= self.kernel_drops_due {
            self.publish_kernel_drops(relay);
        }
    }

    /// Publishes how many frames the kernel has lost.
    pub(super) fn publish_kernel_drops(&mut self, relay: &Relay) {
        let start = Instant::now();
        relay.publish_kernel_drops();
        self.kernel_drops_due = Instant::now() + TICK.max(start.elapsed() * SHARE);
    }
}
