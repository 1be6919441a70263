//! Test traffic: datagrams that carry a number and a time, and the receiver that can therefore
//! say what was lost, doubled, out of order, and how late the rest was.
//!
//! `header`, `sequence`, `tally`, `batch` and `spacing` are pure; `sender` and `receiver` own one
//! socket each, opened by [`crate::sockets`]. None of them knows rules or the relay: they stand
//! outside and measure it.

mod batch;
mod header;
mod pacing;
mod receiver;
mod sender;
mod sequence;
mod spacing;
mod tally;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use header::{HEADER_BYTES, ProbeHeader};
pub use receiver::{Receiver, ReceiverSpec};
pub use sender::{SendReport, Sender};
pub use spacing::Spacing;
pub use tally::{Latency, ReceiveReport};

/// When a run of sending or receiving ends by itself; whatever comes first.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunLimits {
    /// After so many datagrams.
    pub count: Option<u64>,
    /// After so long, counted from the start of the run.
    pub duration: Option<Duration>,
    /// After so long without a datagram; a sender does not look at it.
    pub idle: Option<Duration>,
}

impl RunLimits {
    fn end(&self, start: Instant) -> Option<Instant> {
        self.duration.and_then(|duration| start.checked_add(duration))
    }
}

/// CLOCK_REALTIME, which headers and the kernel's receive timestamps are in.
fn realtime_ns() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}
