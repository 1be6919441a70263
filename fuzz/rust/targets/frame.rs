//! Any frame of any kind of interface: a datagram within the frame, or a reason.
#![no_main]

use _native::packet::{ChecksumState, FrameMeta, LinkType, VlanTag, destination, parse_of};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Frame<'a> {
    is_ethernet: bool,
    network: u16,
    vlan: Option<(u16, u16)>,
    checksum: u8,
    segment_size: u16,
    bytes: &'a [u8],
}

fuzz_target!(|frame: Frame<'_>| {
    let checksum = match frame.checksum % 3 {
        0 => ChecksumState::Unverified,
        1 => ChecksumState::Trusted,
        _ => ChecksumState::Ignored,
    };
    let vlan = frame.vlan.map(|(tpid, tci)| VlanTag { tpid, tci });
    let meta = FrameMeta { vlan, checksum, segment_size: frame.segment_size };
    let link = if frame.is_ethernet { LinkType::Ethernet } else { LinkType::Other };
    let _ = destination(frame.bytes, (!frame.is_ethernet).then_some(frame.network.into()));
    if let Ok(datagram) = parse_of(link, frame.bytes, meta, || frame.network) {
        let start = datagram.payload.start as usize;
        assert!(frame.bytes.get(start..start + datagram.payload.len as usize).is_some());
    }
});
