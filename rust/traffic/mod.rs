//! Test traffic: datagrams with a number and a time, and a receiver that uses them to count lost,
//! duplicated and reordered datagrams and to measure the latency of the rest.
//!
//! `sequence`, `senders`, `tally`, `batch` and `spacing` are pure; `sender` and `receiver` own
//! one socket each, opened by [`crate::sockets`]. None of them depends on rules or the relay, which
//! they measure from outside.

mod batch;
mod pacing;
mod receiver;
mod sender;
mod senders;
mod sequence;
mod spacing;
mod tally;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use crate::packet::{HEADER_BYTES, ProbeHeader};
pub use receiver::{Receiver, ReceiverSpec};
pub use sender::{SendReport, Sender};
pub use senders::SenderNumbers;
pub use spacing::Spacing;
pub use tally::{Latency, ReceiveReport};

/// The conditions that end a run of sending or receiving; the first one counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunLimits {
    /// The number of datagrams.
    pub count: Option<u64>,
    /// The duration since the start of the run.
    pub duration: Option<Duration>,
    /// The time without a datagram; senders ignore it.
    pub idle: Option<Duration>,
}

impl RunLimits {
    fn end(&self, start: Instant) -> Option<Instant> {
        self.duration.and_then(|duration| start.checked_add(duration))
    }
}

/// CLOCK_REALTIME, the clock of the headers and of the kernel's receive timestamps.
fn realtime_ns() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}
