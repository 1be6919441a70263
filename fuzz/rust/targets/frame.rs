//! Any frame of any kind of interface: a datagram within the frame, or a reason. An Ethernet frame is
//! what etherparse finds in it, too.
#![no_main]

#[path = "../../../tests/rust/oracle.rs"]
mod oracle;

use _native::packet::{ChecksumState, FrameMeta, LinkType, VlanTag, destination, parse_of};
use arbitrary::Arbitrary;
use etherparse::{NetSlice, SlicedPacket};
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
    let bytes = with_header_checksum(frame.bytes);
    if let Err(difference) = oracle::compare(&bytes) {
        panic!("{difference}");
    }
});

/// The frame with a valid checksum in its IPv4 header, which random bytes hardly ever have.
fn with_header_checksum(frame: &[u8]) -> Vec<u8> {
    let mut mended = frame.to_vec();
    let packet = SlicedPacket::from_ethernet(frame).ok();
    if let Some(NetSlice::Ipv4(ip)) = packet.and_then(|packet| packet.net) {
        let sum = oracle::header_checksum(ip.header().slice());
        let at = ip.header().slice().as_ptr().addr() - frame.as_ptr().addr() + 10;
        mended[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    mended
}
