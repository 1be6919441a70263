//! Loops that only traffic shows: what a rule has relayed comes back to it, and is relayed again.
//!
//! For a short time in each interval the engine remembers some payloads and looks for them among
//! what follows. A payload has come back if, within that time, it arrived [`FEWEST_RETURNS`] times
//! with one origin (source, port, TTL and destination), after it had arrived once, and only once,
//! with another. So neither of these is a loop: the second feed of a redundant pair (which comes
//! once), a sender that repeats its payloads (the first origin has them again), several hosts that
//! send the same (each a few times). It takes [`FEWEST_PAYLOADS`] different ones to say so.

use crate::addr::Addr;
use crate::packet::Datagram;

/// The time of watching, and the time between.
const WATCH_MS: u64 = 250;
const PAUSE_MS: u64 = 2_250;
/// The time of watching once a payload has come back twice.
const SUSPICIOUS_MS: u64 = 1_000;
/// Payloads that are remembered at a time.
const PROBES: usize = 64;
/// How often a payload comes back in a loop while it is watched.
const FEWEST_RETURNS: u32 = 4;
/// How many payloads of a rule come back within [`MEMORY_MS`] in a loop.
const FEWEST_PAYLOADS: u32 = 3;
const MEMORY_MS: u64 = 10_000;
/// Rules of which payloads may come back at a time.
const SUSPECTS: usize = 16;

/// The watch of an engine.
pub(super) struct LoopWatch {
    probes: Box<[Probe; PROBES]>,
    suspects: [Suspect; SUSPECTS],
    is_on: bool,
    /// When watching begins or ends, in milliseconds of CLOCK_MONOTONIC_COARSE.
    next_ms: u64,
    /// So that no sender knows which payloads share a place.
    seed: u64,
}

/// A payload that is remembered.
#[derive(Clone, Copy)]
struct Probe {
    /// What finds it: the rule, its length and its ends; 0 for none.
    key: u64,
    /// A hash of all of it.
    hash: u64,
    slot: u32,
    /// Where it came from first, and how often again.
    origin: u64,
    repeats: u32,
    /// Where it comes back from, and how often.
    other: u64,
    returns: u32,
    other_source: Addr,
}

/// A rule of which payloads come back.
#[derive(Clone, Copy)]
struct Suspect {
    slot: u32,
    /// Payloads; 0 for no rule.
    payloads: u32,
    last_ms: u64,
}

/// Payloads of a rule that have come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Looped {
    /// The rule's slot.
    pub(super) slot: u32,
    /// How many payloads.
    pub(super) payloads: u32,
    /// Where the last of them comes back from.
    pub(super) source: Addr,
}

impl LoopWatch {
    pub(super) fn new(seed: u64) -> Self {
        const NOBODY: Suspect = Suspect { slot: 0, payloads: 0, last_ms: 0 };
        Self {
            probes: Box::new([Probe::FREE; PROBES]),
            suspects: [NOBODY; SUSPECTS],
            is_on: false,
            next_ms: 0,
            seed,
        }
    }

    /// Whether to look at datagrams now.
    #[inline]
    pub(super) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether [`LoopWatch::switch`] is due.
    #[inline(always)]
    pub(super) const fn is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.next_ms
    }

    /// Begins or ends watching. At the end `found` gets the rules in loops.
    #[cold]
    #[inline(never)]
    pub(super) fn switch(&mut self, now_ms: u64, found: impl FnMut(Looped)) {
        if !self.is_on {
            // Not in the first turn: what a relay finds at its start has waited for it.
            self.is_on = self.next_ms != 0;
            self.next_ms = now_ms + if self.is_on { WATCH_MS } else { PAUSE_MS };
            return;
        }
        let is_suspicious = self.probes.iter().any(|probe| probe.repeats == 0 && probe.returns > 1);
        self.judge(now_ms, found);
        self.probes.fill(Probe::FREE);
        self.is_on = is_suspicious;
        self.next_ms = now_ms + if is_suspicious { SUSPICIOUS_MS } else { PAUSE_MS };
    }

    /// Forgets the rule in a slot, which gets another owner.
    #[cold]
    pub(super) fn forget(&mut self, slot: u32) {
        self.probes.iter_mut().filter(|probe| probe.slot == slot).for_each(|probe| {
            *probe = Probe::FREE;
        });
        self.suspects.iter_mut().filter(|suspect| suspect.slot == slot).for_each(|suspect| {
            suspect.payloads = 0;
        });
    }

    /// Looks at datagrams that match the rule in a slot: `payload` in pieces of `segment` bytes.
    pub(super) fn look(&mut self, slot: u32, datagram: &Datagram, payload: &[u8], segment: usize) {
        let origin = origin(datagram);
        for one in payload.chunks(segment.max(1)) {
            let key = key(self.seed, slot, one);
            let probe = &mut self.probes[place(key)];
            if probe.key == key {
                if probe.hash == hash(key, one) {
                    probe.count(origin, datagram.source);
                }
            } else if probe.key == 0 || probe.gives_way(origin) {
                *probe = Probe { key, hash: hash(key, one), slot, origin, ..Probe::FREE };
            }
        }
    }

    fn judge(&mut self, now_ms: u64, mut found: impl FnMut(Looped)) {
        for probe in self.probes.iter().filter(|probe| probe.is_looped()) {
            let is_same = |suspect: &&mut Suspect| suspect.slot == probe.slot;
            let known = self.suspects.iter_mut().filter(|one| one.payloads > 0).find(is_same);
            let suspect = match known {
                Some(suspect) => suspect,
                None => {
                    let oldest = self.suspects.iter_mut().min_by_key(|suspect| suspect.last_ms);
                    let Some(suspect) = oldest else { return };
                    *suspect = Suspect { slot: probe.slot, payloads: 0, last_ms: now_ms };
                    suspect
                }
            };
            if now_ms.saturating_sub(suspect.last_ms) > MEMORY_MS {
                suspect.payloads = 0;
            }
            suspect.payloads = suspect.payloads.saturating_add(1);
            suspect.last_ms = now_ms;
            let payloads = match suspect.payloads {
                0..FEWEST_PAYLOADS => continue,
                FEWEST_PAYLOADS => FEWEST_PAYLOADS,
                _ => 1,
            };
            found(Looped { slot: probe.slot, payloads, source: probe.other_source });
        }
    }
}

impl Probe {
    const FREE: Self = Self {
        key: 0,
        hash: 0,
        slot: 0,
        origin: 0,
        repeats: 0,
        other: 0,
        returns: 0,
        other_source: Addr::from_bits(0),
    };

    fn count(&mut self, origin: u64, source: Addr) {
        if origin == self.origin {
            self.repeats += 1;
        } else if origin == self.other {
            self.returns += 1;
        } else if self.returns < 2 {
            // What came once may be another feed; what comes back does so again and again.
            (self.other, self.returns, self.other_source) = (origin, 1, source);
        }
    }

    /// Whether it tells nothing, so that one from another origin is worth more: in a loop most of
    /// what arrives has gone round before.
    const fn gives_way(&self, origin: u64) -> bool {
        self.repeats > 0 && self.returns == 0 && self.origin != origin
    }

    const fn is_looped(&self) -> bool {
        self.returns >= FEWEST_RETURNS && self.repeats == 0
    }
}

const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
const fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(29) ^ word).wrapping_mul(MIX)
}

/// What tells where a datagram comes from.
#[expect(clippy::cast_possible_truncation, reason = "each half is meant")]
fn origin(datagram: &Datagram) -> u64 {
    let ports = u64::from(datagram.source_port) << 16 | u64::from(datagram.port);
    let [source, group] = [datagram.source.bits(), datagram.group.bits()];
    let words = [(source >> 64) as u64, source as u64, (group >> 64) as u64, group as u64];
    words.into_iter().fold(ports << 8 | u64::from(datagram.ttl), mix)
}

/// What finds a payload again: cheap, as every datagram has one.
fn key(seed: u64, slot: u32, payload: &[u8]) -> u64 {
    let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let behind = payload.get(8..).unwrap_or_default().first_chunk();
    let ends = [word(payload.first_chunk()), word(behind), word(payload.last_chunk())];
    let size = u64::from(slot) << 32 | payload.len() as u64;
    let hash = ends.into_iter().fold(mix(seed, size), mix);
    // The upper bits are the mixed ones.
    (hash ^ hash >> 32).max(1)
}

/// The probe that a payload with this key may be in.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower bits are meant")]
const fn place(key: u64) -> usize {
    key as usize % PROBES
}

/// A hash of the whole payload.
fn hash(key: u64, payload: &[u8]) -> u64 {
    let (words, rest) = payload.as_chunks::<8>();
    let tail = rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    words.iter().map(|word| u64::from_le_bytes(*word)).fold(mix(key, tail), mix)
}

#[cfg(test)]
mod tests;
