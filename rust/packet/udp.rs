//! The UDP header (RFC 768).

use super::{ChecksumState, Discard, IpHeader, IpPacket, checksum};

/// The length of ports, length and checksum.
pub(super) const HEADER_LEN: u32 = 8;

/// The parsed header.
pub(super) struct UdpHeader {
    pub(super) source_port: u16,
    pub(super) port: u16,
    pub(super) payload_len: u16,
}

/// Reads the header at the start of the network payload. UDP's own length takes precedence over a
/// longer IP payload.
#[inline(always)]
pub(super) fn read<H: IpHeader>(
    network: &IpPacket<'_, H>,
    state: ChecksumState,
) -> Result<UdpHeader, Discard> {
    let header: &[u8; HEADER_LEN as usize] =
        network.payload.first_chunk().ok_or(Discard::BadLength)?;
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let length = field(4);
    let payload_len = length.checked_sub(8).ok_or(Discard::BadLength)?;
    let datagram = network.payload.get(..usize::from(length)).ok_or(Discard::BadLength)?;
    let sound = match (state, field(6)) {
        (ChecksumState::Ignored, _) => true,
        // GRO reports an absent checksum as verified, for IPv6 too. A checksum left to the hardware
        // is never 0: it holds the sum of the addresses.
        (_, 0) => H::CHECKSUM_OPTIONAL,
        (ChecksumState::Trusted, _) => true,
        (ChecksumState::Unverified, _) => {
            checksum::is_udp_valid(network.header.addresses(), datagram)
        }
    };
    if !sound {
        return Err(Discard::BadChecksum);
    }
    Ok(UdpHeader { source_port: field(0), port: field(2), payload_len })
}
