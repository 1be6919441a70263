//! Writing of complete Ethernet frames around payloads: headers, lengths and all checksums, for
//! copies that bypass the kernel's network stack.
//!
//! What all frames of an output have in common is written and summed once, in a template. What all
//! copies of a datagram have in common, the sum of its payload, is computed once per datagram.

use super::checksum;
use super::compose::Headers;
use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, UDP};
use crate::addr::Addr;

/// The length of the Ethernet header.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP_HEADER: usize = 8;
const V4: usize = ETHERNET + IPV4 + UDP_HEADER;
const V6: usize = ETHERNET + IPV6 + UDP_HEADER;

/// The addresses of an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetHeader {
    /// The destination address.
    pub destination: [u8; 6],
    /// The source address.
    pub source: [u8; 6],
}

/// The Ethernet address of a multicast group (RFC 1112, 6.4; RFC 2464, 7).
#[must_use]
pub const fn group_mac(group: Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.bits().to_be_bytes();
    if group.is_v4() { [0x01, 0x00, 0x5e, b & 0x7f, c, d] } else { [0x33, 0x33, a, b, c, d] }
}

/// The Internet checksum of a payload, not folded.
#[derive(Clone, Copy, Debug)]
pub struct PayloadSum(u64);

impl PayloadSum {
    /// Sums a payload.
    #[inline]
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        Self(checksum::sum(payload))
    }
}

/// The headers of an output's frames, complete except for what depends on the payload.
#[derive(Clone, Debug)]
pub struct FrameTemplate {
    headers: [u8; V6],
    is_v4: bool,
    /// The sums of the IPv4 header, and of UDP's header and pseudo header, without lengths and
    /// identification.
    ip_sum: u64,
    udp_sum: u64,
}

impl FrameTemplate {
    /// Creates the template of frames with these headers.
    #[must_use]
    pub fn new(ethernet: EthernetHeader, headers: &Headers) -> Self {
        let is_v4 = headers.destination.is_v4();
        let ethertype = if is_v4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        let mut bytes = [0; V6];
        bytes[..6].copy_from_slice(&ethernet.destination);
        bytes[6..12].copy_from_slice(&ethernet.source);
        bytes[12..ETHERNET].copy_from_slice(&ethertype.to_be_bytes());
        let udp = if is_v4 {
            bytes[ETHERNET..ETHERNET + IPV4].copy_from_slice(&headers.fragmentable_ipv4());
            ETHERNET + IPV4
        } else {
            bytes[ETHERNET..ETHERNET + IPV6].copy_from_slice(&headers.ipv6(0));
            ETHERNET + IPV6
        };
        bytes[udp..udp + 2].copy_from_slice(&headers.source_port.to_be_bytes());
        bytes[udp + 2..udp + 4].copy_from_slice(&headers.port.to_be_bytes());
        let addresses = if is_v4 { udp - 8 } else { udp - 32 };
        Self {
            headers: bytes,
            is_v4,
            ip_sum: checksum::sum(&bytes[ETHERNET..udp]),
            udp_sum: checksum::sum(&bytes[addresses..udp + UDP_HEADER])
                + checksum::pseudo_header(0, UDP),
        }
    }

    /// The length of the headers in bytes.
    #[inline]
    #[must_use]
    pub const fn header_bytes(&self) -> usize {
        if self.is_v4 { V4 } else { V6 }
    }

    /// Writes the frame of `payload`, whose sum is `sum`, to the start of `place`; returns its
    /// length in bytes, or `None` if it does not fit. `identification` is for IPv4 only.
    #[inline]
    pub fn write(
        &self,
        payload: &[u8],
        sum: PayloadSum,
        identification: u16,
        place: &mut [u8],
    ) -> Option<usize> {
        let udp_len = u16::try_from(UDP_HEADER + payload.len()).ok()?;
        let len = self.header_bytes() + payload.len();
        let (head, body) = place.get_mut(..len)?.split_at_mut_checked(self.header_bytes())?;
        // UDP's length counts twice: in its header and in the pseudo header.
        let udp_sum = self.udp_sum + sum.0 + 2 * u64::from(udp_len.to_be());
        let udp_checksum = checksum::not_zero(checksum::complement(udp_sum));
        if self.is_v4 {
            let head: &mut [u8; V4] = head.first_chunk_mut()?;
            let ip_len = u16::try_from(IPV4 + UDP_HEADER + payload.len()).ok()?;
            let ip_sum =
                self.ip_sum + u64::from(ip_len.to_be()) + u64::from(identification.to_be());
            head.copy_from_slice(&self.headers[..V4]);
            head[16..18].copy_from_slice(&ip_len.to_be_bytes());
            head[18..20].copy_from_slice(&identification.to_be_bytes());
            head[24..26].copy_from_slice(&checksum::complement(ip_sum));
            head[38..40].copy_from_slice(&udp_len.to_be_bytes());
            head[40..].copy_from_slice(&udp_checksum);
        } else {
            let head: &mut [u8; V6] = head.first_chunk_mut()?;
            head.copy_from_slice(&self.headers);
            head[18..20].copy_from_slice(&udp_len.to_be_bytes());
            head[58..60].copy_from_slice(&udp_len.to_be_bytes());
            head[60..].copy_from_slice(&udp_checksum);
        }
        body.copy_from_slice(payload);
        Some(len)
    }
}
