//! What is recorded of a datagram, and its form in the ring.

use crate::packet::Discard;
use crate::stats::Loss;

/// Words of a record before the bytes of its frame.
pub(super) const HEAD_WORDS: usize = 8;
/// The most bytes of a frame in a record: an IP packet behind an Ethernet header with a tag.
pub const RECORD_BYTES: usize = 65_536 + 18;
/// The position of no output.
const NO_OUTPUT: u16 = u16::MAX;
/// The bits of a rule's id.
const ID_BITS: u32 = 48;

/// What has happened to a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was received, and rules matched it.
    Matched,
    /// It was received, and not relayed.
    Discarded(Discard),
    /// A copy was accepted by the kernel, or by the AF_XDP socket of the output's interface.
    Sent,
    /// A copy was not sent.
    Lost(Loss),
    /// A datagram was not relayed, or a copy not sent, for a reason that a later version has added.
    Unnamed {
        /// Whether it is a copy.
        is_copy: bool,
    },
}

/// What is recorded of a datagram, beside its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapRecord {
    /// The number of the record in its ring, from 0.
    pub sequence: u64,
    /// When it was recorded, in nanoseconds since 1970.
    pub time_ns: u64,
    /// When the kernel received the datagram, in the same unit; 0 if that is not known.
    pub arrived_ns: u64,
    /// The number of the datagram, from 1, which its copies have too.
    pub datagram: u64,
    /// The id of the rule; 0 for none.
    pub rule: u64,
    /// The number of rules that have matched.
    pub rules: u16,
    /// What has happened.
    pub step: Step,
    /// The position of the output in its rule, for copies.
    pub output: Option<u16>,
    /// The kernel's error, for a lost copy; else 0.
    pub errno: u32,
    /// The index of the interface on which the datagram arrived; 0 for copies.
    pub ifindex: u32,
    /// Bytes of the whole frame.
    pub frame_len: u32,
}

impl Step {
    fn to_bits(self) -> u64 {
        match self {
            Self::Matched => 1,
            Self::Discarded(reason) => 2 | (reason as u64) << 8,
            Self::Sent => 3,
            Self::Lost(loss) => 4 | (loss as u64) << 8,
            Self::Unnamed { is_copy } => 0xff00 | if is_copy { 4 } else { 2 },
        }
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let code = usize::try_from(bits >> 8 & 0xff).ok()?;
        let unnamed = |is_copy| Self::Unnamed { is_copy };
        match bits & 0xff {
            1 => Some(Self::Matched),
            2 => Some(Discard::ALL.get(code).copied().map_or(unnamed(false), Self::Discarded)),
            3 => Some(Self::Sent),
            4 => Some(Loss::ALL.get(code).copied().map_or(unnamed(true), Self::Lost)),
            _ => None,
        }
    }
}

impl TapRecord {
    /// Its words, for a frame of which `bytes` bytes are kept, and the number of all its words.
    pub(super) fn to_words(self, bytes: usize) -> ([u64; HEAD_WORDS], usize) {
        let words = HEAD_WORDS + bytes.div_ceil(8);
        let output = u64::from(self.output.unwrap_or(NO_OUTPUT));
        let head = [
            (words as u64) << 32 | bytes as u64,
            self.sequence,
            self.time_ns,
            self.arrived_ns,
            self.datagram,
            self.rule & ((1 << ID_BITS) - 1) | u64::from(self.rules) << ID_BITS,
            self.step.to_bits() | output << 16 | u64::from(self.errno) << 32,
            u64::from(self.ifindex) << 32 | u64::from(self.frame_len),
        ];
        (head, words)
    }

    /// The record with these words; `None` if they are none.
    #[expect(clippy::cast_possible_truncation, reason = "each field has these bits")]
    pub(super) fn from_words(words: &[u64; HEAD_WORDS]) -> Option<Self> {
        let [_, sequence, time_ns, arrived_ns, datagram, rule, what, frame] = *words;
        let output = (what >> 16) as u16;
        Some(Self {
            sequence,
            time_ns,
            arrived_ns,
            datagram,
            rule: rule & ((1 << ID_BITS) - 1),
            rules: (rule >> ID_BITS) as u16,
            step: Step::from_bits(what & 0xffff)?,
            output: (output != NO_OUTPUT).then_some(output),
            errno: (what >> 32) as u32,
            ifindex: (frame >> 32) as u32,
            frame_len: frame as u32,
        })
    }
}

/// The words and the bytes of a record whose first word this is.
pub(super) fn lengths(first: u64) -> Option<(usize, usize)> {
    let words = usize::try_from(first >> 32).ok()?;
    let bytes = usize::try_from(first & u64::from(u32::MAX)).ok()?;
    (bytes <= RECORD_BYTES && words == HEAD_WORDS + bytes.div_ceil(8)).then_some((words, bytes))
}
