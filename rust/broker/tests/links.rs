//! XDP links, which end with their worker.

use std::fs;

use super::*;
use crate::broker::messages::{InterfaceId, Request};
use crate::broker::testbed::BUFFER_BYTES;
use crate::sockets::netlink::netfilter::Direction;
use crate::sockets::provider::{XdpLinkHandle, XdpLinkRequest};
use crate::sockets::testnet::{lacks_nft, nft, tc};
use crate::sockets::xdp::hooks::{HostHook, HostHooks};
use crate::sockets::xdp::obstacle::XdpObstacle;
use crate::sys::xdp_socket::XdpSender;

fn link(worker: &BrokerClient, name: &str, queue: u32) -> Result<XdpLinkHandle, XdpObstacle> {
    worker.xdp_link(&XdpLinkRequest { interface: interface(name), queue })
}

/// Sends a frame through the link, and waits until it has arrived.
fn send_frame(link: &XdpLinkHandle) {
    let received = || {
        let all = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let line = all.lines().find(|line| line.trim().starts_with(FAR)).unwrap().to_owned();
        line.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap()
    };
    let before = received();
    let (socket, umem) = (link.socket.as_fd(), link.umem.as_fd());
    let mut sender = XdpSender::map(socket, umem, link.shape).unwrap();
    let write = |place: &mut [u8]| {
        place.get_mut(..60)?.fill(0xff);
        Some(60)
    };
    assert!(sender.push(7, write));
    sender.flush(socket, |_, _| {}).unwrap();
    wait_until("it arrives", || received() > before);
}

#[test]
fn a_link_sends_and_its_queue_is_free_once_it_was_returned() {
    with_cable(|| {
        for ingress in [Ingress::Packet, Ingress::Udp] {
            let supervisor = TestSupervisor::new(1, ingress);
            let (worker, _death) = supervisor.worker(0);
            for _ in 0..3 {
                let link = link(&worker, NEAR, 0).unwrap();
                send_frame(&link);
                assert_eq!(supervisor.open_sockets(), 1);
                drop(link);
            }
            wait_until("it is closed", || supervisor.open_sockets() == 0);
        }
    });
}

#[test]
fn a_successor_gets_a_link_of_its_own() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let (worker, death) = supervisor.worker(0);
        let first = link(&worker, NEAR, 0).unwrap();
        send_frame(&first);
        let output = worker.output(OUTPUT, &spec(GROUP, NEAR)).unwrap();
        assert_eq!(supervisor.open_sockets(), 2);
        death.come();
        wait_until("the link alone is closed", || supervisor.open_sockets() == 1);
        drop((first, output, worker));
        let (worker, _death) = supervisor.worker(0);
        // It was used: only a new one can be mapped.
        send_frame(&link(&worker, NEAR, 0).unwrap());
    });
}

#[test]
fn each_worker_has_the_queue_of_its_number() {
    in_namespace(|| {
        let queues = "numtxqueues 2 numrxqueues 2";
        ip(&format!("link add veth7 {queues} type veth peer name veth8 {queues}"));
        ip("link set veth7 up");
        let supervisor = TestSupervisor::new(2, Ingress::Udp);
        let (first, _death) = supervisor.worker(0);
        let (second, _death) = supervisor.worker(1);
        let _held = link(&first, "veth7", 0).unwrap();
        match link(&second, "veth7", 1) {
            Ok(_) | Err(XdpObstacle::NoQueue { queue: 1, queues: 1, .. }) => {}
            Err(other) => panic!("{other}"),
        }
        let why = link(&second, "veth7", 0).unwrap_err().to_string();
        assert!(why.contains("the supervisor does not answer"), "{why}");
        let why = link(&first, "lo", 0).unwrap_err();
        assert_eq!(why, XdpObstacle::NotEthernet("lo".to_owned()), "the first is still served");
    });
}

#[test]
fn what_is_in_the_way_is_told_to_the_worker() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let (worker, _death) = supervisor.worker(0);
        assert_eq!(worker.hooks(&interface(NEAR), Direction::Sent), HostHooks::default());
        let discipline = |kind: &str| XdpObstacle::Discipline {
            interface: NEAR.to_owned(),
            kind: kind.to_owned(),
        };
        tc(&format!("qdisc add dev {NEAR} root tbf rate 1gbit burst 100k latency 9ms"));
        assert_eq!(link(&worker, NEAR, 0).unwrap_err(), discipline("tbf"));
        tc(&format!("qdisc delete dev {NEAR} root"));
        assert_eq!(link(&worker, "lo", 0).unwrap_err(), XdpObstacle::NotEthernet("lo".to_owned()));
        let gone = crate::sockets::InterfaceRef { index: 7777, name: "gone" };
        let why = worker.xdp_link(&XdpLinkRequest { interface: gone, queue: 0 }).unwrap_err();
        assert_eq!(why, XdpObstacle::Removed);
        if lacks_nft() {
            return;
        }
        nft("add table ip own");
        nft("add chain ip own out { type filter hook output priority 0; policy drop; }");
        let hook = HostHook::Chain("own out".to_owned());
        assert_eq!(link(&worker, NEAR, 0).unwrap_err(), XdpObstacle::Hook(hook.clone()));
        let hooks = HostHooks { v4: Some(hook), v6: None };
        assert_eq!(worker.hooks(&interface(NEAR), Direction::Sent), hooks);
        assert_eq!(supervisor.open_sockets(), 0);
    });
}

#[test]
fn a_link_on_a_removed_interface_is_replaced() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let (worker, _death) = supervisor.worker(0);
        let old = link(&worker, NEAR, 0).unwrap();
        renew_cable();
        send_frame(&link(&worker, NEAR, 0).unwrap());
        drop(old);
        wait_until("both are closed", || supervisor.open_sockets() == 0);
    });
}

fn ends_connection(requests: &[Request]) -> bool {
    let server = BrokerServer::new(1, Ingress::Udp, BUFFER_BYTES).unwrap();
    testbed::ends_connection(server, requests)
}

#[test]
fn requests_that_no_worker_sends_end_the_connection() {
    in_namespace(|| {
        let lo = InterfaceId::from(&interface("lo"));
        let named = |name: &str| InterfaceId { name: name.to_owned(), ..lo.clone() };
        let link = |interface, queue| Request::XdpLink { interface, queue };
        for wrong in [
            link(lo.clone(), 1),
            link(named("a/b"), 0),
            link(InterfaceId { index: 0, ..lo.clone() }, 0),
            Request::Hooks { interface: named(""), of: Direction::Sent },
            Request::XdpMemory { lease: 1 },
        ] {
            assert!(ends_connection(std::slice::from_ref(&wrong)), "{wrong:?}");
        }
        assert!(!ends_connection(&[link(lo.clone(), 0)]));
        let output = Request::Output { key: 0, is_connected: true, spec: spec(GROUP, "lo") };
        assert!(ends_connection(&[output, Request::XdpMemory { lease: 1 }]));
    });
}

/// A taken-over worker that asks and asks: the kernel gives each queue once.
#[test]
fn thousands_of_requests_make_one_link() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let (worker, _death) = supervisor.worker(0);
        let _held = link(&worker, NEAR, 0).unwrap();
        let request = XdpLinkRequest { interface: interface(NEAR), queue: 0 };
        for _ in 0..1000 {
            assert_eq!(worker.request_link(&request).unwrap_err(), XdpObstacle::QueueInUse(0));
        }
        assert_eq!(supervisor.open_sockets(), 1);
    });
}

#[test]
fn no_link_is_opened_where_none_is_allowed() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        supervisor.server.lock().unwrap().forbid_links();
        let (worker, _death) = supervisor.worker(0);
        assert_eq!(worker.hooks(&interface(NEAR), Direction::Sent), HostHooks::default());
        let why = link(&worker, NEAR, 0).unwrap_err().to_string();
        assert!(why.contains("the supervisor does not answer"), "{why}");
        assert_eq!(supervisor.open_sockets(), 0);
    });
}

#[test]
fn a_worker_has_a_limited_number_of_links() {
    in_namespace(|| {
        let names: Vec<String> = (0..33).map(|number| format!("tap{number}")).collect();
        for name in &names {
            ip(&format!("tuntap add {name} mode tap"));
            ip(&format!("link set {name} up"));
        }
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let (worker, _death) = supervisor.worker(0);
        let mut links: Vec<_> = names.iter().map(|name| link(&worker, name, 0)).collect();
        let last = links.pop().unwrap().unwrap_err().to_string();
        assert_eq!(last, "a worker may have 32 XDP links");
        assert!(links.iter().all(Result::is_ok));
        links.pop();
        link(&worker, &names[32], 0).unwrap();
    });
}
