//! The ring with real sockets on loopback, by io_uring and without.

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::*;

const DATA: usize =
    16 + ReceiveLayout::Datagram.name_bytes() + ReceiveLayout::Datagram.control_bytes();

/// Both kinds of rings.
fn both() -> [FreshRing; 2] {
    [FreshRing::new().unwrap(), FreshRing::by_poll()]
}

/// A ring with `count` buffers that receives what the other socket sends.
fn listening(fresh: FreshRing, count: u16) -> (Ring, UdpSocket, UdpSocket) {
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    let far = UdpSocket::bind("127.0.0.1:0").unwrap();
    far.connect(near.local_addr().unwrap()).unwrap();
    near.connect(far.local_addr().unwrap()).unwrap();
    let mut ring = Ring::begin(fresh).unwrap();
    let pool = ring.add_pool(Buffers::new(2048, count).unwrap()).unwrap();
    ring.receive(near.as_fd(), pool, ReceiveLayout::Datagram, 7).unwrap();
    (ring, near, far)
}

fn uring(ring: &mut Ring) -> &mut IoUring {
    match &mut ring.queue {
        RingQueue::Uring(uring) => uring,
        RingQueue::Poll(_) => panic!("the ring is not by io_uring"),
    }
}

/// Collects `count` payloads, starting the receive again whenever the kernel has ended it.
fn collect(ring: &mut Ring, near: &UdpSocket, count: usize) -> (Vec<Vec<u8>>, usize) {
    let (mut payloads, mut exhausted) = (Vec::new(), 0);
    while payloads.len() < count {
        ring.wait().unwrap();
        let mut again = false;
        while let Some(event) = ring.next_event() {
            match event {
                RingEvent::Received { token, buffer, armed } => {
                    assert_eq!(token, 7);
                    payloads.push(ring.bytes(&buffer)[DATA..].to_vec());
                    ring.give_back(buffer);
                    again |= !armed;
                }
                RingEvent::Ended { errno, .. } => {
                    exhausted += usize::from(errno == libc::ENOBUFS);
                    again = true;
                }
                RingEvent::NotCancelled { .. } => {}
                RingEvent::Woken | RingEvent::Readable { .. } => panic!("nothing is watched"),
            }
        }
        ring.offer_buffers();
        if again {
            ring.receive(near.as_fd(), PoolId(0), ReceiveLayout::Datagram, 7).unwrap();
        }
    }
    (payloads, exhausted)
}

#[test]
fn nothing_is_lost_when_all_buffers_are_in_use() {
    for fresh in both() {
        let (mut ring, near, far) = listening(fresh, 2);
        let sent: Vec<Vec<u8>> = (0..9_u8).map(|n| vec![n; usize::from(n)]).collect();
        for payload in &sent {
            far.send(payload).unwrap();
        }
        let (received, exhausted) = collect(&mut ring, &near, sent.len());
        assert_eq!(received, sent);
        assert!(exhausted > 0);
    }
}

#[test]
fn empty_datagrams_end_a_receive_and_cost_nothing() {
    for fresh in both() {
        let (mut ring, near, far) = listening(fresh, 8);
        for _ in 0..50 {
            far.send(&[]).unwrap();
        }
        assert_eq!(collect(&mut ring, &near, 50).0, vec![Vec::<u8>::new(); 50]);
    }
}

#[test]
fn a_message_is_sent_in_segments_to_every_output() {
    for fresh in both() {
        let (mut ring, near, far) = listening(fresh, 8);
        far.send(b"onetwothr4").unwrap();
        ring.wait().unwrap();
        let Some(RingEvent::Received { buffer, .. }) = ring.next_event() else {
            panic!("no datagram")
        };
        let start = u32::try_from(DATA).unwrap();
        let piece = Piece { buffer: &buffer, start, len: 10 };
        let message = ring.message([piece].into_iter(), 3).unwrap();
        ring.send(near.as_fd(), message, 1, false).unwrap();
        ring.send(near.as_fd(), message, 2, false).unwrap();
        let mut results = Vec::new();
        ring.finish_wave(|token, result| results.push((token, result))).unwrap();
        assert_eq!(results, [(1, 10), (2, 10)]);
        let mut bytes = [0; 64];
        for expected in ["one", "two", "thr", "4", "one", "two", "thr", "4"] {
            let len = far.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..len], expected.as_bytes());
        }
        ring.give_back(buffer);
    }
}

#[test]
fn a_failed_send_cancels_the_rest_of_its_chain_only() {
    for fresh in both() {
        let (mut ring, near, far) = listening(fresh, 8);
        far.send(b"data").unwrap();
        ring.wait().unwrap();
        let Some(RingEvent::Received { buffer, .. }) = ring.next_event() else {
            panic!("no datagram")
        };
        let start = u32::try_from(DATA).unwrap();
        let piece = Piece { buffer: &buffer, start, len: 4 };
        let message = ring.message([piece].into_iter(), 0).unwrap();
        let unconnected = UdpSocket::bind("127.0.0.1:0").unwrap();
        ring.make_room(6).unwrap();
        for (token, socket) in [(0, &near), (1, &unconnected), (2, &near), (3, &near)] {
            ring.send(socket.as_fd(), message, token, token != 3).unwrap();
        }
        ring.send(near.as_fd(), message, 4, true).unwrap();
        ring.send(near.as_fd(), message, 5, false).unwrap();
        let mut results = Vec::new();
        ring.finish_wave(|token, result| results.push((token, result))).unwrap();
        results.sort_unstable();
        let (refused, cancelled) = (-libc::EDESTADDRREQ, -libc::ECANCELED);
        assert_eq!(results, [(0, 4), (1, refused), (2, cancelled), (3, cancelled), (4, 4), (5, 4)]);
        ring.give_back(buffer);
    }
}

#[test]
fn entries_that_need_room_are_submitted_together() {
    let (mut ring, near, far) = listening(FreshRing::new().unwrap(), 8);
    far.send(b"data").unwrap();
    ring.wait().unwrap();
    let Some(RingEvent::Received { buffer, .. }) = ring.next_event() else { panic!("no datagram") };
    let start = u32::try_from(DATA).unwrap();
    let message = ring.message([Piece { buffer: &buffer, start, len: 4 }].into_iter(), 0).unwrap();
    for token in 0..SUBMISSIONS - 1 {
        ring.send(near.as_fd(), message, token, false).unwrap();
    }
    ring.make_room(2).unwrap();
    assert_eq!(uring(&mut ring).submission().len(), 0);
    ring.make_room(2).unwrap();
    ring.finish_wave(|_, result| assert_eq!(result, 4)).unwrap();
    ring.give_back(buffer);
}

#[test]
fn a_piece_outside_its_buffer_makes_no_message() {
    for fresh in both() {
        let (mut ring, _near, far) = listening(fresh, 8);
        far.send(b"abc").unwrap();
        ring.wait().unwrap();
        let Some(RingEvent::Received { buffer, .. }) = ring.next_event() else {
            panic!("no datagram")
        };
        let beyond = u32::try_from(DATA + 4).unwrap();
        for (start, len) in [(u32::MAX, 1), (0, u32::MAX), (beyond, 0)] {
            assert_eq!(ring.message([Piece { buffer: &buffer, start, len }].into_iter(), 0), None);
        }
        ring.give_back(buffer);
    }
}

#[test]
fn a_ring_that_still_listens_is_dropped_at_once() {
    for fresh in both() {
        let (mut ring, near, _far) = listening(fresh, 8);
        ring.receive(near.as_fd(), PoolId(0), ReceiveLayout::Datagram, 8).unwrap();
        ring.poll().unwrap();
        let start = std::time::Instant::now();
        drop(ring);
        assert!(start.elapsed().as_millis() < 500);
    }
}

#[test]
fn a_ring_refuses_other_operations() {
    let (mut ring, near, far) = listening(FreshRing::new().unwrap(), 8);
    let fd = types::Fd(near.as_raw_fd());
    let address = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let refused = [
        opcode::Nop::new().build(),
        opcode::Write::new(fd, [7; 4].as_ptr(), 4).build(),
        opcode::Send::new(fd, [7; 4].as_ptr(), 4).build(),
        opcode::Socket::new(libc::AF_INET, libc::SOCK_DGRAM, 0).build(),
        opcode::Connect::new(fd, &raw const address, 16).build(),
        opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), c"/etc/passwd".as_ptr()).build(),
        opcode::Close::new(fd).build(),
        opcode::PollAdd::new(fd, 1).build().flags(squeue::Flags::ASYNC),
    ];
    for entry in refused {
        ring.push(&entry).unwrap();
        // Submission stops at a refused entry.
        uring(&mut ring).submit_and_wait(1).unwrap();
        let completion = uring(&mut ring).completion().next().unwrap();
        assert_eq!(completion.result(), -libc::EACCES);
    }
    let submitter = uring(&mut ring).submitter();
    assert_eq!(
        submitter.register_files(&[near.as_raw_fd()]).unwrap_err().raw_os_error(),
        Some(libc::EACCES)
    );
    far.send(b"in").unwrap();
    assert_eq!(collect(&mut ring, &near, 1).0, [b"in"]);
}

#[test]
fn without_io_uring_an_event_and_a_cancellation_are_reported() {
    let (mut ring, near, far) = listening(FreshRing::by_poll(), 8);
    let wake = EventFd::from_value_and_flags(1, EfdFlags::EFD_CLOEXEC).unwrap();
    ring.watch(wake.as_fd()).unwrap();
    ring.wait().unwrap();
    assert!(matches!(ring.next_event(), Some(RingEvent::Woken)));
    ring.watch(wake.as_fd()).unwrap();
    ring.poll().unwrap();
    assert!(ring.next_event().is_none(), "the event was read");
    ring.cancel(PoolId(0), 6).unwrap();
    assert!(matches!(ring.next_event(), Some(RingEvent::NotCancelled { token: 6 })));
    ring.cancel(PoolId(0), 7).unwrap();
    ring.wait().unwrap();
    let ended = ring.next_event();
    assert!(matches!(ended, Some(RingEvent::Ended { token: 7, errno: libc::ECANCELED })));
    far.send(b"waits").unwrap();
    ring.wait_for(1000).unwrap();
    assert!(ring.next_event().is_none(), "the receive has ended");
    ring.receive(near.as_fd(), PoolId(0), ReceiveLayout::Datagram, 8).unwrap();
    ring.wait().unwrap();
    let Some(RingEvent::Received { token: 8, buffer, armed: true }) = ring.next_event() else {
        panic!("the datagram has waited in the socket")
    };
    assert_eq!(&ring.bytes(&buffer)[DATA..], b"waits");
}
