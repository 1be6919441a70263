//! What the programs have counted.

use super::layout::{PASSES, REFUSALS};
use super::rule::{Observed, Volume};
use crate::addr::Addr;

/// The counters of a rule since it was put, summed over the CPUs. Datagrams on their way from one
/// count to the next are a few for each CPU, and with another CPU's queue as many as that holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleCounters {
    /// Datagrams that the rule took.
    pub matched: Volume,
    /// The time of the last one in nanoseconds of CLOCK_MONOTONIC_COARSE; 0 for none.
    pub last_seen_ns: u64,
    /// Its sender.
    pub last_source: Option<Addr>,
    /// Its datagrams since then, those that were passed included.
    pub observed: Observed,
    /// The datagrams that the copying CPU has copied.
    pub copied: Volume,
    /// Its outputs, in the order of the rule.
    pub outputs: Vec<OutputCounters>,
}

/// The counters of one output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputCounters {
    /// Copies handed to the device.
    pub handed: Volume,
    /// Those of them that the device did not accept: its queue was full, or it has no link.
    pub rejected: Volume,
}

impl OutputCounters {
    /// Copies that the device has accepted.
    #[must_use]
    pub fn sent(&self) -> Volume {
        self.handed.without(self.rejected)
    }
}

impl RuleCounters {
    /// Datagrams that wait for the copying CPU or that its full queue lost.
    #[must_use]
    pub fn queued_or_overflowed(&self) -> Volume {
        self.matched.without(self.copied)
    }

    /// Whether no datagram waits for the copying CPU.
    #[must_use]
    pub fn is_copied(&self) -> bool {
        self.matched.datagrams == self.copied.datagrams
    }

    /// Copies for this output that never reached its device: the device was down or its MTU had
    /// become too small, or memory was short.
    ///
    /// # Panics
    /// If there is no such output.
    #[must_use]
    pub fn unhanded(&self, output: usize) -> Volume {
        self.copied.without(self.outputs[output].handed)
    }
}

impl Volume {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            datagrams: self.datagrams.saturating_add(other.datagrams),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// The difference; zero where a count read later is larger.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self {
            datagrams: self.datagrams.saturating_sub(other.datagrams),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// Why a frame went on to the network stack; the number is `enum pass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Pass {
    /// Relaying is switched off.
    Off,
    /// Not UDP over IP to a group, or with several VLAN tags.
    Other,
    /// A fragment, or a header with IP options or extension headers.
    Fragment,
    /// No rule here has this interface, VLAN, group, port and sender.
    NoRule,
    /// A checksum or length of the headers is wrong.
    BadHeader,
    /// Longer than an output can carry, or in several buffers.
    TooLong,
    /// The TTL would be used up.
    Ttl,
    /// A sender on this host left the checksum to the device.
    Unfinished,
    /// The rule is on its way from or to the engine.
    Gate,
}

impl Pass {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; PASSES as usize] = [
        Self::Off,
        Self::Other,
        Self::Fragment,
        Self::NoRule,
        Self::BadHeader,
        Self::TooLong,
        Self::Ttl,
        Self::Unfinished,
        Self::Gate,
    ];
}

/// Why a copy was not handed to its device; the number is `enum refusal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum CopyRefusal {
    /// The rule was replaced long before.
    Stale,
    /// Copies of several frames were mixed, so that its output is unknown.
    Disorder,
    /// There were more copies than outputs on the device.
    Excess,
}

impl CopyRefusal {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; REFUSALS as usize] = [Self::Stale, Self::Disorder, Self::Excess];
}
