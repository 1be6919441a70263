//! Frames in the slots of a packet ring, at the far end of a cable.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::tests::{GROUP, inject, injector, open, udp};
use super::*;
use crate::sockets::testnet::{FAR, NEAR, interface, ip, wait_until, with_cable};
use crate::sys::buffers::Buffer;
use crate::sys::ring::{PoolId, Ring, RingEvent};

const SLOTS: u16 = 32;
/// The offset of the frame in a slot: its IP header is aligned.
const FRAME: usize = 96 - 14;
/// Lengths of the Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 14 + 20 + 8;

/// A ring for datagrams to 239.1.1.1 on the far end, and its reader.
struct Reader {
    fd: OwnedFd,
    packets: Arc<PacketRing>,
    ring: Ring,
    pool: PoolId,
}

impl Reader {
    fn new() -> Self {
        let shape = Some(RingShape { slot_bytes: 2048, slots: SLOTS });
        let blocks = [(GROUP, 0)];
        let socket =
            open(&interface(FAR), &blocks, Fanout::Alone, shape, &mut SpareSockets::default())
                .unwrap();
        let packets = Arc::new(PacketRing::map(socket.fd.as_fd(), socket.ring.unwrap()).unwrap());
        let mut ring = Ring::new().unwrap();
        let pool = ring.add_slots(&packets).unwrap();
        Self { fd: socket.fd, packets, ring, pool }
    }

    /// Simulates a death with unfinished frames; returns the successor and the number of lost
    /// frames.
    fn die(self) -> (Self, u64) {
        let Self { fd, packets, ring, .. } = self;
        drop((packets, ring));
        let shape = RingShape { slot_bytes: 2048, slots: SLOTS };
        let (packets, lost) = PacketRing::take_over(fd.as_fd(), shape).unwrap();
        let packets = Arc::new(packets);
        let mut ring = Ring::new().unwrap();
        let pool = ring.add_slots(&packets).unwrap();
        (Self { fd, packets, ring, pool }, lost)
    }

    fn take(&mut self) -> Option<Buffer> {
        self.ring.take_slot(self.pool, self.fd.as_fd())
    }

    /// Waits for the next frame and takes it.
    fn await_frame(&mut self) -> Buffer {
        let mut taken = None;
        wait_until("a frame is there", || {
            taken = self.take();
            taken.is_some()
        });
        taken.unwrap()
    }

    fn payload(&self, buffer: &Buffer) -> &[u8] {
        &self.ring.bytes(buffer)[FRAME + HEADERS..]
    }

    fn lost(&self) -> u64 {
        self.packets.lost(self.fd.as_fd()).unwrap()
    }
}

fn numbered(number: u16) -> Vec<u8> {
    udp([239, 1, 1, 1], 1, &number.to_be_bytes())
}

#[test]
fn frames_stay_in_order_around_the_ring() {
    with_cable(|| {
        let (mut reader, injector) = (Reader::new(), injector());
        for number in 0..5 * SLOTS {
            inject(&injector, &numbered(number));
            let buffer = reader.await_frame();
            assert_eq!(reader.payload(&buffer), number.to_be_bytes());
            reader.ring.give_back(buffer);
        }
        assert_eq!(reader.lost(), 0);
    });
}

#[test]
fn a_held_slot_is_neither_taken_again_nor_overwritten() {
    with_cable(|| {
        let (mut reader, injector) = (Reader::new(), injector());
        for number in 0..2 * SLOTS {
            inject(&injector, &numbered(number));
        }
        let first = reader.await_frame();
        for number in 1..SLOTS {
            let buffer = reader.await_frame();
            assert_eq!(reader.payload(&buffer), number.to_be_bytes());
            reader.ring.give_back(buffer);
        }
        assert!(reader.take().is_none(), "the next slot is the first one");
        inject(&injector, &numbered(7));
        wait_until("the kernel has met the slot", || reader.lost() > u64::from(SLOTS));
        assert_eq!(reader.payload(&first), [0, 0]);
        reader.ring.give_back(first);
        inject(&injector, &numbered(9));
        let buffer = reader.await_frame();
        assert_eq!(reader.payload(&buffer), 9_u16.to_be_bytes());
        reader.ring.give_back(buffer);
        assert_eq!(reader.lost(), u64::from(SLOTS) + 1, "what is read is not forgotten");
    });
}

#[test]
fn a_frame_longer_than_its_slot_arrives_whole_and_in_order() {
    with_cable(|| {
        ip_mtu(9000);
        let (mut reader, injector) = (Reader::new(), injector());
        let long = vec![7; 5000];
        for _ in 0..20 {
            inject(&injector, &numbered(1));
            inject(&injector, &udp([239, 1, 1, 1], 1, &long));
            inject(&injector, &numbered(2));
            for expected in [&[0, 1][..], &long, &[0, 2]] {
                let buffer = reader.await_frame();
                assert!(reader.payload(&buffer) == expected);
                reader.ring.give_back(buffer);
            }
        }
    });
}

#[test]
fn long_frames_wait_for_room_and_lose_none() {
    with_cable(|| {
        ip_mtu(9000);
        let (mut reader, injector) = (Reader::new(), injector());
        for number in 0..20_u8 {
            inject(&injector, &udp([239, 1, 1, 1], 1, &[number; 4000]));
        }
        let mut next = 0;
        while next < 20 {
            let mut held = vec![reader.await_frame()];
            held.extend(std::iter::from_fn(|| reader.take()));
            assert!(held.len() <= 8);
            for buffer in held {
                assert!(reader.payload(&buffer) == [next; 4000], "frame {next}");
                reader.ring.give_back(buffer);
                next += 1;
            }
        }
    });
}

#[test]
fn a_ring_has_one_reader_at_a_time() {
    with_cable(|| {
        let (mut reader, injector) = (Reader::new(), injector());
        assert!(Ring::new().unwrap().add_slots(&reader.packets).is_err());
        inject(&injector, &numbered(1));
        let buffer = reader.await_frame();
        reader.ring.give_back(buffer);
        reader.ring.remove_slots(reader.pool);
        inject(&injector, &numbered(2));
        reader.ring = Ring::new().unwrap();
        reader.pool = reader.ring.add_slots(&reader.packets).unwrap();
        let buffer = reader.await_frame();
        assert_eq!(reader.payload(&buffer), [0, 2], "it goes on where the other stopped");
        reader.ring.give_back(buffer);
    });
}

#[test]
fn a_watched_ring_reports_the_next_frame_and_its_end() {
    with_cable(|| {
        let (mut reader, injector) = (Reader::new(), injector());
        reader.ring.watch_slots(reader.fd.as_fd(), 5).unwrap();
        inject(&injector, &numbered(1));
        reader.ring.wait().unwrap();
        let event = reader.ring.next_event();
        assert!(
            matches!(event, Some(RingEvent::Readable { token: 5, failed: false })),
            "{event:?}"
        );
        let buffer = reader.await_frame();
        reader.ring.give_back(buffer);
        reader.ring.watch_slots(reader.fd.as_fd(), 6).unwrap();
        reader.ring.unwatch_slots(6).unwrap();
        reader.ring.wait().unwrap();
        let event = reader.ring.next_event();
        assert!(matches!(event, Some(RingEvent::Readable { token: 6, .. })), "{event:?}");
    });
}

#[test]
fn a_successor_reads_on_at_the_position_of_the_dead_reader() {
    with_cable(|| {
        let (mut reader, injector) = (Reader::new(), injector());
        let mut number = 0;
        for (taken, given_back, waiting) in [
            (0, 0, 0),
            (3, 3, 0),
            (5, 5, 7),
            (6, 2, 0),
            (20, 13, 9),
            (1, 0, SLOTS - 1),
            (0, 0, SLOTS),
        ] {
            for _ in 0..taken + waiting {
                inject(&injector, &numbered(number));
                number += 1;
            }
            let mut held: Vec<Buffer> = (0..taken).map(|_| reader.await_frame()).collect();
            for buffer in held.drain(..usize::from(given_back)) {
                reader.ring.give_back(buffer);
            }
            wait_until("all frames are there", || reader.packets.filled() == usize::from(waiting));
            let (next, lost) = reader.die();
            reader = next;
            assert_eq!(lost, u64::from(taken - given_back));
            // The waiting frames, then one round of the ring: none is lost or duplicated.
            for expected in number - waiting..number + SLOTS {
                if expected >= number {
                    inject(&injector, &numbered(expected));
                }
                let buffer = reader.await_frame();
                assert_eq!(reader.payload(&buffer), expected.to_be_bytes());
                reader.ring.give_back(buffer);
            }
            number += SLOTS;
            assert!(reader.take().is_none());
        }
        assert_eq!(reader.lost(), 0, "the kernel found a slot for each");
    });
}

#[test]
fn frames_in_an_empty_ring_after_takeover_are_in_order() {
    with_cable(|| {
        for begin in 0..SLOTS {
            let (mut reader, injector) = (Reader::new(), injector());
            for number in 0..begin {
                inject(&injector, &numbered(number));
                let buffer = reader.await_frame();
                reader.ring.give_back(buffer);
            }
            let (mut reader, lost) = reader.die();
            assert!(lost == 0 && !reader.ring.has_frame(reader.pool));
            for number in 0..5_u16 {
                inject(&injector, &numbered(number));
            }
            wait_until("all frames are there", || reader.packets.filled() == 5);
            assert!(reader.ring.has_frame(reader.pool));
            for number in 0..5_u16 {
                let buffer = reader.await_frame();
                assert_eq!(reader.payload(&buffer), number.to_be_bytes());
                reader.ring.give_back(buffer);
            }
        }
    });
}

#[test]
fn long_frames_stay_in_their_places_when_a_ring_is_taken_over() {
    with_cable(|| {
        ip_mtu(9000);
        let (mut reader, injector) = (Reader::new(), injector());
        let long = |number| udp([239, 1, 1, 1], 1, &[number; 4000]);
        for number in 0..4 {
            inject(&injector, &long(number));
        }
        let _held = reader.await_frame();
        wait_until("three frames wait", || reader.packets.filled() == 3);
        let (mut reader, lost) = reader.die();
        assert_eq!(lost, 0, "it was fetched into memory of the dead one");
        for number in 1..4 {
            let buffer = reader.await_frame();
            assert!(reader.payload(&buffer) == [number; 4000]);
            reader.ring.give_back(buffer);
        }
        // A process that dies over a possibly fetched frame leaves none behind.
        for number in 4..7 {
            inject(&injector, &long(number));
        }
        inject(&injector, &numbered(9));
        wait_until("four frames wait", || reader.packets.filled() == 4);
        reader.packets.hold(4);
        let (mut reader, lost) = reader.die();
        assert_eq!(lost, 3);
        inject(&injector, &long(8));
        for expected in [&9_u16.to_be_bytes()[..], &[8; 4000]] {
            let buffer = reader.await_frame();
            assert!(reader.payload(&buffer) == expected);
            reader.ring.give_back(buffer);
        }
    });
}

fn ip_mtu(mtu: u16) {
    for name in [NEAR, FAR] {
        ip(&format!("link set {name} mtu {mtu}"));
    }
}
