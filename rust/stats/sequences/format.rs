//! The formats: where a datagram has its number.

use super::{Basis, SequenceSpec, transport_stream};
use crate::packet::ProbeHeader;

/// A format in which datagrams are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RTP (RFC 3550).
    Rtp {
        /// The rate of its time stamps; 0 for that of the payload type.
        clock_hz: u32,
    },
    /// MPEG-TS: a counter of 4 bits for each PID.
    Ts,
    /// MoldUDP64.
    Mold,
    /// What `mcr send` writes.
    Mcr,
    /// A number at a fixed place.
    Field {
        /// Bytes before it.
        offset: u16,
        /// Its size.
        bits: u8,
        /// Whether its least significant byte is the first.
        little_endian: bool,
    },
}

/// The numbers of a datagram, or of the messages in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Units {
    /// The identity of the stream that is numbered.
    pub(crate) stream: u64,
    /// The number of the first unit.
    pub(crate) first: u64,
    /// The number of units.
    pub(crate) count: u64,
    /// Bytes of the header.
    pub(crate) body: usize,
    /// The payload type of an RTP packet.
    pub(crate) payload_type: u64,
    /// Whether it is the end of a session.
    pub(crate) is_end: bool,
}

/// Bytes of an RTP header without lists and extensions.
const RTP_HEADER: usize = 12;
/// Bytes of a MoldUDP64 header.
const MOLD_HEADER: usize = 20;
/// The message count that ends a session of MoldUDP64.
const END_OF_SESSION: u16 = 0xffff;

impl Format {
    /// The format that a rule states.
    pub(super) const fn told(spec: SequenceSpec) -> Option<Self> {
        match spec {
            SequenceSpec::Auto | SequenceSpec::None => None,
            SequenceSpec::Rtp { clock_hz } => Some(Self::Rtp { clock_hz }),
            SequenceSpec::Ts => Some(Self::Ts),
            SequenceSpec::Mold => Some(Self::Mold),
            SequenceSpec::Mcr => Some(Self::Mcr),
            SequenceSpec::Field { offset, bits, little_endian } => {
                Some(Self::Field { offset, bits, little_endian })
            }
        }
    }

    /// Its code in [`super::word::FORMAT`], never 0.
    pub(super) const fn code(self) -> u64 {
        match self {
            Self::Rtp { .. } => 1,
            Self::Ts => 2,
            Self::Mold => 3,
            Self::Mcr => 4,
            Self::Field { .. } => 5,
        }
    }

    /// The format of this word of a flow, if it is known in this way.
    pub(super) const fn coded(word: u64, basis: Basis) -> Option<Self> {
        if word >> super::BASIS_SHIFT & 0xff != basis as u64 {
            return None;
        }
        match word & 0xff {
            1 => Some(Self::Rtp { clock_hz: 0 }),
            2 => Some(Self::Ts),
            3 => Some(Self::Mold),
            4 => Some(Self::Mcr),
            _ => None,
        }
    }

    /// The name of a code, and of what is counted.
    #[must_use]
    pub const fn names(code: u64) -> Option<(&'static str, &'static str)> {
        match code & 0xff {
            1 => Some(("rtp", "datagrams")),
            2 => Some(("ts", "ts_packets")),
            3 => Some(("mold", "messages")),
            4 => Some(("mcr", "datagrams")),
            5 => Some(("field", "datagrams")),
            _ => None,
        }
    }

    /// Bits of its numbers.
    #[inline(always)]
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Self::Rtp { .. } => 16,
            Self::Field { bits, .. } => bits as u32,
            _ => 64,
        }
    }

    /// The number of a datagram in this format; MPEG-TS has none.
    #[inline(always)]
    pub(crate) fn read(self, datagram: &[u8]) -> Option<Units> {
        match self {
            Self::Rtp { .. } => rtp(datagram),
            Self::Ts => None,
            Self::Mold => mold(datagram),
            Self::Mcr => {
                let header = ProbeHeader::read(datagram)?;
                Some(single(u64::from(header.stream), header.sequence))
            }
            Self::Field { offset, bits, little_endian } => {
                let first = field(datagram, usize::from(offset), bits, little_endian)?;
                Some(single(0, first))
            }
        }
    }

    /// The first format whose structure these bytes have, with checks that random bytes fail.
    pub(super) fn guess(datagram: &[u8]) -> Option<Self> {
        if ProbeHeader::read(datagram).is_some() {
            Some(Self::Mcr)
        } else if transport_stream::is_stream(datagram) {
            Some(Self::Ts)
        } else if is_mold(datagram) {
            Some(Self::Mold)
        } else if rtp(datagram).is_some() && !is_rtcp(datagram) {
            Some(Self::Rtp { clock_hz: 0 })
        } else {
            None
        }
    }
}

const fn single(stream: u64, first: u64) -> Units {
    Units { stream, first, count: 1, body: 0, payload_type: 0, is_end: false }
}

/// The number of an RTP packet whose header is complete.
#[inline(always)]
fn rtp(datagram: &[u8]) -> Option<Units> {
    let head: &[u8; RTP_HEADER] = datagram.first_chunk()?;
    if head[0] >> 6 != 2 {
        return None;
    }
    let lists = usize::from(head[0] & 15) * 4;
    let mut body = RTP_HEADER + lists;
    if head[0] & 0x10 != 0 {
        let extension: &[u8; 4] = datagram.get(body..)?.first_chunk()?;
        body += 4 + usize::from(u16::from_be_bytes([extension[2], extension[3]])) * 4;
    }
    let first = u64::from(u16::from_be_bytes([head[2], head[3]]));
    let stream = u64::from(u32::from_be_bytes([head[8], head[9], head[10], head[11]]));
    let payload_type = u64::from(head[1] & 0x7f);
    (body <= datagram.len()).then_some(Units { body, payload_type, ..single(stream, first) })
}

/// Whether this may be a control packet (RFC 5761, 4), which is told apart by its type.
fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.get(1).is_some_and(|kind| (192..=223).contains(kind))
}

/// The payload type of an RTP packet.
#[inline(always)]
pub(super) fn payload_type(datagram: &[u8]) -> u8 {
    datagram.get(1).map_or(0, |byte| byte & 0x7f)
}

/// The time stamp of an RTP packet.
#[inline(always)]
pub(super) fn timestamp(datagram: &[u8]) -> u32 {
    datagram.get(4..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// The rate of the time stamps of a payload type (RFC 3551, 6); 0 if it has none of its own.
pub(super) const fn clock_hz(payload_type: u8) -> u32 {
    match payload_type {
        0 | 3..=5 | 7..=9 | 12 | 13 | 15 | 18 => 8000,
        6 => 16_000,
        10 | 11 => 44_100,
        16 => 11_025,
        17 => 22_050,
        14 | 25 | 26 | 28 | 31..=34 => 90_000,
        _ => 0,
    }
}

/// The messages of a MoldUDP64 packet; none in a heartbeat and at the end of a session, whose
/// number is that of the next message.
#[inline(always)]
fn mold(datagram: &[u8]) -> Option<Units> {
    let head: &[u8; MOLD_HEADER] = datagram.first_chunk()?;
    let (session, rest) = head.split_first_chunk::<10>()?;
    let (first, count) = rest.split_first_chunk::<8>()?;
    let count = u16::from_be_bytes([count[0], count[1]]);
    let is_end = count == END_OF_SESSION;
    let count = if is_end { 0 } else { u64::from(count) };
    let first = u64::from_be_bytes(*first);
    Some(Units { count, is_end, ..single(session_id(session), first) })
}

/// A number for a session; others with the same are not to be expected.
#[inline(always)]
fn session_id(session: &[u8; 10]) -> u64 {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let [a, b, c, d, e, f, g, h, i, j] = *session;
    let last = u64::from(u16::from_be_bytes([i, j]));
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) ^ last.wrapping_mul(MIX)
}

/// Whether a session has a printable name, and the messages fill the datagram.
fn is_mold(datagram: &[u8]) -> bool {
    let Some((head, mut rest)) = datagram.split_first_chunk::<MOLD_HEADER>() else { return false };
    let count = u16::from_be_bytes([head[18], head[19]]);
    let has_name = head[..10].iter().all(|byte| (b' '..=b'~').contains(byte));
    if !has_name || count == END_OF_SESSION {
        return has_name && rest.is_empty();
    }
    for _ in 0..count {
        let Some((len, behind)) = rest.split_first_chunk::<2>() else { return false };
        let Some(behind) = behind.get(usize::from(u16::from_be_bytes(*len))..) else {
            return false;
        };
        rest = behind;
    }
    rest.is_empty()
}

/// A number of `bits` bits.
#[inline(always)]
fn field(datagram: &[u8], offset: usize, bits: u8, little_endian: bool) -> Option<u64> {
    let bytes = datagram.get(offset..)?.get(..usize::from(bits / 8))?;
    let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    Some(if little_endian { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) })
}
