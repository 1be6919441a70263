//! Links while their interface changes: which of them go on, and which have to be opened again.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use super::obstacle::XdpObstacle;
use crate::sockets::local::LocalProvider;
use crate::sockets::provider::{SocketProvider, XdpLinkHandle, XdpLinkRequest};
use crate::sockets::testnet::{FAR, NEAR, interface, ip, tc, wait_until, with_cable};
use crate::sys::xdp_socket::XdpSender;

/// A link on the near end of the cable, and its sender.
struct TestLink {
    handle: XdpLinkHandle,
    sender: XdpSender,
}

fn request(name: &str) -> Result<XdpLinkHandle, XdpObstacle> {
    LocalProvider::new().xdp_link(&XdpLinkRequest { interface: interface(name), queue: 0 })
}

impl TestLink {
    fn open() -> Self {
        let handle = request(NEAR).unwrap();
        let (socket, umem) = (handle.socket.as_fd(), handle.umem.as_fd());
        let sender = XdpSender::map(socket, umem, handle.shape).unwrap();
        Self { handle, sender }
    }

    /// Queues a broadcast of an experimental type (IEEE 802).
    fn push(&mut self, len: usize) {
        let header = [&[0xff; 6][..], &[2; 6], &[0x88, 0xb5]].concat();
        let write = |place: &mut [u8]| {
            place.get_mut(..len)?.fill(0);
            place.get_mut(..header.len())?.copy_from_slice(&header);
            Some(len)
        };
        assert!(self.sender.push(0, write));
    }

    /// Hands over what is queued; returns the number of frames that the kernel has taken.
    fn flush(&mut self) -> io::Result<usize> {
        let mut taken = 0;
        self.sender.flush(self.handle.socket.as_fd(), |_, _| taken += 1).map(|()| taken)
    }

    fn errno(&mut self) -> Option<i32> {
        self.flush().unwrap_err().raw_os_error()
    }
}

/// The number of frames that the interface has received.
fn received(name: &str) -> u64 {
    let all = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = all.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}:"))).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Asserts that what is queued arrives.
fn expect_arrival(link: &mut TestLink, frames: u64) {
    let before = received(FAR);
    assert_eq!(link.flush().unwrap() as u64, frames);
    wait_until("they arrive", || received(FAR) >= before + frames);
}

#[test]
fn a_link_waits_while_its_interface_is_down_and_goes_on_by_itself() {
    with_cable(|| {
        let mut link = TestLink::open();
        link.push(60);
        expect_arrival(&mut link, 1);
        ip(&format!("link set {NEAR} down"));
        link.push(60);
        assert_eq!(link.errno(), Some(libc::ENETDOWN));
        assert_eq!(link.sender.waiting(), 1);
        ip(&format!("link set {NEAR} up"));
        wait_until("there is a carrier", || {
            ip(&format!("-o link show {NEAR}")).contains("state UP")
        });
        link.push(60);
        expect_arrival(&mut link, 2);
    });
}

/// The link does not know the MTU: it is for the sender to keep to it.
#[test]
fn a_link_survives_a_change_of_the_mtu_and_sends_longer_frames_all_the_same() {
    with_cable(|| {
        let mut link = TestLink::open();
        for mtu in [600, 1500, 9000] {
            ip(&format!("link set {NEAR} mtu {mtu}"));
            link.push(1000);
            expect_arrival(&mut link, 1);
        }
        // The frames stay as long as they were; a new link has longer ones.
        assert_eq!(link.handle.shape.frame_bytes, 2048);
        drop(link);
        assert_eq!(TestLink::open().handle.shape.frame_bytes, 4096);
    });
}

#[test]
fn a_link_is_lost_with_its_interface_even_if_that_returns() {
    with_cable(|| {
        let mut link = TestLink::open();
        let old = interface(NEAR).index;
        ip(&format!("link delete {NEAR}"));
        link.push(60);
        assert_eq!(link.errno(), Some(libc::ENXIO));
        ip(&format!("link add {NEAR} index {old} type veth peer name {FAR}"));
        for name in [NEAR, FAR] {
            ip(&format!("link set {name} up"));
        }
        assert_eq!(link.errno(), Some(libc::ENXIO));
        // It does not keep the queue of the new interface.
        let mut new = TestLink::open();
        new.push(60);
        expect_arrival(&mut new, 1);
    });
}

#[test]
fn a_link_is_lost_when_its_interface_moves_to_another_namespace_and_back() {
    with_cable(|| {
        let mut link = TestLink::open();
        let (here, number) = (gettid(), mpsc::channel());
        let (moved, has_moved) = mpsc::channel::<()>();
        let there = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            number.0.send(gettid()).unwrap();
            has_moved.recv().unwrap();
            ip(&format!("link set {NEAR} up"));
            // Nothing keeps its queue.
            drop(TestLink::open());
            ip(&format!("link set {NEAR} netns {here}"));
        });
        ip(&format!("link set {NEAR} netns {}", number.1.recv().unwrap()));
        link.push(60);
        assert_eq!(link.errno(), Some(libc::ENXIO));
        moved.send(()).unwrap();
        there.join().unwrap();
        ip(&format!("link set {NEAR} up"));
        assert_eq!(link.errno(), Some(libc::ENXIO));
        let mut new = TestLink::open();
        new.push(60);
        expect_arrival(&mut new, 1);
    });
}

#[test]
fn a_queue_in_use_is_waited_for_but_not_long() {
    with_cable(|| {
        let first = request(NEAR).unwrap();
        assert_eq!(request(NEAR).unwrap_err(), XdpObstacle::QueueInUse(0));
        drop(first);
        // On a busy machine a request may begin too late, or a command that a neighbouring test
        // starts may have a copy of the descriptor for longer than a request waits.
        let is_waited_for = || {
            let first = request(NEAR).ok();
            thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(std::time::Duration::from_millis(20));
                    drop(first);
                });
                request(NEAR).is_ok()
            })
        };
        assert!((0..10).any(|_| is_waited_for()), "no request has waited");
    });
}

#[test]
fn no_link_is_opened_past_what_the_host_does_to_datagrams() {
    with_cable(|| {
        tc(&format!("qdisc add dev {NEAR} root tbf rate 1gbit burst 100k latency 9ms"));
        let text = request(NEAR).unwrap_err().to_string();
        assert!(text.contains("has the queueing discipline tbf"), "{text}");
        tc(&format!("qdisc delete dev {NEAR} root"));
        ip("xfrm policy add src ::/0 dst ff00::/8 dir out");
        let text = request(NEAR).unwrap_err().to_string();
        assert_eq!(text, "IPsec has policies for what this host sends");
        ip("xfrm policy flush");
        request(NEAR).unwrap();
        let text = request("lo").unwrap_err().to_string();
        assert_eq!(text, "lo is not an Ethernet interface");
        let renamed = crate::sockets::InterfaceRef { name: "other", ..interface(NEAR) };
        let request = XdpLinkRequest { interface: renamed, queue: 0 };
        let why = LocalProvider::new().xdp_link(&request).unwrap_err();
        assert_eq!(why, XdpObstacle::Removed);
    });
}
