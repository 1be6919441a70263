//! Copies to an interface with a link: contents, order, headers and counters at the other end of a
//! cable, whichever way they leave.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::socket::{MsgFlags, recv};
use proptest::prelude::*;

use super::*;
use crate::addr::Addr;
use crate::engine::egress::tests::{waves, window};
use crate::engine::plan::Way;
use crate::packet::{ChecksumState, Datagram, Discard, FrameMeta, parse};
use crate::sockets::testnet::with_cable;
use crate::spec::{OutputSpec, Ttl};
use bed::*;

mod bed;
mod losses;
mod ways;

#[test]
fn both_families_and_all_sizes_arrive_beside_a_socket() {
    with_cable(|| {
        add_v6_address();
        let other = Addr::v4([239, 2, 0, 9]);
        let outputs = vec![
            plan_output(&spec(V4), 1, Some(7)),
            plan_output(&spec(other), 2, None),
            plan_output(&OutputSpec { dscp: Some(46), ttl: Ttl::Set(5), ..spec(v6()) }, 3, Some(7)),
        ];
        let mut bed = Bed::new(plan(outputs, vec![link(7, SHAPE)]));
        settle_on_xdp(&mut bed);
        assert_eq!([bed.way(0), bed.way(1 + 1)], [Way::Xdp; 2]);
        bed.copies();
        let sizes = [0, 1, 2, 3, 17, 18, 19, 63, 64, 65, 400, 1023, 1399, 1400];
        let payloads = sizes.map(|size| (0..=250_u8).cycle().take(size).collect());
        bed.send(&payloads);
        let copies = bed.copies();
        for group in [V4, other, v6()] {
            assert_same(&payloads_of(&copies, group), &payloads);
        }
        let own = copies.iter().find(|copy| copy.datagram.group == v6()).unwrap();
        assert_eq!((own.datagram.ttl, own.datagram.dscp), (5, 46));
        assert_eq!(own.destination, [0x33, 0x33, 0x80, 0, 0, 1]);
        for slot in 1..4 {
            assert_eq!(bed.counts(slot), [320 + 14, 320 + 14, 0]);
        }
    });
}

#[test]
fn the_checksums_of_frames_are_complete() {
    with_cable(|| {
        add_v6_address();
        let mut bed = Bed::new(plan(
            vec![plan_output(&spec(V4), 1, Some(7)), plan_output(&spec(v6()), 2, Some(7))],
            vec![link(7, SHAPE)],
        ));
        settle_on_xdp(&mut bed);
        bed.copies();
        bed.send(&uneven(3, 64));
        let meta = FrameMeta { vlan: None, checksum: ChecksumState::Unverified, segment_size: 0 };
        let mut bytes = vec![0; 2048];
        let mut verified = 0;
        while let Ok(len) = recv(bed.capture.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            match parse(&bytes[..len], meta) {
                Ok(datagram) => verified += u32::from(datagram.port == 6000),
                Err(reason) => assert_ne!(reason, Discard::BadChecksum),
            }
        }
        assert_eq!(verified, 128);
    });
}

#[test]
fn preserved_fields_are_in_the_frames() {
    with_cable(|| {
        let address = Addr::v4([239, 2, 0, 0]);
        let ranged = OutputSpec { address_bits: 8, ttl: Ttl::Decrement, ..spec(address) };
        let mut bed = Bed::new(plan(vec![plan_output(&ranged, 1, Some(7))], vec![link(7, SHAPE)]));
        settle_on_xdp(&mut bed);
        assert_eq!(bed.way(0), Way::Xdp);
        let group = Addr::v4([239, 2, 0, 7]);
        let copies = bed.copies();
        let (first, last) = (copies.first().unwrap(), copies.last().unwrap());
        assert_eq!((first.datagram.group, first.datagram.ttl), (group, 8));
        assert_eq!(last.destination, [1, 0, 0x5e, 2, 0, 7]);
        let strip = |copy: &Copy| {
            let Datagram { source, group, source_port, port, ttl, dscp, .. } = copy.datagram;
            (source, group, source_port, port, ttl, dscp, copy.destination, copy.source)
        };
        assert_eq!(strip(first), strip(last), "both ways look the same");
        assert_eq!(copies.len(), 320);
    });
}

#[test]
fn an_output_without_a_carrier_loses_its_copies_and_others_do_not() {
    with_cable(|| {
        let other = Addr::v4([239, 2, 0, 9]);
        let mut outputs =
            vec![plan_output(&spec(V4), 1, Some(7)), plan_output(&spec(other), 2, Some(7))];
        let carrier = Arc::new(AtomicBool::new(true));
        outputs[0].carrier = Some(carrier.clone());
        let mut bed = Bed::new(plan(outputs, vec![link(7, SHAPE)]));
        settle_on_xdp(&mut bed);
        bed.copies();
        carrier.store(false, Ordering::Relaxed);
        bed.send(&uneven(1, 40));
        assert_eq!(lost(&mut bed.counters, 1, Loss::NoCarrier), 40);
        assert_eq!(bed.copies().len(), 40);
        assert_eq!(bed.counts(2), [360, 360, 0]);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The shape of a lane counts the batches that sockets would send.
    #[test]
    fn a_shape_counts_batches(
        lens in prop::collection::vec(prop::sample::select(vec![0_u16, 50, 100]), 1..60),
    ) {
        let sent: Vec<_> = lens.iter().map(|len| (1, 9, *len)).collect();
        let mut window = window(&sent, None);
        let shape = LaneShape::of(&window, 0);
        prop_assert_eq!(shape.datagrams as usize, lens.len());
        prop_assert_eq!(shape.longest, lens.iter().copied().max().map_or(0, u32::from));
        prop_assert_eq!(shape.batches as usize, waves(&mut window, None).len());
    }
}
