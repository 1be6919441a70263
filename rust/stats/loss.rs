//! The reasons for copies that were not sent, and their counting in an output's slot.

use super::{SlotWords, output};

/// The reason why a copy was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Loss {
    /// The kernel refused it; the errno is counted separately.
    SendError,
    /// The output's send buffer or queueing discipline was full.
    OutputFull,
    /// It fits neither the link nor, in fragments, the protocol.
    TooBig,
    /// The output's interface had no carrier, did not exist, or had no address.
    NoCarrier,
    /// The kernel relayed it, and the device did not accept it: its queue was full.
    DeviceFull,
    /// The kernel relayed it, and it did not reach the device: the device was down, its MTU had
    /// become too small, or memory was short.
    DeviceLost,
    /// It exceeded the output's rate.
    RateLimited,
    /// It exceeded the output's rate by more than may wait.
    QueueFull,
    /// It waited for the output's rate when its process died.
    Abandoned,
    /// It exceeded what the rate of its interface leaves for its class.
    ClassLimited,
}

impl Loss {
    /// All reasons, in the order of their words.
    pub const ALL: [Self; 10] = [
        Self::SendError,
        Self::OutputFull,
        Self::TooBig,
        Self::NoCarrier,
        Self::DeviceFull,
        Self::DeviceLost,
        Self::RateLimited,
        Self::QueueFull,
        Self::Abandoned,
        Self::ClassLimited,
    ];
    /// The number of reasons.
    pub const COUNT: usize = Self::ALL.len();
    /// Their names in reports.
    pub const NAMES: [&str; Self::COUNT] = {
        let mut names = [""; Self::COUNT];
        let mut at = 0;
        while at < Self::COUNT {
            names[at] = Self::ALL[at].name();
            at += 1;
        }
        names
    };

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendError => "send_error",
            Self::OutputFull => "output_full",
            Self::TooBig => "too_big",
            Self::NoCarrier => "no_carrier",
            Self::DeviceFull => "device_full",
            Self::DeviceLost => "device_lost",
            Self::RateLimited => "rate_limited",
            Self::QueueFull => "queue_full",
            Self::Abandoned => "abandoned",
            Self::ClassLimited => "class_limited",
        }
    }
}

/// Counts `copies` lost in an output's slot.
#[cold]
pub fn count_loss(words: &mut SlotWords, loss: Loss, copies: u64, now_ms: u64) {
    words[output::DROPPED + loss as usize] += copies;
    words[output::LOST_MS] = now_ms;
    words[output::LAST_LOSS] = loss as u64;
}

/// Counts `copies` lost to this errno in an output's slot.
#[cold]
pub fn count_send_error(words: &mut SlotWords, errno: u64, copies: u64, now_ms: u64) {
    count_loss(words, Loss::SendError, copies, now_ms);
    words[output::LAST_ERRNO] = errno;
    let pairs = words[output::ERRORS..].chunks_exact_mut(2).take(output::ERROR_PAIRS);
    let last = output::ERROR_PAIRS - 1;
    for (number, pair) in pairs.enumerate() {
        let free = pair[1] == 0 && number != last;
        if free {
            pair[0] = errno;
        }
        if free || pair[0] == errno || number == last {
            pair[1] += copies;
            return;
        }
    }
}
