//! The frames that taps record: as they arrived where that is possible, or composed.

use crate::engine::ingress::RawFrame;
use crate::packet::{EthernetHeader, FrameTemplate, Headers, PayloadSum, VlanTag};
use crate::tap::RECORD_BYTES;

/// Bytes of the two Ethernet addresses, and of a VLAN tag behind them.
const ADDRESSES: usize = 12;
const TAG: usize = 4;

/// Room for one frame.
pub(super) struct FrameRoom(Box<[u8; RECORD_BYTES + TAG]>);

impl FrameRoom {
    pub(super) fn new() -> Self {
        Self(Box::new([0; RECORD_BYTES + TAG]))
    }

    /// A frame of these headers and this payload; none if that is longer than IP permits.
    pub(super) fn compose(
        &mut self,
        ethernet: EthernetHeader,
        vlan: Option<VlanTag>,
        headers: &Headers,
        payload: &[u8],
    ) -> &[u8] {
        let template = FrameTemplate::new(ethernet, headers);
        let written = template.write(payload, PayloadSum::of(payload), 0, &mut self.0[TAG..]);
        match (written, vlan) {
            (None, _) => &[],
            (Some(len), None) => &self.0[TAG..TAG + len],
            (Some(len), Some(tag)) => {
                self.0.copy_within(TAG..TAG + ADDRESSES, 0);
                self.tag(tag);
                &self.0[..TAG + len]
            }
        }
    }

    /// A frame as it arrived, with the tag that the kernel has taken out, or behind an Ethernet
    /// header if its interface has another one or none.
    pub(super) fn restore<'a>(&'a mut self, raw: &RawFrame<'a>) -> &'a [u8] {
        let RawFrame { bytes, network, vlan, .. } = *raw;
        let Some(network) = network else {
            let Some(tag) = vlan.filter(|_| bytes.len() >= ADDRESSES) else { return bytes };
            self.0[..ADDRESSES].copy_from_slice(&bytes[..ADDRESSES]);
            self.tag(tag);
            return self.append(ADDRESSES + TAG, &bytes[ADDRESSES..]);
        };
        let packet = bytes.get(network..).unwrap_or_default();
        let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
        let ethertype: [u8; 2] = if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        self.0[..ADDRESSES].fill(0);
        self.0[ADDRESSES..ADDRESSES + 2].copy_from_slice(&ethertype);
        self.append(ADDRESSES + 2, packet)
    }

    fn tag(&mut self, VlanTag { tpid, tci }: VlanTag) {
        self.0[ADDRESSES..ADDRESSES + 2].copy_from_slice(&tpid.to_be_bytes());
        self.0[ADDRESSES + 2..ADDRESSES + TAG].copy_from_slice(&tci.to_be_bytes());
    }

    fn append(&mut self, start: usize, bytes: &[u8]) -> &[u8] {
        let len = bytes.len().min(self.0.len() - start);
        self.0[start..start + len].copy_from_slice(&bytes[..len]);
        &self.0[..start + len]
    }
}
