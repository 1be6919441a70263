//! The settings with which a relay is created.

use super::{EgressMode, Ingress, OffloadMode};
use crate::addr::Addr;
use crate::spec::InputSpec;

/// The settings of a relay, fixed for its lifetime.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How the relay receives datagrams.
    pub ingress: Ingress,
    /// How the relay sends copies.
    pub egress: EgressMode,
    /// Whether rules may be relayed in the kernel.
    pub offload: OffloadMode,
    /// The number of engines, each in its own thread.
    pub workers: u16,
    /// The size of one engine's receive buffers, in bytes.
    pub buffer_bytes: usize,
    /// The CPU of each engine, in their order. If empty, the kernel chooses for a single engine,
    /// and several engines get one permitted CPU each.
    pub cpus: Vec<usize>,
    /// Whether to verify UDP checksums that the kernel has not verified, and to drop wrong ones.
    pub verify_checksums: bool,
    /// Whether to count the flows of each rule.
    pub flows: bool,
    /// Whether to measure the latency of each rule.
    pub latency: bool,
    /// The share of this process, if several relay the same rules.
    pub share: Share,
}

/// The share of one of several processes that relay the same rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The number of the process, from 0.
    pub number: u16,
    /// The number of processes, at least 1.
    pub of: u16,
}

/// The engine that receives an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home {
    /// Its number among all engines of all processes.
    pub(super) worker: u16,
    /// Its number in this process; `None` if it is in another one.
    pub(super) engine: Option<u16>,
}

impl Settings {
    /// One engine on any CPU that verifies checksums, in a single process.
    #[must_use]
    pub fn new(ingress: Ingress, buffer_bytes: usize) -> Self {
        Self {
            ingress,
            egress: EgressMode::Auto,
            offload: OffloadMode::Off,
            workers: 1,
            buffer_bytes,
            cpus: Vec::new(),
            verify_checksums: true,
            flows: false,
            latency: false,
            share: Share::WHOLE,
        }
    }

    /// The engines of all processes that relay the same rules.
    pub(super) fn engines(&self) -> u16 {
        self.share.of.saturating_mul(self.workers)
    }

    /// Where the inputs meet whose first one this is.
    pub(super) fn home(&self, first: &InputSpec) -> Home {
        let worker = owner("", first.group, first.port, self.engines());
        let is_here = worker / self.workers == self.share.number;
        Home { worker, engine: is_here.then_some(worker % self.workers) }
    }
}

impl Share {
    /// The share of a single process.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// Whether this process holds what all of them need only once, such as memberships.
    pub(super) fn is_first(self) -> bool {
        self.number == 0
    }

    /// Whether this process receives for an endpoint whose socket cannot be shared. All processes
    /// agree about the owner, also after restarts.
    pub(super) fn has_endpoint(self, interface: &str, group: Addr, port: u16) -> bool {
        owner(interface, group, port, self.of) == self.number
    }
}

/// Which of several, numbered from 0, an endpoint belongs to: the same in every process.
fn owner(interface: &str, group: Addr, port: u16, of: u16) -> u16 {
    // FNV-1a. Only its upper half is used, since the lowest bit is a mere parity.
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let group = group.bits().to_be_bytes();
    let bytes = group.into_iter().chain(port.to_be_bytes()).chain(interface.bytes());
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    u16::try_from(((hash >> 32) * u64::from(of)) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_has_one_owner_and_the_shares_are_about_equal() {
        const OF: u16 = 3;
        let mut counts = [0; OF as usize];
        for n in 0..900_u16 {
            let [high, low] = n.to_be_bytes();
            let group = Addr::v4([239, 1, high, low]);
            // Ports that follow the groups, as they do in practice.
            let has = |number| Share { number, of: OF }.has_endpoint("eth0", group, 5000 + n);
            let owners: Vec<u16> = (0..OF).filter(|number| has(*number)).collect();
            assert_eq!(owners.len(), 1);
            counts[usize::from(owners[0])] += 1;
            assert!(Share::WHOLE.has_endpoint("eth0", group, n));
        }
        assert!(counts.iter().all(|count| (250..350).contains(count)), "{counts:?}");
    }
}
