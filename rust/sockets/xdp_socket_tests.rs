//! AF_XDP sockets that send on a cable between two interfaces: what the other end receives.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{MsgFlags, recv};
use socket2::{SockRef, Socket, Type};

use super::testnet::{FAR, NEAR, interface, ip, wait_until, with_cable};
use crate::sys::sockaddr::bind_link_layer;
use crate::sys::xdp_socket::{FrameFate, XdpDescriptors, XdpSender, XdpShape, open};

const SHAPE: XdpShape = XdpShape { frames: 64, frame_bytes: 2048 };

/// Whether the driver is done with all frames.
fn is_drained(sender: &mut XdpSender) -> bool {
    let last = sender.position();
    sender.has_passed(last)
}

/// The two ends of a cable: a sender on one, a socket that captures frames on the other.
struct Cable {
    descriptors: XdpDescriptors,
    sender: XdpSender,
    capture: OwnedFd,
}

impl Cable {
    fn new(shape: XdpShape) -> Self {
        let [near, far] = [NEAR, FAR].map(|name| interface(name).index);
        let kind = Type::from(libc::SOCK_RAW).cloexec();
        let capture = OwnedFd::from(Socket::new_raw(libc::AF_PACKET.into(), kind, None).unwrap());
        SockRef::from(&capture).set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        bind_link_layer(capture.as_fd(), far.try_into().unwrap()).unwrap();
        let descriptors = open(near, 0, shape).unwrap();
        let (socket, umem) = (descriptors.socket.as_fd(), descriptors.umem.as_fd());
        let sender = XdpSender::map(socket, umem, shape).unwrap();
        Self { descriptors, sender, capture }
    }

    /// Queues a frame with this number and length; its number is its tag.
    fn push(&mut self, number: u32, len: usize) -> bool {
        let frame = frame(number, len);
        self.sender.push(number.into(), |place| {
            place.get_mut(..len)?.copy_from_slice(&frame);
            Some(len)
        })
    }

    /// Flushes; returns the result, and the tag and fate of each frame that was taken.
    fn flush(&mut self) -> (io::Result<()>, Vec<(u64, FrameFate)>) {
        let mut taken = Vec::new();
        let socket = self.descriptors.socket.as_fd();
        (self.sender.flush(socket, |tag, fate| taken.push((tag, fate))), taken)
    }

    /// The next frame of [`frame`] that arrives.
    fn received(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        loop {
            let len = recv(self.capture.as_raw_fd(), &mut bytes, MsgFlags::empty()).unwrap();
            if bytes[12..14] == ETHERTYPE {
                return bytes[..len].to_vec();
            }
        }
    }

    fn drain(&mut self) {
        wait_until("the driver is done with all frames", || is_drained(&mut self.sender));
    }
}

/// For experiments (IEEE 802).
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &[2; 6], &ETHERTYPE, &number.to_be_bytes()].concat();
    frame.resize(len, number.to_be_bytes()[3]);
    frame
}

fn sent(tags: std::ops::Range<u64>) -> Vec<(u64, FrameFate)> {
    tags.map(|tag| (tag, FrameFate::Sent)).collect()
}

#[test]
fn frames_arrive_in_order_and_are_taken_once() {
    with_cable(|| {
        let mut cable = Cable::new(SHAPE);
        let mut number = 0;
        for len in [60, 61, 400, 1514] {
            // More than the kernel's default budget, and more than the frames in total.
            let first = number;
            for _ in 0..40 {
                assert!(cable.push(number, len));
                number += 1;
            }
            assert_eq!(cable.sender.waiting(), 40);
            let (result, taken) = cable.flush();
            result.unwrap();
            assert_eq!(taken, sent(first.into()..number.into()));
            for number in first..number {
                assert_eq!(cable.received(), frame(number, len));
            }
        }
        assert!(cable.flush().1.is_empty());
        cable.drain();
    });
}

#[test]
fn a_full_ring_takes_no_frame_until_the_kernel_has_taken_some() {
    with_cable(|| {
        let mut cable = Cable::new(XdpShape { frames: 8, ..SHAPE });
        assert!(!is_drained(&mut cable.sender) || cable.sender.waiting() == 0);
        for number in 0..8 {
            assert!(cable.push(number, 60));
        }
        assert!(!cable.push(8, 60));
        assert_eq!(cable.sender.waiting(), 8);
        let (result, taken) = cable.flush();
        result.unwrap();
        assert_eq!(taken, sent(0..8));
        cable.drain();
        assert!(cable.push(8, 60));
        assert!(!is_drained(&mut cable.sender));
        cable.flush().0.unwrap();
        assert_eq!(cable.flush().1, []);
        let numbers = (0..9).map(|_| cable.received()[17]).collect::<Vec<_>>();
        assert_eq!(numbers, (0..9).collect::<Vec<_>>());
    });
}

#[test]
fn a_frame_that_was_not_written_is_not_queued() {
    with_cable(|| {
        let mut cable = Cable::new(SHAPE);
        assert!(!cable.sender.push(1, |_| None));
        assert!(cable.push(2, 60));
        assert_eq!(cable.flush().1, sent(2..3));
        assert_eq!(cable.received(), frame(2, 60));
        cable.drain();
    });
}

#[test]
fn withdrawn_frames_never_leave_and_later_ones_do() {
    with_cable(|| {
        let mut cable = Cable::new(SHAPE);
        ip(&format!("link set {NEAR} down"));
        for number in 0..30 {
            assert!(cable.push(number, 60));
        }
        let (result, taken) = cable.flush();
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ENETDOWN));
        assert_eq!(taken, []);
        let mut withdrawn = Vec::new();
        cable.sender.withdraw(|tag| withdrawn.push(tag));
        assert_eq!(withdrawn, (0..30).collect::<Vec<_>>());
        assert!(is_drained(&mut cable.sender));
        ip(&format!("link set {NEAR} up"));
        wait_until("the cable is up", || ip(&format!("-o link show {NEAR}")).contains("state UP"));
        for number in 30..80 {
            cable.push(number, 60);
            let (result, taken) = cable.flush();
            result.unwrap();
            assert_eq!(taken, sent(number.into()..u64::from(number) + 1));
            assert_eq!(cable.received(), frame(number, 60));
        }
        cable.drain();
    });
}

/// The kernel reports what an interface without a carrier discards.
#[test]
fn frames_without_a_carrier_are_discarded_one_by_one() {
    with_cable(|| {
        let mut cable = Cable::new(SHAPE);
        ip(&format!("link set {FAR} down"));
        wait_until("there is no carrier", || {
            ip(&format!("-o link show {NEAR}")).contains("NO-CARRIER")
        });
        for number in 0..20 {
            assert!(cable.push(number, 60));
        }
        let (result, taken) = cable.flush();
        result.unwrap();
        let fate = FrameFate::Discarded;
        assert_eq!(taken, (0..20).map(|tag| (tag, fate)).collect::<Vec<_>>());
        ip(&format!("link set {FAR} up"));
        wait_until("the cable is up", || ip(&format!("-o link show {NEAR}")).contains("state UP"));
        for number in 20..60 {
            assert!(cable.push(number, 60));
        }
        assert_eq!(cable.flush().1, sent(20..60));
        cable.drain();
    });
}

#[test]
fn a_removed_interface_is_reported() {
    with_cable(|| {
        let mut cable = Cable::new(SHAPE);
        ip(&format!("link delete {NEAR}"));
        assert!(cable.push(0, 60));
        let (result, taken) = cable.flush();
        assert_eq!((result.unwrap_err().raw_os_error(), taken), (Some(libc::ENXIO), vec![]));
    });
}

#[test]
fn a_queue_has_one_socket_and_a_socket_one_sender() {
    with_cable(|| {
        let mut cable = Cable::new(SHAPE);
        let near = interface(NEAR).index;
        let code = |result: io::Result<XdpDescriptors>| result.unwrap_err().raw_os_error();
        assert_eq!(code(open(near, 0, SHAPE)), Some(libc::EBUSY));
        assert_eq!(code(open(near, 5, SHAPE)), Some(libc::EINVAL));
        assert_eq!(code(open(9999, 0, SHAPE)), Some(libc::ENODEV));
        cable.push(0, 60);
        cable.flush().0.unwrap();
        let XdpDescriptors { socket, umem } = &cable.descriptors;
        let again = XdpSender::map(socket.as_fd(), umem.as_fd(), SHAPE).map(drop);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::InvalidData);
    });
}

#[test]
fn unsuitable_memory_and_shapes_are_refused() {
    with_cable(|| {
        let near = interface(NEAR).index;
        for (frames, frame_bytes) in
            [(0, 2048), (48, 2048), (64, 1024), (64, 3000), (1 << 16, 2048)]
        {
            let refused = open(near, 0, XdpShape { frames, frame_bytes }).map(drop);
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        let descriptors = open(near, 0, SHAPE).unwrap();
        let map = |umem: &OwnedFd, shape| {
            XdpSender::map(descriptors.socket.as_fd(), umem.as_fd(), shape).map(drop)
        };
        let loose = memfd_create(c"loose", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        File::from(loose.try_clone().unwrap()).set_len(1 << 20).unwrap();
        assert_eq!(map(&loose, SHAPE).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let larger = XdpShape { frames: 128, ..SHAPE };
        assert_eq!(map(&descriptors.umem, larger).unwrap_err().kind(), io::ErrorKind::InvalidData);
        map(&descriptors.umem, SHAPE).unwrap();
    });
}
