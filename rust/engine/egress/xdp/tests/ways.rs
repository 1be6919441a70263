//! The choice between socket and link: the way changes in both directions, and the order stays.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::bed::*;
use crate::engine::plan::{Way, XdpLink, XdpOutput};
use crate::packet::Datagram;
use crate::sockets::testnet::{NEAR, interface, wait_until, with_cable};
use crate::stats::output;
use crate::sys::xdp_socket;

#[test]
fn uneven_datagrams_move_to_the_link_and_even_ones_back_in_order() {
    with_cable(|| {
        let mut bed =
            Bed::new(plan(vec![plan_output(&spec(V4), 1, Some(7))], vec![link(7, SHAPE)]));
        let mut sent = settle_on_xdp(&mut bed);
        assert_eq!(bed.way(0), Way::Xdp);
        let even: Vec<_> = (0..60).map(|number| vec![number; 100]).collect();
        for _ in 0..10 {
            bed.send(&even);
            sent.extend(even.clone());
        }
        assert_eq!(bed.way(0), Way::Socket);
        let again = settle_on_xdp(&mut bed);
        assert_eq!(bed.way(0), Way::Xdp);
        sent.extend(again);
        let copies = bed.copies();
        assert_same(&payloads_of(&copies, V4), &sent);
        // Both ways look the same.
        for copy in &copies {
            let Datagram { source, source_port, ttl, dscp, .. } = copies[0].datagram;
            let other = copy.datagram;
            assert_eq!((other.source, other.source_port), (source, source_port));
            assert_eq!((other.ttl, other.dscp), (ttl, dscp));
            assert_eq!((copy.destination, copy.source), ([1, 0, 0x5e, 2, 0, 1], mac(NEAR)));
        }
        assert_eq!(bed.counts(1), [sent.len() as u64, sent.len() as u64, 0]);
        let bytes: usize = sent.iter().map(Vec::len).sum();
        assert_eq!(bed.counters.slot(1)[output::SENT_BYTES], bytes as u64);
    });
}

#[test]
fn a_few_datagrams_in_a_turn_change_nothing() {
    with_cable(|| {
        let mut bed =
            Bed::new(plan(vec![plan_output(&spec(V4), 1, Some(7))], vec![link(7, SHAPE)]));
        for number in 0..60 {
            bed.send(&uneven(number, 15));
        }
        assert_eq!(bed.way(0), Way::Socket);
        assert_eq!(bed.copies().len(), 900);
    });
}

#[test]
fn a_datagram_that_fits_no_frame_sends_the_output_back_to_its_socket() {
    with_cable(|| {
        let mut bed =
            Bed::new(plan(vec![plan_output(&spec(V4), 1, Some(7))], vec![link(7, SHAPE)]));
        let mut sent = settle_on_xdp(&mut bed);
        assert_eq!(bed.way(0), Way::Xdp);
        let long = vec![vec![1; 10], vec![2; 1401], vec![3; 10]];
        bed.send(&long);
        sent.extend(long);
        assert_eq!(bed.way(0), Way::Socket);
        sent.extend(settle_on_xdp(&mut bed));
        assert_eq!(bed.way(0), Way::Socket, "it stays there for a while");
        bed.counters.set_time(60_000);
        sent.extend(settle_on_xdp(&mut bed));
        assert_eq!(bed.way(0), Way::Xdp);
        assert_same(&payloads_of(&bed.copies(), V4), &sent);
        assert_eq!(bed.counts(1), [sent.len() as u64, sent.len() as u64, 0]);
    });
}

#[test]
fn a_closed_link_is_left_at_once_and_a_forced_one_used_for_batches() {
    with_cable(|| {
        let mut outputs = vec![plan_output(&spec(V4), 1, Some(7))];
        let mut bed = Bed::new(plan(outputs.clone_all(), vec![link(7, SHAPE)]));
        let mut sent = settle_on_xdp(&mut bed);
        let xdp = bed.plan.share(0)[0].xdp.clone().unwrap();
        xdp.is_open.store(false, Ordering::Relaxed);
        sent.extend(settle_on_xdp(&mut bed));
        assert_eq!(bed.way(0), Way::Socket);
        let known = outputs[0].xdp.take().unwrap();
        let forced = XdpOutput::new(7, known.ethernet, known.headers, known.max_payload, true);
        outputs[0].xdp = Some(Arc::new(forced));
        let links = bed.plan.links.to_vec();
        bed.adopt(plan(outputs, links));
        let even = vec![vec![9; 100]; 40];
        bed.send(&even);
        sent.extend(even);
        assert_eq!(bed.way(0), Way::Xdp);
        assert_same(&payloads_of(&bed.copies(), V4), &sent);
        assert_eq!(bed.counts(1), [sent.len() as u64, sent.len() as u64, 0]);
    });
}

#[test]
fn a_plan_without_the_link_returns_to_sockets_and_another_link_takes_over() {
    with_cable(|| {
        let outputs = vec![plan_output(&spec(V4), 1, Some(7))];
        let first = link(7, SHAPE);
        let descriptors = Arc::downgrade(&first.socket);
        let mut bed = Bed::new(plan(outputs.clone_all(), vec![first]));
        let mut sent = settle_on_xdp(&mut bed);
        let mut without = outputs.clone_all();
        without[0].xdp = None;
        bed.adopt(plan(without, Vec::new()));
        assert!(descriptors.upgrade().is_none(), "the engine keeps no socket of old plans");
        sent.extend(settle_on_xdp(&mut bed));
        let known = outputs[0].xdp.as_ref().unwrap();
        let moved = XdpOutput::new(8, known.ethernet, known.headers, known.max_payload, false);
        let mut moving = outputs.clone_all();
        moving[0].xdp = Some(Arc::new(moved));
        // The kernel releases the queue of a closed socket later.
        let mut opened = None;
        wait_until("the queue is free", || {
            opened = xdp_socket::open(interface(NEAR).index, 0, SHAPE).ok();
            opened.is_some()
        });
        let opened = opened.unwrap();
        let socket = Arc::new(opened.socket.into());
        let second = XdpLink { id: 8, socket, umem: Arc::new(opened.umem), shape: SHAPE };
        bed.adopt(plan(moving, vec![second]));
        sent.extend(settle_on_xdp(&mut bed));
        assert_eq!(bed.way(0), Way::Xdp);
        assert_same(&payloads_of(&bed.copies(), V4), &sent);
        assert_eq!(bed.counts(1), [sent.len() as u64, sent.len() as u64, 0]);
    });
}
