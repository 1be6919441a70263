//! The sockets that a worker inherits from its earlier incarnation, and those it does not.

use std::fs;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;

use super::testbed::TestSupervisor;
use super::*;
use crate::addr::Addr;
use crate::sockets::netlink::groups::GroupList;
use crate::sockets::output::{self, OutputSocket};
use crate::sockets::provider::{Socket, SocketProvider};
use crate::sockets::testnet::{
    FAR, NEAR, in_namespace, interface, ip, rerun, settle, wait_for, wait_until, with_cable,
};
use crate::sockets::udp_input::UdpInputRequest;
use crate::spec::{Choice, OutputSpec};

mod ahead;
mod frames;
#[cfg(feature = "offload")]
mod kernel;
mod links;

const GROUP: Addr = Addr::v4([239, 1, 1, 1]);
const OTHER: Addr = Addr::v4([239, 1, 1, 2]);
const OUTPUT: u64 = 7;

/// The lengths in bytes of the datagrams queued in the socket.
fn queued(socket: &impl AsFd) -> Vec<usize> {
    let mut bytes = [0; 4096];
    let next = || recv(socket.as_fd().as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT).ok();
    std::iter::from_fn(next).collect()
}

pub(crate) fn spec(group: Addr, from: &str) -> OutputSpec {
    OutputSpec {
        ifindex: interface(from).index,
        interface: from.to_owned(),
        ..OutputSpec::to(group, 5001)
    }
}

fn sender(group: Addr, from: &str) -> OutputSocket {
    output::open(&spec(group, from)).unwrap()
}

fn send(sender: &OutputSocket, count: usize) {
    for _ in 0..count {
        SockRef::from(&sender.fd).send(&[7; 100]).unwrap();
    }
}

/// The number of IPv4 groups that the interface is a member of, without the one of all hosts.
fn groups(name: &str) -> usize {
    let all = fs::read_to_string("/proc/thread-self/net/igmp").unwrap();
    let of = all.lines().skip_while(|line| line.split_whitespace().nth(1) != Some(name));
    let groups = of.skip(1).take_while(|line| line.starts_with('\t'));
    groups.filter(|line| !line.contains("010000E0")).count()
}

#[test]
fn datagrams_between_two_incarnations_are_kept() {
    in_namespace(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let (worker, death) = supervisor.worker(0);
        let lo = interface("lo");
        let first = worker.datagrams(&UdpInputRequest::on(lo, GROUP, 5001)).unwrap();
        worker.join_socket(&first.socket, lo.index, GROUP, &[]).unwrap();
        let sender = sender(GROUP, "lo");
        send(&sender, 2);
        death.come();
        drop((first, worker));
        send(&sender, 3);
        settle();
        let (worker, _) = supervisor.worker(0);
        let again = worker.datagrams(&UdpInputRequest::on(lo, GROUP, 5001)).unwrap();
        assert_eq!(queued(&again.socket), [100; 5]);
        worker.join_socket(&again.socket, lo.index, GROUP, &[]).unwrap();
        worker.release_unclaimed().unwrap();
        send(&sender, 1);
        settle();
        assert_eq!((queued(&again.socket), groups("lo")), (vec![100], 1));
    });
}

#[test]
fn dropped_leases_are_returned_and_used_ones_are_exclusive() {
    in_namespace(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let (worker, _) = supervisor.worker(0);
        let port = |socket: &Socket| {
            let local = SockRef::from(socket).local_addr().unwrap();
            local.as_socket().unwrap().port()
        };
        let spec = spec(GROUP, "lo");
        let [first, second] = [0; 2].map(|_| worker.output(OUTPUT, &spec).unwrap());
        assert_ne!(port(&first.socket), port(&second.socket));
        assert_eq!(supervisor.open_sockets(), 2);
        drop(first);
        wait_until("it is closed", || supervisor.open_sockets() == 1);
        drop((second, worker));
        wait_until("all is closed", || supervisor.open_sockets() == 0);
    });
}

#[test]
fn a_returned_port_can_be_requested_at_once() {
    rerun("broker::tests::returned_port");
}

/// Must not run in parallel with other tests: a child process of theirs has every socket of this
/// process until it calls exec.
#[test]
#[ignore = "run by a_returned_port_can_be_requested_at_once, alone"]
fn returned_port() {
    in_namespace(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let (worker, _death) = supervisor.worker(0);
        let lo = interface("lo");
        for round in 0..200 {
            let opened = worker.datagrams(&UdpInputRequest::on(lo, Addr::v4([127, 0, 0, 1]), 5001));
            drop(opened.unwrap_or_else(|error| panic!("round {round}: {error}")));
        }
    });
}

#[test]
fn a_worker_without_free_descriptors_returns_the_lease() {
    rerun("broker::tests::full_worker");
}

#[test]
#[ignore = "run by a_worker_without_free_descriptors_returns_the_lease, alone"]
fn full_worker() {
    in_namespace(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let (worker, _) = supervisor.worker(0);
        let spec = spec(GROUP, "lo");
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(4096), hard).unwrap();
        let any = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut taken: Vec<UdpSocket> = std::iter::from_fn(|| any.try_clone().ok()).collect();
        // In this process the supervisor also needs descriptors; the worker's is the last.
        let ends = std::iter::from_fn(|| {
            taken.pop()?;
            let end = worker.output(OUTPUT, &spec).map(drop);
            wait_until("nothing is held", || supervisor.open_sockets() == 0);
            Some(end)
        });
        let refusals: Vec<String> = ends.map_while(Result::err).map(|e| e.to_string()).collect();
        let last = refusals.last().unwrap();
        assert!(last.starts_with("taking over a socket on a worker: all "), "{refusals:?}");
        assert!(last.contains("raise it (ulimit -n"), "{refusals:?}");
        worker.output(OUTPUT, &spec).unwrap();
    });
}

#[test]
fn an_output_keeps_its_socket_and_follows_its_interface() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let (worker, death) = supervisor.worker(0);
        let local = |socket: &Socket| SockRef::from(socket).local_addr().unwrap().as_socket();
        let first = worker.output(OUTPUT, &spec(GROUP, NEAR)).unwrap();
        let before = local(&first.socket).unwrap();
        assert_eq!(first.max_segment, 1472);
        death.come();
        drop((first, worker));
        ip(&format!("link delete {NEAR}"));
        ip(&format!("link add {NEAR} type veth peer name {FAR}"));
        ip(&format!("address add 10.9.0.7/24 dev {NEAR}"));
        for name in [NEAR, FAR] {
            ip(&format!("link set {name} mtu 1400 up"));
        }
        let (worker, _) = supervisor.worker(0);
        let again = worker.output(OUTPUT, &spec(GROUP, NEAR)).unwrap();
        let after = local(&again.socket).unwrap();
        assert_eq!((after.port(), after.ip().to_string()), (before.port(), "10.9.0.7".to_owned()));
        assert_eq!((again.max_segment, supervisor.open_sockets()), (1372, 1));
        ip(&format!("address add 10.8.0.8/24 dev {NEAR}"));
        ip(&format!("address delete 10.9.0.7/24 dev {NEAR}"));
        assert_eq!(worker.reconnect(&again.socket, &spec(GROUP, NEAR)).unwrap(), 1372);
        assert_eq!(local(&again.socket).unwrap().ip().to_string(), "10.8.0.8");
    });
}

#[test]
fn an_output_that_cannot_be_connected_now_waits_with_its_socket() {
    in_namespace(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let host = OutputSpec { ifindex: 0, interface: String::new(), ..spec(GROUP, "lo") };
        let host = OutputSpec { address: Addr::v4([192, 0, 2, 1]), ..host };
        let (worker, death) = supervisor.worker(0);
        let error = worker.output(OUTPUT, &host).unwrap_err().to_string();
        assert!(error.contains("there is no route to it; add one"), "{error}");
        let parked = worker.prepare_output(OUTPUT, &host).unwrap();
        death.come();
        drop((parked, worker));
        let (worker, _) = supervisor.worker(0);
        worker.output(OUTPUT, &host).unwrap_err();
        assert_eq!(supervisor.open_sockets(), 1);
        let parked = worker.prepare_output(OUTPUT, &host).unwrap();
        worker.release_unclaimed().unwrap();
        ip("route add 192.0.2.0/24 dev lo");
        assert!(worker.reconnect(&parked.socket, &host).unwrap() > 0);
        assert_eq!(supervisor.open_sockets(), 1);
    });
}

/// Removes the far end of the cable, and creates a new cable with the same indices.
fn renew_cable() {
    let [near, far] = [NEAR, FAR].map(|name| interface(name).index);
    ip(&format!("link delete {NEAR}"));
    ip(&format!("link add {NEAR} index {near} type veth peer name {FAR} index {far}"));
    ip(&format!("address add 10.9.0.1/24 dev {NEAR}"));
    for name in [NEAR, FAR] {
        ip(&format!("link set {name} up"));
    }
    wait_until("the cable is up", || ip(&format!("-o link show {NEAR}")).contains("state UP"));
}

#[test]
fn a_running_worker_joins_again_on_a_recreated_interface() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(2, Ingress::Udp);
        let (first, _) = supervisor.worker(0);
        let (second, _) = supervisor.worker(1);
        let far = interface(FAR);
        let old = first.datagrams(&UdpInputRequest::on(far, GROUP, 5001)).unwrap();
        first.join_socket(&old.socket, far.index, GROUP, &[]).unwrap();
        renew_cable();
        // The new interface exists before the deletion of the old one was noticed.
        let new = second.datagrams(&UdpInputRequest::on(far, GROUP, 5002)).unwrap();
        second.join_socket(&new.socket, far.index, GROUP, &[]).unwrap();
        first.leave_socket(&old.socket, far.index, GROUP, &[]);
        drop(old);
        wait_until("the old one is closed", || supervisor.open_sockets() == 1);
        assert_eq!(groups(FAR), 1);
    });
}

#[test]
fn a_successor_that_wants_fewer_senders_is_a_member_for_fewer() {
    in_namespace(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let lo = interface("lo");
        let [one, two] = [1, 2].map(|last| Addr::v4([127, 0, 0, last]));
        let from = |source: Addr| {
            let spec = OutputSpec { source: Choice::Chosen(source), ..spec(GROUP, "lo") };
            output::open(&spec).unwrap()
        };
        let senders = [one, two].map(from);
        for wanted in [vec![], vec![one, two]] {
            let (worker, death) = supervisor.worker(0);
            let first = worker.datagrams(&UdpInputRequest::on(lo, GROUP, 5001)).unwrap();
            worker.join_socket(&first.socket, lo.index, GROUP, &wanted).unwrap();
            worker.release_unclaimed().unwrap();
            senders.iter().for_each(|sender| send(sender, 1));
            settle();
            assert_eq!(queued(&first.socket).len(), 2);
            death.come();
            drop((first, worker));
            let (worker, _) = supervisor.worker(0);
            let again = worker.datagrams(&UdpInputRequest::on(lo, GROUP, 5001)).unwrap();
            worker.join_socket(&again.socket, lo.index, GROUP, &[one]).unwrap();
            worker.release_unclaimed().unwrap();
            senders.iter().for_each(|sender| send(sender, 1));
            settle();
            assert_eq!(queued(&again.socket).len(), 1);
            drop((again, worker));
            wait_until("it is closed", || supervisor.open_sockets() == 0);
        }
    });
}

#[test]
fn a_successor_joins_groups_again_that_the_kernel_has_dropped() {
    with_cable(|| {
        let group = "ff3e::1".parse::<std::net::IpAddr>().unwrap().into();
        let near = interface(NEAR);
        let list = GroupList::open().unwrap();
        let is_member = || list.ask(false, 0).unwrap().contains(&(near.index, group));
        for ingress in [Ingress::Packet, Ingress::Udp] {
            let supervisor = TestSupervisor::new(1, ingress);
            let join = |worker: &BrokerClient| {
                if ingress == Ingress::Packet {
                    worker.join(&near, group, &[]).unwrap();
                    return None;
                }
                let opened = worker.datagrams(&UdpInputRequest::on(near, group, 5001)).unwrap();
                worker.join_socket(&opened.socket, near.index, group, &[]).unwrap();
                Some(opened)
            };
            let (worker, death) = supervisor.worker(0);
            let held = join(&worker);
            worker.release_unclaimed().unwrap();
            assert!(is_member());
            death.come();
            drop((held, worker));
            ip(&format!("link set {NEAR} mtu 1200"));
            ip(&format!("link set {NEAR} mtu 1500"));
            assert!(!is_member());
            let (worker, _) = supervisor.worker(0);
            let held = join(&worker);
            worker.release_unclaimed().unwrap();
            assert!(is_member());
            drop((held, worker));
            supervisor.server.lock().unwrap().forget();
            assert!(!is_member());
        }
    });
}

#[test]
fn helpers_stay_open_until_unused() {
    in_namespace(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Packet);
        let (worker, death) = supervisor.worker(0);
        let (lo, local) = (interface("lo"), Addr::v4([127, 0, 0, 1]));
        let is_taken = || UdpSocket::bind("127.0.0.1:5001").is_err();
        let held = worker.port_guard(local, 5001, &lo, false).unwrap();
        let any = worker.gro_helper_for_port(true, 5002, false).unwrap();
        assert!(held.is_some() && any.is_some() && is_taken());
        death.come();
        drop((held, any, worker));
        assert!(is_taken());
        let (worker, _) = supervisor.worker(0);
        let held = worker.port_guard(local, 5001, &lo, false).unwrap();
        assert!(held.is_some() && supervisor.open_sockets() == 2);
        worker.release_unclaimed().unwrap();
        assert_eq!(supervisor.open_sockets(), 1);
        drop(held);
        wait_until("the port is free", || !is_taken());
        let _program = UdpSocket::bind("127.0.0.1:5001").unwrap();
        assert!(worker.port_guard(local, 5001, &lo, false).unwrap().is_none());
    });
}
