//! Copies that a link cannot send: each is counted, and none leaves later.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::bed::*;
use crate::engine::plan::{Plan, Way};
use crate::sockets::provider::Socket;
use crate::sockets::testnet::{NEAR, ip, wait_until, with_cable};
use crate::stats::{Loss, Slot};
use crate::sys::xdp_socket::XdpShape;

#[test]
fn a_link_that_is_down_loses_what_it_holds() {
    with_cable(|| {
        let shape = XdpShape { frames: 8, ..SHAPE };
        let mut bed =
            Bed::new(plan(vec![plan_output(&spec(V4), 1, Some(7))], vec![link(7, shape)]));
        let sent = settle_on_xdp(&mut bed).len() as u64;
        assert_eq!(bed.way(0), Way::Xdp);
        assert_eq!(bed.counts(1), [sent, sent, 0], "it is emptied as often as needed");
        bed.copies();
        ip(&format!("link set {NEAR} down"));
        bed.send(&uneven(1, 40));
        let [wanted, now_sent, dropped] = bed.counts(1);
        assert_eq!((wanted, now_sent, dropped), (sent + 40, sent, 40));
        let no_carrier = lost(&mut bed.counters, 1, Loss::NoCarrier);
        assert_eq!(no_carrier, 40);
        ip(&format!("link set {NEAR} up"));
        wait_until("the cable is up", || ip(&format!("-o link show {NEAR}")).contains("state UP"));
        bed.send(&uneven(2, 5));
        assert_same(&payloads_of(&bed.copies(), V4), &uneven(2, 5));
    });
}

/// A socket whose every send is refused, like an AF_XDP socket whose driver is full.
fn stuck_socket() -> (Arc<Socket>, OwnedFd) {
    let (near, far) = UnixDatagram::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    while near.send(b"").is_ok() {}
    (Arc::new(OwnedFd::from(near).into()), far.into())
}

#[test]
fn frames_wait_for_a_driver_that_is_full_and_no_way_changes_meanwhile() {
    with_cable(|| {
        let mut bed =
            Bed::new(plan(vec![plan_output(&spec(V4), 1, Some(7))], vec![link(7, SHAPE)]));
        let before = settle_on_xdp(&mut bed).len() as u64;
        bed.copies();
        let (stuck, _far) = stuck_socket();
        let socket = bed.egress.xdp.links.replace_socket(0, stuck.clone());
        let even = vec![vec![1; 100]; 64];
        for _ in 0..6 {
            bed.send(&even);
        }
        assert_eq!(bed.way(0), Way::Xdp);
        assert!(bed.egress.has_waiting());
        assert_eq!(bed.counts(1), [before + 384, before, 128], "as many wait as there are frames");
        assert_eq!(lost(&mut bed.counters, 1, Loss::OutputFull), 128);
        bed.egress.xdp.links.replace_socket(0, socket);
        bed.send(&[]);
        assert_eq!(bed.counts(1), [before + 384, before + 256, 128]);
        assert_same(&payloads_of(&bed.copies(), V4), &vec![vec![1; 100]; 256]);
        bed.send(&even);
        assert_eq!(bed.way(0), Way::Socket);
        assert_same(&payloads_of(&bed.copies(), V4), &even);
    });
}

#[test]
fn frames_that_a_driver_never_takes_are_counted_when_their_output_or_the_engine_ends() {
    with_cable(|| {
        let outputs = vec![plan_output(&spec(V4), 1, Some(7))];
        let mut bed = Bed::new(plan(outputs.clone_all(), vec![link(7, SHAPE)]));
        let before = settle_on_xdp(&mut bed).len() as u64;
        bed.copies();
        let (stuck, _far) = stuck_socket();
        let socket = bed.egress.xdp.links.replace_socket(0, stuck.clone());
        bed.send(&uneven(1, 40));
        let links = bed.plan.links.to_vec();
        let released = vec![Slot { index: 9, generation: 1 }];
        bed.adopt(Plan { released, ..plan(outputs, links) });
        assert_eq!(bed.counts(1), [before + 40, before, 40]);
        bed.send(&uneven(2, 30));
        assert_eq!(bed.counts(1), [before + 70, before, 40]);
        bed.finish();
        assert_eq!(bed.counts(1), [before + 70, before, 70]);
        bed.egress.xdp.links.replace_socket(0, socket);
        bed.send(&uneven(3, 20));
        assert_same(&payloads_of(&bed.copies(), V4), &uneven(3, 20));
    });
}

/// Its copies may not wait, nor take the socket, where they would overtake its frames.
#[test]
fn an_output_that_must_leave_a_full_link_loses_copies_and_overtakes_none() {
    with_cable(|| {
        let outputs = vec![plan_output(&spec(V4), 1, Some(7))];
        let is_open = |open| {
            let xdp = outputs[0].xdp.as_ref().unwrap();
            xdp.is_open.store(open, Ordering::Relaxed);
        };
        let mut bed = Bed::new(plan(outputs.clone_all(), vec![link(7, SHAPE)]));
        let before = settle_on_xdp(&mut bed).len() as u64;
        bed.copies();
        let (stuck, _far) = stuck_socket();
        let socket = bed.egress.xdp.links.replace_socket(0, stuck);
        let mut held = uneven(201, 3);
        bed.send(&held);
        is_open(false);
        let mut lost_copies = 0;
        let start = Instant::now();
        while lost_copies == 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "it was never stopped");
            let payloads = uneven(u8::try_from(held.len() % 200).unwrap(), 2);
            bed.counters.set_time(start.elapsed().as_millis().try_into().unwrap());
            bed.send(&payloads);
            lost_copies = lost(&mut bed.counters, 1, Loss::OutputFull);
            held.extend(payloads);
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!((bed.way(0), lost_copies), (Way::Xdp, 2));
        held.truncate(held.len() - 2);
        bed.egress.xdp.links.replace_socket(0, socket);
        bed.send(&uneven(250, 5));
        assert_eq!(bed.way(0), Way::Socket);
        held.extend(uneven(250, 5));
        assert_same(&payloads_of(&bed.copies(), V4), &held);
        let sent = before + held.len() as u64;
        assert_eq!(bed.counts(1), [sent + 2, sent, 2]);
        is_open(true);
        settle_on_xdp(&mut bed);
        assert_eq!(bed.way(0), Way::Xdp, "it returns");
    });
}

#[test]
fn an_ending_engine_counts_all_frames() {
    with_cable(|| {
        let mut bed =
            Bed::new(plan(vec![plan_output(&spec(V4), 1, Some(7))], vec![link(7, SHAPE)]));
        settle_on_xdp(&mut bed);
        bed.finish();
        assert!(!bed.egress.has_waiting());
        bed.check_balance();
    });
}
