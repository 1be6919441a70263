//! The most that an output sends.

use serde::Deserialize;

/// What a rate counts.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum RateUnit {
    /// Bits of payload.
    Bits,
    /// Datagrams.
    Datagrams,
}

/// The rate of an output, and what it may send at once.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
pub struct OutputRate {
    /// What is counted.
    pub unit: RateUnit,
    /// The rate a second.
    pub per_s: u64,
    /// What an output that has rested sends at once: bytes of payload, or datagrams.
    pub burst: u64,
    /// How long what exceeds it may wait, in microseconds; 0 if it is dropped at once.
    #[serde(default)]
    pub queue_us: u32,
    /// Whether datagrams leave one by one, spaced by what each costs; they may wait for that.
    #[serde(default)]
    pub paced: bool,
}

impl OutputRate {
    /// Whether a token bucket can hold it.
    #[must_use]
    pub(super) fn is_valid(&self) -> bool {
        /// A datagram that fills a frame of 1500 bytes always passes.
        const LEAST_BYTES: u64 = 1472;
        let (rates, bursts) = match self.unit {
            RateUnit::Bits => (1000..=100_000_000_000, LEAST_BYTES..=1_000_000_000),
            RateUnit::Datagrams => (1..=100_000_000, 1..=1_000_000),
        };
        /// The longest wait, one second.
        const MOST_QUEUE_US: u32 = 1_000_000;
        rates.contains(&self.per_s)
            && bursts.contains(&self.burst)
            && self.queue_us <= MOST_QUEUE_US
            && (self.queue_us > 0 || !self.paced)
    }
}
