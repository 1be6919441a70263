//! Tunnelled packets whose checksum or segmentation is left to the relay.
#![no_main]

use _native::packet::{Cut, Offload};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Work<'a> {
    found: Option<u16>,
    transport: u16,
    checksum: u16,
    cut: Option<(bool, u16)>,
    room: u16,
    payload: &'a [u8],
}

fuzz_target!(|work: Work<'_>| {
    let offload = match work.found {
        Some(size) => Offload::find(work.payload, size),
        None => Some(Offload {
            transport: work.transport.into(),
            checksum: work.checksum.into(),
            cut: work.cut.map(|(is_tcp, size)| Cut { is_tcp, size }),
        }),
    };
    let mut room = vec![0; work.room.into()];
    let Some(Ok(finished)) = offload.map(|each| each.finish(work.payload, &mut room)) else {
        return;
    };
    let (len, segment) = (finished.len as usize, usize::from(finished.segment));
    assert!(len <= room.len());
    let pieces = if segment == 0 { 1 } else { len.div_ceil(segment) };
    assert_eq!(finished.count as usize, pieces);
});
