//! Test traffic: datagrams that carry a number and a time, and the receiver that can therefore
//! say what was lost, doubled, out of order, and how late the rest was.
//!
//! `header`, `sequence` and `tally` are pure; `sender` and `receiver` own one socket each. None
//! of them knows rules or the relay: they stand outside and measure it.

pub mod header;
pub mod pacing;
pub mod receiver;
pub mod sender;
pub mod sequence;
mod socket;
pub mod tally;

pub use receiver::{Receiver, Source};
pub use sender::{SendReport, Sender, Target};
pub use tally::ReceiveReport;

use std::time::Duration;

/// When a run of sending or receiving ends by itself; whatever comes first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// After so many datagrams.
    pub count: Option<u64>,
    /// After so long, counted from the start of the run.
    pub duration: Option<Duration>,
    /// After so long without a datagram; only a receiver looks at it.
    pub idle: Option<Duration>,
}
