//! The continuity of MPEG-TS (ISO/IEC 13818-1, 2.4.3.3): a counter of 4 bits in the packets of each
//! PID that have a payload.

use super::words::miss;
use super::{SequenceWords, word};

/// Bytes of a packet.
const PACKET: usize = 188;
const SYNC: u8 = 0x47;
/// The PID of packets without content.
const NULL_PID: u16 = 0x1fff;
/// PIDs of a flow whose counters are known; others are not looked at.
const MAX_PIDS: usize = 32;
/// Datagrams that are compared with the next one. The counters repeat after 16 packets.
const RECENT: usize = 4;

/// The state of one PID.
#[derive(Clone, Copy, Debug)]
struct Pid {
    /// The marks of its next packet, if that has a payload only and nothing is missing.
    next: u32,
    /// Whether the last packet was sent twice, as is allowed once.
    is_repeated: bool,
}

/// The state of the PIDs of a flow.
#[derive(Clone, Debug)]
pub(super) struct Continuity {
    pids: [Pid; MAX_PIDS],
    /// How many of these are known, and which one the last packet had.
    known: usize,
    last: usize,
    recent: [u64; RECENT],
    next: usize,
}

/// Whether these bytes are packets.
#[inline(always)]
pub(super) fn is_stream(bytes: &[u8]) -> bool {
    let (packets, rest) = bytes.as_chunks::<PACKET>();
    rest.is_empty() && !packets.is_empty() && packets.iter().all(|packet| packet[0] == SYNC)
}

impl Continuity {
    pub(super) const fn new() -> Self {
        let pids = [Pid { next: u32::MAX, is_repeated: false }; MAX_PIDS];
        Self { pids, known: 0, last: 0, recent: [0; RECENT], next: 0 }
    }

    /// Counts the packets of a datagram; what is missing of them in this word.
    // Most packets have the PID of the one before: a comparison and an addition.
    #[inline(never)]
    pub(super) fn count(&mut self, words: &mut SequenceWords, bytes: &[u8], lost: usize) {
        let packets: &[[u8; PACKET]] = bytes.as_chunks().0;
        let print = fingerprint(packets);
        for packet in packets {
            let pid = &mut self.pids[self.last];
            if marks(packet) == pid.next {
                *pid = Pid { next: following(pid.next), is_repeated: false };
                continue;
            }
            let Some(at) = self.find(packet) else { continue };
            let step = self.pids[at].step(packet);
            match step {
                PacketStep::Follows => {}
                _ if self.recent.contains(&print) => {
                    if lost == word::LOST {
                        words[word::DUPLICATED] += packets.len() as u64;
                    }
                    return;
                }
                PacketStep::Repeats if lost == word::LOST => words[word::DUPLICATED] += 1,
                PacketStep::Repeats => {}
                PacketStep::Skips(count) if lost == word::LOST => miss(words, count),
                PacketStep::Skips(count) => words[lost] += count,
            }
            let next = following(marks(packet));
            self.pids[at] = Pid { next, is_repeated: matches!(step, PacketStep::Repeats) };
            self.last = at;
        }
        self.recent[self.next % RECENT] = print;
        self.next = (self.next + 1) % RECENT;
    }

    /// The place of a packet's PID, which is new or known; `None` if its counter does not count, or
    /// too many are known.
    fn find(&mut self, packet: &[u8; PACKET]) -> Option<usize> {
        if !has_counter(packet) {
            return None;
        }
        let is_same = |known: &Pid| known.next >> 8 == u32::from(pid(packet));
        let found = self.pids[..self.known].iter().position(is_same);
        if found.is_some() || self.known == MAX_PIDS {
            return found;
        }
        self.pids[self.known].next = marks(packet);
        self.known += 1;
        Some(self.known - 1)
    }
}

impl Pid {
    /// The place of a packet behind the last one.
    fn step(self, packet: &[u8; PACKET]) -> PacketStep {
        let [_, _, _, counter] = (marks(packet).wrapping_sub(self.next) & 15).to_be_bytes();
        match counter {
            _ if is_discontinuity(packet) => PacketStep::Follows,
            0 => PacketStep::Follows,
            15 if !self.is_repeated => PacketStep::Repeats,
            // Once more than is allowed: fifteen others are missing.
            step => PacketStep::Skips(u64::from(step)),
        }
    }
}

/// The place of a packet behind the last one of its PID.
enum PacketStep {
    Follows,
    Repeats,
    /// This many are missing, modulo 16.
    Skips(u64),
}

/// What continues in the packets of a PID: the PID, the adaptation field control, and the counter.
#[inline(always)]
fn marks(packet: &[u8; PACKET]) -> u32 {
    const MARKS: u32 = 0x001f_ff3f;
    u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]) & MARKS
}

/// The marks of the packet after the one with these, if it has a payload only.
#[inline(always)]
const fn following(marks: u32) -> u32 {
    const PAYLOAD_ONLY: u32 = 0x10;
    marks & !0x3f | PAYLOAD_ONLY | (marks + 1) & 15
}

/// A number by which a datagram is likely to be told from others nearby: the beginnings of its
/// packets, and its end.
#[inline(always)]
fn fingerprint(packets: &[[u8; PACKET]]) -> u64 {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let end = packets.last().map_or(0, |packet| word(packet.last_chunk()));
    let mix = |hash: u64, packet: &[u8; PACKET]| hash.rotate_left(9) ^ word(packet.first_chunk());
    packets.iter().fold(end.wrapping_mul(MIX), mix)
}

fn pid(packet: &[u8; PACKET]) -> u16 {
    u16::from_be_bytes([packet[1], packet[2]]) & NULL_PID
}

/// Whether the counter of a packet counts: it has a payload.
fn has_counter(packet: &[u8; PACKET]) -> bool {
    packet[3] & 0x10 != 0 && pid(packet) != NULL_PID
}

/// Whether a packet says that its counter does not continue.
fn is_discontinuity(packet: &[u8; PACKET]) -> bool {
    let has_adaptation = packet[3] & 0x20 != 0;
    has_adaptation && packet[4] > 0 && packet[5] & 0x80 != 0
}
