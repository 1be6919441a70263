//! The clocks that the engine reads, once for a turn.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::stats::Clocks;

/// CLOCK_MONOTONIC_COARSE in milliseconds: cheap, with an error of a few milliseconds.
pub(super) fn coarse_clock_ms() -> u64 {
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE) else { return 0 };
    u64::try_from(Duration::from(now).as_millis()).unwrap_or(0)
}

/// The time by which the kernel stamps what it receives, and that by which a set clock shows.
pub(super) fn clocks() -> Clocks {
    Clocks { real_ns: real_clock_ns(), monotonic_ns: monotonic_clock_ns() }
}

/// CLOCK_REALTIME in nanoseconds, the clock of the kernel's time stamps.
fn real_clock_ns() -> u64 {
    clock_ns(ClockId::CLOCK_REALTIME)
}

/// CLOCK_MONOTONIC in nanoseconds, the clock of what has a rate.
pub(super) fn monotonic_clock_ns() -> u64 {
    clock_ns(ClockId::CLOCK_MONOTONIC)
}

fn clock_ns(clock: ClockId) -> u64 {
    let Ok(now) = clock_gettime(clock) else { return 0 };
    u64::try_from(Duration::from(now).as_nanos()).unwrap_or(0)
}
