//! The numbers in the datagrams of each sender, in any format that rules know.

use std::net::SocketAddr;

use super::sequence::MAX_STREAMS;
use crate::stats::sequences::{Sequence, SequenceSpec, SequenceWords};

/// What is known of a sender's numbers.
#[derive(Clone, Debug)]
pub struct SenderNumbers {
    /// Its address and port.
    pub sender: SocketAddr,
    /// Its datagrams.
    pub datagrams: u64,
    /// What their numbers say ([`crate::stats::sequences::word`]).
    pub words: SequenceWords,
}

/// The senders of a receiver. At most [`MAX_STREAMS`] are known: a further one takes the place of
/// the one that was silent for longest.
#[derive(Debug)]
pub(super) struct SenderTable {
    spec: SequenceSpec,
    known: Vec<KnownSender>,
    last: usize,
    clock: u64,
    evicted: u64,
}

#[derive(Debug)]
struct KnownSender {
    address: SocketAddr,
    datagrams: u64,
    numbers: Box<Sequence>,
    heard: u64,
}

impl SenderTable {
    /// None yet. `spec` says how their datagrams are numbered.
    pub(super) const fn new(spec: SequenceSpec) -> Self {
        Self { spec, known: Vec::new(), last: 0, clock: 0, evicted: 0 }
    }

    /// Reads the numbers of datagrams that arrived at once: `bytes` in pieces of `segment`, which
    /// is at least 1.
    pub(super) fn read(
        &mut self,
        address: SocketAddr,
        bytes: &[u8],
        segment: usize,
        arrived_ns: u64,
    ) {
        self.clock += 1;
        let (clock, at) = (self.clock, self.place(address));
        let Some(sender) = self.known.get_mut(at) else { return };
        sender.heard = clock;
        sender.datagrams += bytes.len().div_ceil(segment).max(1) as u64;
        sender.numbers.count(bytes, segment, arrived_ns);
        // Each has the kernel's time of its arrival, so none has to be averaged.
        sender.numbers.end_turn();
    }

    /// What the numbers of each known sender say, in the order of the first datagrams.
    pub(super) fn report(&self) -> Vec<SenderNumbers> {
        let shown = |sender: &KnownSender| SenderNumbers {
            sender: sender.address,
            datagrams: sender.datagrams,
            words: *sender.numbers.words(),
        };
        self.known.iter().map(shown).collect()
    }

    /// How many senders are not known any more.
    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The place of a sender, new or not.
    fn place(&mut self, address: SocketAddr) -> usize {
        // Consecutive datagrams mostly have one sender, so the last one is tried first.
        if self.known.get(self.last).is_some_and(|sender| sender.address == address) {
            return self.last;
        }
        let found = self.known.iter().position(|sender| sender.address == address);
        self.last = found.unwrap_or_else(|| self.open(address));
        self.last
    }

    fn open(&mut self, address: SocketAddr) -> usize {
        if self.known.len() == MAX_STREAMS
            && let Some(oldest) = (0..MAX_STREAMS).min_by_key(|&at| self.known[at].heard)
        {
            self.known.remove(oldest);
            self.evicted += 1;
        }
        let mut numbers = Box::<Sequence>::default();
        numbers.tell(self.spec);
        self.known.push(KnownSender { address, datagrams: 0, numbers, heard: 0 });
        self.known.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::packet::ProbeHeader;
    use crate::stats::sequences::word;

    fn from(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    #[test]
    fn each_sender_has_its_own_numbers() {
        let mut senders = SenderTable::new(SequenceSpec::Mcr);
        for sequence in [0, 1, 3, 4] {
            for port in [1, 2] {
                let header =
                    ProbeHeader { stream: 7, sequence: sequence + u64::from(port), sent_ns: 1 };
                senders.read(from(port), &header.to_bytes(), 24, 1_000_000 * sequence);
            }
        }
        let counts: Vec<_> = senders.report().iter().map(|each| each.words[word::LOST]).collect();
        assert_eq!((counts, senders.evicted()), (vec![1, 1], 0));
    }

    #[test]
    fn merged_datagrams_count_one_by_one() {
        let mut senders = SenderTable::new(SequenceSpec::Auto);
        let bytes: Vec<u8> = (0..20)
            .flat_map(|sequence| ProbeHeader { stream: 7, sequence, sent_ns: 1 }.to_bytes())
            .collect();
        senders.read(from(1), &bytes, 24, 1);
        senders.read(from(1), &[], 1, 1);
        let [sender] = &senders.report()[..] else { panic!("one sender") };
        assert_eq!((sender.datagrams, sender.words[word::NUMBERED]), (21, 20));
    }

    #[test]
    fn senders_are_bounded() {
        let mut senders = SenderTable::new(SequenceSpec::Auto);
        for port in 0..1000 {
            senders.read(from(port), &[7; 10], 10, 1);
        }
        assert_eq!(senders.report().len(), MAX_STREAMS);
        assert_eq!(senders.evicted(), 1000 - MAX_STREAMS as u64);
        assert_eq!(senders.report().last().map(|sender| sender.sender), Some(from(999)));
    }
}
