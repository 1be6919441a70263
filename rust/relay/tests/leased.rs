//! Relays whose sockets a broker opens, and their successors, which take these sockets over.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::*;
use crate::addr::Addr;
use crate::broker::BrokerClient;
use crate::broker::testbed::{BUFFER_BYTES, Death, TestSupervisor};
use crate::sockets::testnet::FAR;
use crate::spec::RuleSpec;

const OUT: &str = "127.0.0.1:6001";

fn settings(ingress: Ingress, number: u16, of: u16) -> Settings {
    Settings { share: Share { number, of }, ..Settings::new(ingress, BUFFER_BYTES) }
}

/// A relay that acts as a worker with these rules.
fn worker(supervisor: &TestSupervisor, settings: Settings, rules: &[RuleSpec]) -> (Relay, Death) {
    let (client, death): (BrokerClient, Death) = supervisor.worker(settings.share.number);
    let relay = Relay::with_provider(settings, Box::new(client)).unwrap();
    relay.start().unwrap();
    relay.change(&[], rules).unwrap();
    relay.settle().unwrap();
    (relay, death)
}

fn receiver() -> UdpSocket {
    let socket = UdpSocket::bind(OUT).unwrap();
    SockRef::from(&socket).set_recv_buffer_size(1 << 20).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// A socket that sends to groups from this address.
fn sender(from: [u8; 4]) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    SockRef::from(&socket).set_multicast_if_v4(&from.into()).unwrap();
    socket
}

fn send(sender: &UdpSocket, numbers: std::ops::Range<u16>) {
    for number in numbers {
        sender.send_to(&number.to_be_bytes(), ("239.1.1.1", 5001)).unwrap();
    }
}

/// Receives exactly these numbers, in order.
fn expect(receiver: &UdpSocket, numbers: std::ops::Range<u16>) {
    for number in numbers {
        let mut bytes = [0; 2];
        // A socket that waits with a limit is interrupted by completions of this thread's ring.
        let len = loop {
            match receiver.recv(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result.unwrap(),
            }
        };
        assert_eq!((len, u16::from_be_bytes(bytes)), (2, number));
    }
}

/// Relays, dies, and continues as a successor; `from` and `on` are the ends of one cable.
fn check_succession(ingress: Ingress, from: [u8; 4], on: &str) {
    let supervisor = TestSupervisor::new(1, ingress);
    let (receiver, sender) = (receiver(), sender(from));
    let rules = [rule([239, 1, 1, 1], on, None), rule([239, 1, 1, 2], on, None)];
    let (first, death) = worker(&supervisor, settings(ingress, 0, 1), &rules);
    let sockets = supervisor.open_sockets();
    send(&sender, 0..20);
    expect(&receiver, 0..20);
    death.come();
    drop(first);
    send(&sender, 20..40);
    let (second, _) = worker(&supervisor, settings(ingress, 0, 1), &rules);
    expect(&receiver, 20..40);
    send(&sender, 40..60);
    expect(&receiver, 40..60);
    assert_eq!(supervisor.open_sockets(), sockets);
    wait_until("all are counted", || second.report().rules[0].matched == 40);
    assert_eq!(second.report().interfaces[0].kernel_dropped_frames, 0);
    // Refused and removed rules leave nothing behind.
    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut bad = rule([239, 1, 1, 3], on, None);
    bad.outputs[0].source_port = Choice::Chosen(taken.local_addr().unwrap().port());
    let good = rule([239, 1, 1, 4], on, None);
    second.change(&[], &[good, bad]).unwrap_err();
    wait_until("all is as before", || supervisor.open_sockets() == sockets);
    let ids = second.rule_ids();
    second.change(&ids, &[]).unwrap();
    wait_until("all is closed", || supervisor.open_sockets() == 0);
    second.stop();
}

#[test]
fn a_successor_relays_what_arrived_since_the_death() {
    with_cable(|| {
        check_succession(Ingress::Packet, [10, 9, 0, 1], FAR);
        check_succession(Ingress::Udp, [127, 0, 0, 1], "lo");
    });
}

#[test]
fn packet_rings_are_taken_over() {
    with_cable(|| {
        let asking = UdpSocket::bind("127.0.0.1:0").unwrap();
        netdev::set_gro(asking.as_fd(), FAR, false).unwrap();
        check_succession(Ingress::Packet, [10, 9, 0, 1], FAR);
    });
}

#[test]
fn a_recreated_interface_is_followed_through_the_broker() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Packet);
        let (receiver, rules) = (receiver(), [rule([239, 1, 1, 1], FAR, None)]);
        let (relay, _) = worker(&supervisor, settings(Ingress::Packet, 0, 1), &rules);
        let sockets = supervisor.open_sockets();
        ip(&format!("link delete {NEAR}"));
        wait_until("the removal is noticed", || troubles(&relay).0.is_some());
        ip(&format!("link add {NEAR} type veth peer name {FAR}"));
        ip(&format!("address add 10.9.0.1/24 dev {NEAR}"));
        for name in [NEAR, FAR] {
            ip(&format!("link set {name} up"));
        }
        receiver.set_nonblocking(true).unwrap();
        let sender = sender([10, 9, 0, 1]);
        wait_until("datagrams arrive again", || {
            send(&sender, 0..1);
            receiver.recv(&mut [0; 2]).is_ok()
        });
        wait_until("the old sockets are closed", || supervisor.open_sockets() == sockets);
        relay.stop();
    });
}

#[test]
fn several_processes_relay_each_datagram_once() {
    with_cable(|| {
        // UDP sockets do not receive datagrams from the cable whose source is an address of this
        // host, so `udp` is tested on the loopback.
        let routes = [(Ingress::Packet, [10, 9, 0, 1], FAR), (Ingress::Udp, [127, 0, 0, 1], "lo")];
        for (ingress, from, on) in routes {
            let supervisor = TestSupervisor::new(2, ingress);
            let receiver = receiver();
            let mut range = rule([239, 1, 1, 1], on, None);
            range.input.last_port = 5032;
            let [first, second] = [0, 1].map(|number| {
                worker(&supervisor, settings(ingress, number, 2), std::slice::from_ref(&range)).0
            });
            // The flows of as many senders, each to each port.
            let senders: Vec<UdpSocket> = (0..8).map(|_| sender(from)).collect();
            for sender in &senders {
                for port in 5001..=5032 {
                    sender.send_to(b"once", ("239.1.1.1", port)).unwrap();
                }
            }
            let matched = || [&first, &second].map(|relay| relay.report().rules[0].matched);
            wait_until("all are relayed", || matched().iter().sum::<u64>() >= 8 * 32);
            let [one, other] = matched();
            assert!(one > 0 && other > 0 && one + other == 8 * 32, "{one}, {other}");
            for _ in 0..8 * 32 {
                receiver.recv(&mut [0; 4]).unwrap();
            }
            assert!(memberships().matches("010101EF").count() == 1);
            drop((first, second));
            supervisor.server.lock().unwrap().forget();
            assert!(!memberships().contains("010101EF"));
        }
    });
}

#[test]
fn errors_of_the_broker_read_as_those_of_this_process() {
    in_namespace(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let _taken = UdpSocket::bind("127.0.0.1:5001").unwrap();
        let mut no_port = rule([239, 1, 1, 1], "lo", None);
        no_port.outputs[0].source_port = Choice::Chosen(5001);
        let mut sources = rule([239, 1, 1, 1], "lo", None);
        sources.input.sources = (1..9).map(|last| Addr::v4([127, 0, 0, last])).collect();
        fs::write("/proc/sys/net/ipv4/igmp_max_msf", "3").unwrap();
        let (far, _) = worker(&supervisor, settings(Ingress::Udp, 0, 1), &[]);
        for spec in [rule([127, 0, 0, 1], "lo", None), no_port, sources] {
            let near = relay().change(&[], std::slice::from_ref(&spec)).unwrap_err();
            let far = far.change(&[], std::slice::from_ref(&spec)).unwrap_err();
            assert_eq!(format!("{far:?}"), format!("{near:?}"));
        }
        far.stop();
    });
}

#[test]
fn many_rules_are_opened_and_closed() {
    in_namespace(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let rules = |range: std::ops::Range<u16>| -> Vec<RuleSpec> {
            let port = |port: u16| {
                let mut rule = rule([239, 1, 1, 1], "lo", None);
                (rule.id, rule.input.port, rule.input.last_port) = (port.to_string(), port, port);
                rule
            };
            range.map(port).collect()
        };
        let (first, death) = worker(&supervisor, settings(Ingress::Udp, 0, 1), &rules(1..1001));
        assert_eq!(supervisor.open_sockets(), 2000);
        death.come();
        drop(first);
        let start = Instant::now();
        let (second, _) = worker(&supervisor, settings(Ingress::Udp, 0, 1), &rules(501..1001));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert_eq!(supervisor.open_sockets(), 1000);
        let ids = second.rule_ids();
        second.change(&ids, &[]).unwrap();
        wait_until("all is closed", || supervisor.open_sockets() == 0);
        second.stop();
    });
}
