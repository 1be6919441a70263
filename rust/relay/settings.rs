//! What a relay is told when it is made. It must not know how that is done.

use super::Ingress;
use crate::addr::Addr;

/// How a relay is set up, for its whole life.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where datagrams are taken from.
    pub ingress: Ingress,
    /// How many engines, each a thread.
    pub workers: u16,
    /// Bytes for the receive buffers of one engine.
    pub buffer_bytes: usize,
    /// The processor of each engine, in their order; empty to leave it to the kernel, or with
    /// several engines to take one after the other.
    pub cpus: Vec<usize>,
    /// Whether datagrams with a wrong UDP checksum are dropped, where the kernel has not done so.
    pub verify_checksums: bool,
    /// What of the work is this process's, where several relay the same rules.
    pub share: Share,
}

/// One of several processes that relay the same rules, each its share of the datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which of them, from 0 on.
    pub number: u16,
    /// How many there are, at least 1.
    pub of: u16,
}

impl Settings {
    /// One engine that drops what is damaged, on any processor.
    #[must_use]
    pub fn new(ingress: Ingress, buffer_bytes: usize) -> Self {
        Self {
            ingress,
            workers: 1,
            buffer_bytes,
            cpus: Vec::new(),
            verify_checksums: true,
            share: Share::WHOLE,
        }
    }
}

impl Share {
    /// Of a process that is alone.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// Whether what is needed once, however many receive, is for this process to hold.
    pub(super) fn is_first(self) -> bool {
        self.number == 0
    }

    /// Whether what arrives there, by a socket that cannot be shared, is this process's. All of
    /// them agree about it, in every incarnation.
    pub(super) fn has_endpoint(self, interface: &str, group: Addr, port: u16) -> bool {
        // FNV-1a, of which the upper half is taken: the lowest bit is a mere parity.
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let group = group.bits().to_be_bytes();
        let bytes = group.into_iter().chain(port.to_be_bytes()).chain(interface.bytes());
        let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
        ((hash >> 32) * u64::from(self.of)) >> 32 == u64::from(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_with_one_process_and_each_has_about_as_many() {
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
