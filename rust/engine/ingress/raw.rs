//! A frame as it arrived, also if there is no datagram in it.

use crate::addr::Addr;
use crate::packet::{self, EthernetHeader, VlanTag};

/// A frame in a buffer, as the kernel delivered it.
#[derive(Clone, Copy, Debug)]
pub struct RawFrame<'a> {
    /// From the link header on.
    pub bytes: &'a [u8],
    /// The offset of the network header in bytes; `None` for an Ethernet frame.
    pub network: Option<usize>,
    /// The tag that the kernel has taken out of the frame.
    pub vlan: Option<VlanTag>,
    /// When the kernel received it, in nanoseconds since 1970; 0 if it has not told.
    pub arrived_ns: u64,
}

impl RawFrame<'_> {
    /// Its Ethernet addresses; `None` if it has none.
    #[must_use]
    pub fn ethernet(&self) -> Option<EthernetHeader> {
        let addresses: &[u8; 12] = self.bytes.first_chunk().filter(|_| self.network.is_none())?;
        let (&destination, source) = addresses.split_first_chunk()?;
        Some(EthernetHeader { destination, source: *source.first_chunk()? })
    }

    /// The destination address, whatever else may be wrong with the packet.
    #[must_use]
    pub fn destination(&self) -> Option<Addr> {
        packet::destination(self.bytes, self.network)
    }
}
