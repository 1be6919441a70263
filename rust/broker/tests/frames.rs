//! AF_PACKET sockets and the settings that make frames reach them.

use super::*;
use crate::sockets::packet;
use crate::sockets::provider::{PacketSocketHandle, PacketSocketRequest};
use crate::sys::packet_ring::RingShape;

const SHAPE: RingShape = RingShape { slot_bytes: 2048, slots: 32 };

fn frames(worker: &BrokerClient, group: Addr, ring: Option<RingShape>) -> PacketSocketHandle {
    let blocks = [(group, 0)];
    let wish = PacketSocketRequest { interface: interface(FAR), blocks: &blocks, sockets: 1, ring };
    worker.frames(&wish).unwrap().remove(0)
}

#[test]
fn frames_between_two_incarnations_are_kept_with_and_without_a_ring() {
    with_cable(|| {
        for ring in [None, Some(SHAPE)] {
            let supervisor = TestSupervisor::new(1, Ingress::Packet);
            let (worker, death) = supervisor.worker(0);
            let first = frames(&worker, GROUP, ring);
            assert_eq!(first.ring.is_some(), ring.is_some());
            let sender = sender(GROUP, NEAR);
            death.come();
            drop((first, worker));
            send(&sender, 3);
            let (worker, _) = supervisor.worker(0);
            let again = frames(&worker, GROUP, ring);
            let PacketSocketHandle { socket, ring, lost_frames, .. } = again;
            assert_eq!(lost_frames, 0);
            wait_until("three frames are there", || match &ring {
                Some(ring) => ring.filled() == 3,
                None => packets(&socket) == 3,
            });
            assert_eq!(supervisor.open_sockets(), 1);
        }
    });
}

/// The number of frames given to the socket since the last call.
fn packets(socket: &Socket) -> u32 {
    thread_local!(static SEEN: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
    let mut counts = [0_u32; 2];
    let (level, name) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
    crate::sys::sockopt::get(socket.as_fd(), level, name, &mut counts).unwrap();
    SEEN.set(SEEN.get() + counts[0]);
    SEEN.get()
}

#[test]
fn another_shape_of_ring_takes_another_socket() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Packet);
        let (worker, death) = supervisor.worker(0);
        let first = frames(&worker, GROUP, None);
        death.come();
        drop((first, worker));
        let (worker, _) = supervisor.worker(0);
        let again = frames(&worker, GROUP, Some(SHAPE));
        assert!(again.ring.is_some());
        assert_eq!(supervisor.open_sockets(), 1);
    });
}

#[test]
fn the_filter_is_the_one_that_is_asked_for_now() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Packet);
        let (worker, death) = supervisor.worker(0);
        let first = frames(&worker, GROUP, None);
        death.come();
        drop((first, worker));
        let (worker, _) = supervisor.worker(0);
        let again = frames(&worker, OTHER, None);
        send(&sender(GROUP, NEAR), 1);
        send(&sender(OTHER, NEAR), 2);
        let mut seen = Vec::new();
        wait_until("the frames of the other group are there", || {
            seen.extend(queued(&again.socket));
            seen.len() >= 2
        });
        assert_eq!(seen.len(), 2);
        worker.replace_filter(&again.socket, &[]).unwrap();
        send(&sender(OTHER, NEAR), 1);
        settle();
        assert!(queued(&again.socket).is_empty());
    });
}

#[test]
fn unclaimed_sockets_are_closed_when_released() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Packet);
        let far = interface(FAR);
        let (worker, death) = supervisor.worker(0);
        let kept = frames(&worker, GROUP, None);
        let output = worker.output(OUTPUT, &spec(OTHER, NEAR)).unwrap();
        let helper = worker.gro_helper(GROUP, 5001, &far).unwrap();
        worker.take_all_multicast(&kept.socket, &far, true).unwrap();
        worker.join(&far, GROUP, &[]).unwrap();
        worker.join(&far, OTHER, &[]).unwrap();
        worker.join(&far, OTHER, &[]).unwrap();
        let is_all = || ip(&format!("-d link show {FAR}")).contains("allmulti 1");
        assert!(is_all() && groups(FAR) == 2);
        // One socket holds both memberships.
        assert_eq!(supervisor.open_sockets(), 4);
        death.come();
        drop((kept, output, helper, worker));
        assert_eq!((supervisor.open_sockets(), groups(FAR)), (4, 2));
        let (worker, _) = supervisor.worker(0);
        let _kept = frames(&worker, GROUP, None);
        worker.join(&far, OTHER, &[]).unwrap();
        assert_eq!((supervisor.open_sockets(), groups(FAR)), (4, 2));
        worker.release_unclaimed().unwrap();
        wait_for((2, 1), || (supervisor.open_sockets(), groups(FAR)));
        wait_for(false, is_all);
        worker.leave(far.index, OTHER, &[]);
        wait_for((1, 0), || (supervisor.open_sockets(), groups(FAR)));
    });
}

#[test]
fn a_reused_interface_index_inherits_no_socket() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Packet);
        let (worker, death) = supervisor.worker(0);
        let before = frames(&worker, GROUP, None);
        worker.join(&interface(FAR), GROUP, &[]).unwrap();
        death.come();
        drop((before, worker));
        renew_cable();
        assert_eq!(groups(FAR), 0);
        let (worker, _) = supervisor.worker(0);
        assert_eq!(supervisor.open_sockets(), 0);
        let now = frames(&worker, GROUP, None);
        worker.join(&interface(FAR), GROUP, &[]).unwrap();
        worker.release_unclaimed().unwrap();
        assert_eq!(groups(FAR), 1);
        send(&sender(GROUP, NEAR), 1);
        wait_until("a frame is there", || !queued(&now.socket).is_empty());
    });
}

/// How many of 64 flows, one datagram each, reach each socket; 64 in total.
fn shares(sockets: [&PacketSocketHandle; 2]) -> [usize; 2] {
    let senders: Vec<OutputSocket> = (0..64).map(|_| sender(GROUP, NEAR)).collect();
    senders.iter().for_each(|sender| send(sender, 1));
    let mut seen = [0; 2];
    wait_until("each flow is with one", || {
        for (seen, frames) in seen.iter_mut().zip(sockets) {
            *seen += queued(&frames.socket).len();
        }
        seen[0] + seen[1] >= 64
    });
    assert!(seen[0] > 0 && seen[1] > 0 && seen[0] + seen[1] == 64, "{seen:?}");
    seen
}

#[test]
fn two_workers_share_the_frames_also_after_one_was_replaced() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(2, Ingress::Packet);
        let (first, death) = supervisor.worker(0);
        let (second, _) = supervisor.worker(1);
        let mut sockets = [frames(&first, GROUP, None), frames(&second, GROUP, None)];
        let id = |frames: &PacketSocketHandle| packet::fanout_id(frames.socket.as_fd()).unwrap();
        let group = id(&sockets[0]);
        assert_eq!(id(&sockets[1]), group);
        shares(sockets.each_ref());
        death.come();
        drop(first);
        let (first, _) = supervisor.worker(0);
        // The request is for a ring now, but a new socket would have another place in the group.
        sockets[0] = frames(&first, GROUP, Some(SHAPE));
        assert_eq!(id(&sockets[0]), group);
        shares(sockets.each_ref());
        // While it has one socket, the next has the same place in another group.
        sockets[0] = frames(&first, GROUP, None);
        assert_ne!(id(&sockets[0]), group);
        shares(sockets.each_ref());
        drop(sockets);
        wait_until("all are closed", || supervisor.open_sockets() == 0);
    });
}

/// A socket keeps its share of the flows as long as any worker has a socket in the group.
#[test]
fn the_flows_of_a_worker_do_not_depend_on_the_others() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(2, Ingress::Packet);
        let (first, _) = supervisor.worker(0);
        let (second, _) = supervisor.worker(1);
        let senders: Vec<OutputSocket> = (0..64).map(|_| sender(GROUP, NEAR)).collect();
        let kept = frames(&first, GROUP, None);
        // Alone it gets its share; a datagram that every socket gets marks the end.
        let part = |frames: &PacketSocketHandle| {
            senders.iter().for_each(|sender| send(sender, 1));
            settle();
            queued(&frames.socket).len()
        };
        let before = part(&kept);
        assert!(0 < before && before < 64, "{before}");
        let other = frames(&second, GROUP, None);
        assert_eq!(part(&kept), before);
        assert_eq!(queued(&other.socket).len(), 64 - before);
        drop(other);
        second.release_unclaimed().unwrap();
        assert_eq!(part(&kept), before);
        drop(kept);
        wait_until("all are closed", || supervisor.open_sockets() == 0);
    });
}
