//! The first 24 bytes of every datagram that `mcr send` makes. All numbers are big-endian:
//!
//! ```text
//!  0  magic      "mcr1"
//!  4  stream     u32  random, chosen when the sender opens: a restart is another stream
//!  8  sequence   u64  0, 1, 2, ... and 0 again after 2^64 - 1
//! 16  sent_ns    u64  CLOCK_REALTIME in nanoseconds, read just before the send call
//! ```
//!
//! The rest of the datagram is zero.

/// The header length in bytes: the minimum size of a datagram.
pub const HEADER_BYTES: usize = 24;

const MAGIC: [u8; 4] = *b"mcr1";

/// The header of a datagram: its stream, number and sending time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeHeader {
    /// The sender's random stream id.
    pub stream: u32,
    /// The datagram's number in its stream.
    pub sequence: u64,
    /// The sending time in nanoseconds of CLOCK_REALTIME.
    pub sent_ns: u64,
}

impl ProbeHeader {
    /// The header's bytes in a datagram.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.stream.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..].copy_from_slice(&self.sent_ns.to_be_bytes());
        bytes
    }

    /// The header of a datagram, or `None` if it is not from `mcr send`.
    #[must_use]
    pub fn read(datagram: &[u8]) -> Option<Self> {
        let rest = datagram.strip_prefix(&MAGIC)?;
        let (stream, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (sent_ns, _) = rest.split_first_chunk()?;
        Some(Self {
            stream: u32::from_be_bytes(*stream),
            sequence: u64::from_be_bytes(*sequence),
            sent_ns: u64::from_be_bytes(*sent_ns),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_survives_the_round_trip(stream: u32, sequence: u64, sent_ns: u64) {
            let header = ProbeHeader { stream, sequence, sent_ns };
            prop_assert_eq!(ProbeHeader::read(&header.to_bytes()), Some(header));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            prop_assert_eq!(ProbeHeader::read(&bytes).is_some(), bytes.len() >= 24 && bytes.starts_with(b"mcr1"));
        }
    }

    #[test]
    fn a_truncated_header_is_rejected() {
        let bytes = ProbeHeader { stream: 1, sequence: 2, sent_ns: 3 }.to_bytes();
        for len in 0..HEADER_BYTES {
            assert_eq!(ProbeHeader::read(&bytes[..len]), None);
        }
    }
}
