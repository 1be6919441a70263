//! The reordering of a flow by GRO. The kernel holds back the datagrams that it merges, and passes
//! on at once one of the same flow that it cannot merge (`inet_gro_receive`,
//! `udp_gro_receive_segment` of the kernel).

use crate::packet::Span;

const ETHERNET_LEN: u32 = 14;
const ETHERNET_LEAST: u32 = 60;
const IPV4_LEN: u32 = 20;
const IPV6_LEN: u32 = 40;
const UDP_LEN: u32 = 8;
/// The first byte of an IPv4 header without options.
const IPV4_PLAIN: u8 = 0x45;
/// The protocol number of UDP.
const UDP: u8 = 17;

/// The check for datagrams that merging could reorder. `longest` is the largest payload in bytes
/// that arrives without fragmentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderCheck {
    /// None: nothing is merged for the rule.
    #[default]
    Nothing,
    /// By the headers of their frames.
    Frames {
        /// Longer ones were reassembled.
        longest: u32,
    },
    /// By their payloads alone, which is all that a UDP socket provides.
    Datagrams {
        /// Longer ones were reassembled.
        longest: u32,
    },
}

impl OrderCheck {
    /// Whether GRO lets a single datagram overtake others: one that is empty, padded to the minimum
    /// frame length, was fragmented, has no checksum, or has IP options or extension headers.
    /// `payload` is its position in the buffer.
    #[must_use]
    pub fn overtakes(self, buffer: &[u8], payload: Span, is_v4: bool) -> bool {
        match self {
            Self::Nothing => false,
            _ if payload.len == 0 => true,
            Self::Frames { longest } => {
                payload.len > longest || is_plain(buffer, payload, is_v4) == Some(false)
            }
            Self::Datagrams { longest } => payload.len > longest || is_padded(payload.len, is_v4),
        }
    }

    /// The check for the rules of an interface with this MTU in bytes.
    #[must_use]
    pub const fn frames(mtu: u32) -> Self {
        Self::Frames { longest: mtu.saturating_sub(IPV4_LEN + UDP_LEN) }
    }

    /// The same for sockets of one IP version.
    #[must_use]
    pub const fn datagrams(mtu: u32, is_v4: bool) -> Self {
        let header = if is_v4 { IPV4_LEN } else { IPV6_LEN };
        Self::Datagrams { longest: mtu.saturating_sub(header + UDP_LEN) }
    }
}

/// Whether GRO merges such a frame: an IP header of the usual length, UDP with a checksum, and no
/// padding. `None` if there are no headers in front.
fn is_plain(buffer: &[u8], payload: Span, is_v4: bool) -> Option<bool> {
    let Span { start, len } = payload;
    let read_u16 = |at: u32| Some(u16::from_be_bytes(*buffer.get(at as usize..)?.first_chunk()?));
    let ip = start.checked_sub(UDP_LEN + if is_v4 { IPV4_LEN } else { IPV6_LEN })?;
    let is_usual = if is_v4 {
        *buffer.get(ip as usize)? == IPV4_PLAIN
            && u32::from(read_u16(ip + 2)?) == IPV4_LEN + UDP_LEN + len
    } else {
        *buffer.get(ip as usize + 6)? == UDP && u32::from(read_u16(ip + 4)?) == UDP_LEN + len
    };
    Some(is_usual && read_u16(start - 2)? != 0 && buffer.len() == (start + len) as usize)
}

/// Whether an Ethernet frame with this payload length is padded when the card delivers it.
const fn is_padded(payload_len: u32, is_v4: bool) -> bool {
    let header = ETHERNET_LEN + UDP_LEN + if is_v4 { IPV4_LEN } else { IPV6_LEN };
    header + payload_len < ETHERNET_LEAST
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: OrderCheck = OrderCheck::frames(1500);

    /// An IPv4 or IPv6 packet behind an Ethernet header, and the position of its payload.
    fn frame(is_v4: bool, len: u16, checksum: u16) -> (Vec<u8>, Span) {
        let total = (len + if is_v4 { 28 } else { 8 }).to_be_bytes();
        let mut bytes = vec![0; 14 + if is_v4 { 20 } else { 40 }];
        if is_v4 {
            bytes[14] = IPV4_PLAIN;
            bytes[16..18].copy_from_slice(&total);
        } else {
            bytes[18..20].copy_from_slice(&total);
            bytes[20] = UDP;
        }
        bytes.extend([0; 6]);
        bytes.extend(checksum.to_be_bytes());
        let payload = Span { start: u32::try_from(bytes.len()).unwrap(), len: len.into() };
        bytes.extend(vec![1; len.into()]);
        (bytes, payload)
    }

    fn overtakes(check: OrderCheck, is_v4: bool, len: u16, checksum: u16, padding: usize) -> bool {
        let (mut bytes, payload) = frame(is_v4, len, checksum);
        bytes.extend(vec![0; padding]);
        check.overtakes(&bytes, payload, is_v4)
    }

    #[test]
    fn mergeable_datagrams_overtake_nothing() {
        for is_v4 in [true, false] {
            assert!(!overtakes(FRAMES, is_v4, 1400, 7, 0));
            assert!(!overtakes(FRAMES, is_v4, 1, 7, 0));
            assert!(!overtakes(OrderCheck::datagrams(1500, is_v4), is_v4, 18, 7, 0));
            assert!(!overtakes(OrderCheck::Nothing, is_v4, 0, 0, 9));
        }
        assert!(!overtakes(OrderCheck::datagrams(1500, false), false, 1, 7, 0));
    }

    #[test]
    fn empty_padded_unsummed_or_reassembled_datagrams_overtake() {
        for is_v4 in [true, false] {
            assert!(overtakes(FRAMES, is_v4, 0, 7, 0));
            assert!(overtakes(FRAMES, is_v4, 4, 7, 14));
            assert!(overtakes(FRAMES, is_v4, 1400, 0, 0));
            assert!(overtakes(FRAMES, is_v4, 1473, 7, 0));
            assert!(overtakes(OrderCheck::datagrams(1500, is_v4), is_v4, 0, 7, 0));
            assert!(overtakes(OrderCheck::datagrams(1500, is_v4), is_v4, 1473, 7, 0));
        }
        assert!(overtakes(OrderCheck::datagrams(1500, true), true, 17, 7, 0));
        assert!(overtakes(OrderCheck::datagrams(1500, false), false, 1453, 7, 0));
    }

    #[test]
    fn options_and_extension_headers_overtake() {
        let (mut options, mut payload) = frame(true, 100, 7);
        options.splice(34..34, [0x94, 4, 0, 0]);
        (options[14], options[17], payload.start) = (0x46, 132, 46);
        assert!(FRAMES.overtakes(&options, payload, true));
        let (mut extended, mut payload) = frame(false, 100, 7);
        extended.splice(54..54, [UDP, 0, 0, 0, 0, 0, 0, 0]);
        (extended[20], extended[19], payload.start) = (0, 116, 70);
        assert!(FRAMES.overtakes(&extended, payload, false));
    }

    #[test]
    fn a_datagram_without_headers_is_judged_by_its_payload() {
        assert!(!FRAMES.overtakes(&[1; 20], Span { start: 0, len: 20 }, true));
        assert!(!FRAMES.overtakes(&[1; 20], Span { start: 0, len: 20 }, false));
    }
}
