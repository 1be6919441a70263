//! Packet sockets at the far end of a cable.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etherparse::{IpNumber, Ipv4Header, UdpHeader};
use nix::errno::Errno;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::{MsgFlags, sendto};
use nix::unistd::{read, write};
use socket2::SockRef;

use super::*;
use crate::addr::Addr;
use crate::sockets::output;
use crate::sockets::testnet::{FAR, NEAR, interface, ip, run_on_any_cpu, wait_until, with_cable};
use crate::spec::OutputSpec;
use crate::sys::packet_ring::tx_disable::forced;

/// A socket that passes frames to these destinations.
pub(super) fn open(
    interface: &InterfaceRef<'_>,
    blocks: &[(Addr, u8)],
    fanout: Fanout,
    ring: Option<RingShape>,
    spares: &mut SpareSockets,
) -> Result<PacketSocket> {
    let socket = bound(interface, ring, unbound(interface.name), spares)?;
    enter(socket.fd.as_fd(), fanout, interface.name)?;
    replace_filter(socket.fd.as_fd(), blocks)?;
    Ok(socket)
}

/// The relay's socket for datagrams to 239.1.1.1 on the far end.
fn far(fanout: Fanout) -> PacketSocket {
    let spares = &mut SpareSockets::default();
    open(&interface(FAR), &[(GROUP, 0)], fanout, None, spares).unwrap()
}

pub(super) const GROUP: Addr = Addr::v4([239, 1, 1, 1]);
const VNET_HDR_BYTES: usize = 10;

/// The next frame, if there is one.
fn next(socket: &PacketSocket) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 70_000];
    match read(&socket.fd, &mut buffer) {
        Ok(len) => {
            let headers = if socket.vnet_hdr { VNET_HDR_BYTES } else { 0 };
            Some(buffer[headers..len].to_vec())
        }
        // A link that goes down is reported once.
        Err(Errno::EAGAIN | Errno::ENETDOWN) => None,
        Err(errno) => panic!("{errno}"),
    }
}

/// A socket that sends raw frames on the near end.
pub(super) fn injector() -> OwnedFd {
    let fd = socket::open(libc::AF_PACKET, libc::SOCK_RAW, "injector").unwrap();
    socket::drop_all(fd.as_fd(), "injector").unwrap();
    sockaddr::bind_link_layer(fd.as_fd(), c_int::try_from(interface(NEAR).index).unwrap()).unwrap();
    fd
}

pub(super) fn inject(injector: &OwnedFd, frame: &[u8]) {
    assert_eq!(SockRef::from(injector).send(frame).unwrap(), frame.len());
}

pub(super) fn udp(group: [u8; 4], source_port: u16, payload: &[u8]) -> Vec<u8> {
    let payload_bytes = u16::try_from(payload.len()).unwrap();
    let ip = Ipv4Header::new(8 + payload_bytes, 8, IpNumber::UDP, [10, 9, 0, 1], group).unwrap();
    let udp =
        UdpHeader { source_port, destination_port: 5001, length: 8 + payload_bytes, checksum: 0 };
    let mut frame = vec![1, 0, 0x5e, 1, 1, 1, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    frame.extend(ip.to_bytes());
    frame.extend(udp.to_bytes());
    frame.extend(payload);
    frame
}

fn spec(from: &str) -> OutputSpec {
    OutputSpec {
        ifindex: interface(from).index,
        interface: from.to_owned(),
        multicast_loop: false,
        ..OutputSpec::to(GROUP, 5001)
    }
}

#[test]
fn a_second_socket_joins_by_id_and_takes_its_share() {
    with_cable(|| {
        let first = far(Fanout::New);
        let id = fanout_id(first.fd.as_fd()).unwrap();
        let second = far(Fanout::Join(id));
        assert_eq!(fanout_id(second.fd.as_fd()).unwrap(), id);

        let injector = injector();
        let mut sent =
            (0..64).map(|flow| udp([239, 1, 1, 1], 6000 + flow, b"in")).collect::<Vec<_>>();
        for frame in &sent {
            inject(&injector, frame);
        }
        let (mut by_first, mut by_second) = (Vec::new(), Vec::new());
        wait_until("all frames are there", || {
            by_first.extend(next(&first));
            by_second.extend(next(&second));
            by_first.len() + by_second.len() >= sent.len()
        });
        assert!(!by_first.is_empty() && !by_second.is_empty());
        let mut seen = [by_first, by_second].concat();
        seen.sort();
        sent.sort();
        assert_eq!(seen, sent);
    });
}

#[test]
fn all_flows_to_a_pinned_destination_reach_one_socket() {
    with_cable(|| {
        let spares = &mut SpareSockets::default();
        let sockets = open_group(&interface(FAR), 2, None, spares).unwrap();
        let blocks = [(GROUP, 0), (Addr::v4([239, 1, 1, 2]), 0)];
        sockets.iter().for_each(|each| replace_filter(each.fd.as_fd(), &blocks).unwrap());
        let injector = injector();
        for socket in [0, 1] {
            // Other pins, so that the program searches.
            let others = (6000..7000).map(|port| Pin::new(GROUP, port, 1 - socket)).skip(1);
            let pins: Vec<_> = others.chain([Pin::new(GROUP, 5001, socket)]).collect();
            pin(sockets[0].fd.as_fd(), &pins).unwrap();
            for flow in 0..32 {
                inject(&injector, &udp([239, 1, 1, 1], 6000 + flow, b"pinned"));
                inject(&injector, &udp([239, 1, 1, 2], 6000 + flow, b"spread"));
            }
            let mut seen = [Vec::new(), Vec::new()];
            wait_until("all frames are there", || {
                for (seen, from) in seen.iter_mut().zip(&sockets) {
                    seen.extend(next(from));
                }
                seen[0].len() + seen[1].len() >= 64
            });
            let count = |at: usize, what: &[u8]| {
                seen[at].iter().filter(|frame| frame.ends_with(what)).count()
            };
            assert_eq!(count(usize::from(socket), b"pinned"), 32);
            assert!(count(0, b"spread") > 0 && count(1, b"spread") > 0);
        }
        let many = vec![Pin { key: 0, socket: 0 }; filter::MOST_PINS + 1];
        pin(sockets[0].fd.as_fd(), &many).unwrap_err();
    });
}

#[test]
fn each_new_group_is_another_one() {
    with_cable(|| {
        let (first, second) = (far(Fanout::New), far(Fanout::New));
        let ids = [&first, &second].map(|socket| fanout_id(socket.fd.as_fd()).unwrap());
        assert_ne!(ids[0], ids[1]);
        let near =
            open(&interface(NEAR), &[], Fanout::Join(ids[0]), None, &mut SpareSockets::default());
        assert!(near.is_err(), "a group belongs to one interface");
    });
}

#[test]
fn only_named_destinations_reach_the_queue() {
    with_cable(|| {
        let far = far(Fanout::New);
        let injector = injector();
        let wanted = udp([239, 1, 1, 1], 1, b"wanted");
        let mut tagged_twice = wanted[..12].to_vec();
        tagged_twice.extend([0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]);
        tagged_twice.extend(&wanted[12..]);
        let mut tcp = wanted.clone();
        tcp[23] = 6;
        for frame in [&udp([239, 1, 1, 2], 1, b"other"), &tcp, &tagged_twice, &wanted] {
            inject(&injector, frame);
        }
        let mut seen = Vec::new();
        wait_until("both wanted frames are there", || {
            seen.extend(next(&far));
            seen.len() == 2
        });
        // The outer tag has been removed from the frame, the inner one has not.
        assert_eq!(seen[0][12..], tagged_twice[16..]);
        assert_eq!(seen[1], wanted);

        replace_filter(far.fd.as_fd(), &[(Addr::v4([239, 1, 1, 2]), 0)]).unwrap();
        inject(&injector, &wanted);
        inject(&injector, &udp([239, 1, 1, 2], 1, b"other"));
        wait_until("the other frame is there", || {
            let frame = next(&far);
            assert_ne!(frame.as_ref(), Some(&wanted));
            frame.is_some()
        });
    });
}

#[test]
fn nothing_is_queued_before_the_group_is_joined() {
    with_cable(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let leaving = output::open(&spec(FAR)).unwrap();
        let arriving = output::open(&spec(NEAR)).unwrap();
        let until = Arc::clone(&stop);
        // A thread inherits the namespace of its creator.
        let traffic = thread::spawn(move || {
            run_on_any_cpu();
            while !until.load(Ordering::Relaxed) {
                SockRef::from(&leaving.fd).send(b"leaving").ok();
                SockRef::from(&arriving.fd).send(&[7; 3000]).ok();
            }
        });
        let enough = Instant::now() + Duration::from_secs(2);
        while Instant::now() < enough {
            let far = far(Fanout::New);
            wait_until("a frame is there", || {
                let Some(frame) = next(&far) else { return false };
                assert_eq!(frame.len(), 14 + 20 + 8 + 3000, "own frame or fragment");
                true
            });
        }
        stop.store(true, Ordering::Relaxed);
        traffic.join().unwrap();
    });
}

#[test]
fn an_interface_that_comes_up_delivers_frames() {
    with_cable(|| {
        ip(&format!("link set {FAR} down"));
        let far = far(Fanout::New);
        ip(&format!("link set {FAR} up"));
        let injector = injector();
        wait_until("a frame is there", || {
            SockRef::from(&injector).send(&udp([239, 1, 1, 1], 1, b"in")).ok();
            next(&far).is_some()
        });
    });
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    with_cable(|| {
        let gone = InterfaceRef { index: 99, name: "eth9" };
        let error = open(&gone, &[], Fanout::New, None, &mut SpareSockets::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("eth9: No such device"), "{error}");
    });
}

#[test]
fn nothing_is_sent_through_a_packet_socket() {
    with_cable(|| {
        let watcher = far(Fanout::New);
        let shape = Some(RingShape { slot_bytes: 2048, slots: 32 });
        let frame = udp([239, 1, 1, 1], 1, b"forged");
        let with_header = [&[0; VNET_HDR_BYTES][..], &frame].concat();
        let is_near = |found: &InterfaceAddress| found.interface_name == NEAR;
        let place = getifaddrs().unwrap().find(is_near).unwrap().address.unwrap();
        for socket in [near(None), near(shape)] {
            let raw = SockRef::from(&socket.fd);
            for bytes in [&frame, &with_header] {
                // With a transmit ring the bytes passed to the call are ignored; the ring is empty.
                assert_eq!(raw.send(bytes).unwrap(), 0);
                let none = MsgFlags::empty();
                assert_eq!(sendto(socket.fd.as_raw_fd(), bytes, &place, none).unwrap(), 0);
                assert_eq!(write(&socket.fd, bytes).unwrap(), 0);
            }
        }
        inject(&injector(), &udp([239, 1, 1, 1], 1, b"last"));
        wait_until("the frame that was sent by another is there", || {
            let Some(frame) = next(&watcher) else { return false };
            assert!(frame.ends_with(b"last"), "{frame:x?}");
            true
        });
    });
}

fn near(ring: Option<RingShape>) -> PacketSocket {
    let spares = &mut SpareSockets::default();
    open(&interface(NEAR), &[(GROUP, 0)], Fanout::Alone, ring, spares).unwrap()
}

/// The remaining possibilities where the seccomp filter must permit mapping a socket; see
/// docs/security.md.
#[test]
fn a_mapped_transmit_ring_sends_only_frames_too_short_for_an_address() {
    with_cable(|| {
        let near = near(None);
        let header = [1, 0, 0x5e, 1, 1, 1, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
        for (bytes, leaves) in [(22, true), (23, false), (42, false)] {
            let mut frame = vec![7; bytes];
            frame[..14].copy_from_slice(&header);
            let sent = forced::send(near.fd.as_fd(), near.vnet_hdr, &frame);
            assert_eq!(sent.is_ok_and(|bytes| bytes > 0), leaves, "{bytes} bytes");
        }
    });
}

#[test]
fn a_socket_knows_when_its_interface_is_gone_for_good() {
    with_cable(|| {
        let far = far(Fanout::Alone);
        ip(&format!("link set {FAR} down"));
        assert!(has_interface(far.fd.as_fd()));
        let index = interface(FAR).index;
        ip(&format!("link delete {NEAR}"));
        ip(&format!("link add {FAR} index {index} type veth peer name {NEAR}"));
        assert!(!has_interface(far.fd.as_fd()));
        let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(!has_interface(other.as_fd()));
    });
}
