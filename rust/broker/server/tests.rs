//! Malicious workers: their messages change nothing and end only their own connection, never the
//! supervisor.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::addr::Addr;
use crate::broker::messages::tests::request;
use crate::broker::messages::{BrokerError, InterfaceId};
use crate::broker::testbed::{BUFFER_BYTES, pair};
use crate::broker::wire::MAX_ITEMS;
use crate::sockets::filter;
use crate::sockets::testnet::{in_namespace, interface, ip};
use crate::spec::{Choice, OutputSpec, Ttl};
use crate::sys::packet_ring::RingShape;
use crate::sys::sockopt;

const GROUP: Addr = Addr::v4([239, 1, 1, 1]);
const V6: Addr = Addr::v6([0xff, 0x3e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const RING: RingShape = RingShape { slot_bytes: 2048, slots: 32 };

/// Sends messages to a new server; returns its verdict on the last one.
fn exchange(ingress: Ingress, messages: &[Vec<u8>]) -> (Result<bool>, Vec<Answer>) {
    let mut server = BrokerServer::new(2, ingress, BUFFER_BYTES).unwrap();
    let (near, far) = pair();
    let mut answers = Vec::new();
    let mut last = Ok(true);
    for message in messages {
        scm_rights::send(near.as_fd(), message, None, MsgFlags::empty()).unwrap();
        last = server.serve(0, far.as_fd());
        let mut room = vec![0; MESSAGE_BYTES];
        let answer = scm_rights::receive(near.as_fd(), &mut room, MsgFlags::MSG_DONTWAIT);
        answers.extend(answer.ok().and_then(|answer| Answer::from_bytes(&room[..answer.len])));
    }
    (last, answers)
}

fn ask(ingress: Ingress, requests: &[Request]) -> (Result<bool>, Vec<Answer>) {
    let hello = Request::Hello { protocol: PROTOCOL };
    let all = [std::slice::from_ref(&hello), requests].concat();
    exchange(ingress, &all.iter().map(Request::to_bytes).collect::<Vec<_>>())
}

fn lo() -> InterfaceId {
    (&interface("lo")).into()
}

fn frames(blocks: Vec<(Addr, u8)>, ring: Option<RingShape>) -> Request {
    Request::Frames { interface: lo(), blocks, ring }
}

fn spec() -> OutputSpec {
    OutputSpec {
        ifindex: interface("lo").index,
        interface: "lo".to_owned(),
        ..OutputSpec::to(GROUP, 5001)
    }
}

fn output(spec: OutputSpec) -> Request {
    Request::Output { key: 0, is_connected: true, spec }
}

fn port_guard(address: Addr) -> Request {
    Request::PortGuard { interface: lo(), address, port: 1, is_beside_own: false }
}

fn datagrams(group: Addr, is_everywhere: bool) -> Request {
    Request::Datagrams {
        interface: lo(),
        group,
        is_broadcast: false,
        is_everywhere,
        is_beside_own: false,
        port: 1,
    }
}

#[test]
fn policy_violations_end_the_connection() {
    in_namespace(|| {
        let (named, lo) = (|name: &str| InterfaceId { name: name.to_owned(), ..lo() }, lo());
        let join = |group, sources: &[Addr]| Request::Join {
            interface: lo.clone(),
            group,
            sources: sources.to_vec(),
        };
        let nowhere = InterfaceId { index: 0, ..lo.clone() };
        let large = RingShape { slots: 1 << 15, ..RING };
        let odd = RingShape { slot_bytes: 2000, ..RING };
        let wrong = [
            frames(vec![(GROUP, 33)], None),
            frames(vec![(GROUP, 0); filter::MOST_BLOCKS + 1], None),
            frames(vec![], Some(large)),
            frames(vec![], Some(odd)),
            Request::Frames { interface: named(""), blocks: vec![], ring: None },
            Request::Frames { interface: named("0123456789abcdef"), blocks: vec![], ring: None },
            Request::Frames { interface: nowhere, blocks: vec![], ring: None },
            Request::Filter { lease: 1, blocks: vec![] },
            Request::AllMulticast { lease: 1, on: true },
            join(Addr::v4([10, 0, 0, 1]), &[]),
            join(GROUP, &[V6]),
            join(GROUP, &[GROUP]),
            port_guard(GROUP),
            datagrams(Addr::v4([127, 0, 0, 1]), false),
            datagrams(GROUP, true),
            Request::JoinBy { lease: 1, sources: vec![] },
            Request::Reconnect { lease: 1, ifindex: 1 },
            Request::Release { leases: vec![1] },
            output(OutputSpec { address_bits: 33, ..spec() }),
            output(OutputSpec { port: 0, ..spec() }),
            output(OutputSpec { address_bits: 4, ..spec() }),
            output(OutputSpec { last_port: 5000, ..spec() }),
            output(OutputSpec { interface: "a/b".to_owned(), ..spec() }),
            output(OutputSpec { interface: "a".repeat(128), ..spec() }),
            output(OutputSpec { interface: String::new(), ..spec() }),
            output(OutputSpec { ifindex: 0, ..spec() }),
            output(OutputSpec { ttl: Ttl::Set(0), ..spec() }),
            output(OutputSpec { dscp: Some(64), ..spec() }),
            output(OutputSpec { priority: Some(7), ..spec() }),
            output(OutputSpec { source: Choice::Chosen(V6), ..spec() }),
            output(OutputSpec { source_port: Choice::Chosen(0), ..spec() }),
            Request::Hello { protocol: PROTOCOL + 1 },
        ];
        for request in wrong {
            let (end, answers) = ask(Ingress::Packet, std::slice::from_ref(&request));
            let text = end.unwrap_err().to_string();
            assert!(
                text.starts_with("the engine stopped: worker 0 violated the broker protocol"),
                "{text}"
            );
            assert_eq!(answers, [Answer::Done {}], "{request:?}");
        }
        let (end, _) = ask(Ingress::Udp, &[frames(vec![], None)]);
        assert!(end.is_err());
        let (end, _) = exchange(Ingress::Udp, &[Request::ReleaseUnclaimed {}.to_bytes()]);
        assert!(end.is_err(), "without a hello");
    });
}

#[test]
fn a_socket_is_used_only_for_what_it_is() {
    in_namespace(|| {
        for request in [
            Request::Filter { lease: 1, blocks: vec![] },
            Request::AllMulticast { lease: 1, on: true },
            Request::Reconnect { lease: 1, ifindex: 0 },
            Request::Reconnect { lease: 2, ifindex: 1 },
        ] {
            assert!(ask(Ingress::Packet, &[output(spec()), request]).0.is_err());
        }
        let reconnect = Request::Reconnect { lease: 1, ifindex: 1 };
        assert!(ask(Ingress::Packet, &[frames(vec![], None), reconnect]).0.is_err());
        let twice = Request::Release { leases: vec![1, 1] };
        assert!(ask(Ingress::Packet, &[output(spec()), twice]).0.is_err());
    });
}

#[test]
fn refusals_of_the_kernel_keep_the_connection() {
    in_namespace(|| {
        let gone = InterfaceId { index: 77, name: "eth7".to_owned() };
        let absent = Request::Frames { interface: gone, blocks: vec![], ring: None };
        let (end, answers) = ask(Ingress::Packet, &[absent, frames(vec![(GROUP, 0)], Some(RING))]);
        assert!(end.unwrap());
        let [_, Answer::Refused { why }, Answer::Frames { ring: Some(RING), .. }] = &*answers
        else {
            panic!("{answers:?}");
        };
        let text = Error::from(why.clone()).to_string();
        assert_eq!(text, "opening a socket on eth7: No such device");
    });
}

#[test]
fn one_worker_has_few_packet_sockets_on_an_interface() {
    in_namespace(|| {
        let requests = vec![frames(vec![], None); 5];
        let (end, answers) = ask(Ingress::Packet, &requests);
        assert!(end.unwrap());
        let Some(Answer::Refused { why }) = answers.last() else { panic!("{answers:?}") };
        let text = Error::from(BrokerError::clone(why)).to_string();
        assert_eq!(text, "too many packet sockets are open for lo");
        assert!(matches!(answers[4], Answer::Frames { .. }));
    });
}

#[test]
fn a_worker_that_does_not_read_is_disconnected_without_blocking() {
    in_namespace(|| {
        let mut server = BrokerServer::new(1, Ingress::Udp, BUFFER_BYTES).unwrap();
        let (near, far) = pair();
        let hello = Request::Hello { protocol: PROTOCOL }.to_bytes();
        let end = (0..100_000).find_map(|_| {
            scm_rights::send(near.as_fd(), &hello, None, MsgFlags::empty()).unwrap();
            server.serve(0, far.as_fd()).err()
        });
        let text = end.unwrap().to_string();
        assert!(text.contains("requests without reading the answers"), "{text}");
    });
}

#[test]
fn endless_requests_do_not_hold_up_the_supervisor() {
    in_namespace(|| {
        let mut server = BrokerServer::new(1, Ingress::Udp, BUFFER_BYTES).unwrap();
        let (near, far) = pair();
        let (ready, is_ready) = mpsc::channel();
        let hello = Request::Hello { protocol: PROTOCOL }.to_bytes();
        let release = Request::Release { leases: vec![] }.to_bytes();
        thread::spawn(move || {
            scm_rights::send(near.as_fd(), &hello, None, MsgFlags::empty()).unwrap();
            ready.send(()).unwrap();
            while scm_rights::send(near.as_fd(), &release, None, MsgFlags::empty()).is_ok() {}
        });
        is_ready.recv_timeout(Duration::from_secs(5)).unwrap();
        for _ in 0..10 {
            let start = Instant::now();
            assert!(server.serve(0, far.as_fd()).unwrap());
            assert!(start.elapsed() < Duration::from_secs(2));
        }
    });
}

#[test]
fn a_closed_connection_is_reported_and_a_long_message_refused() {
    in_namespace(|| {
        let mut server = BrokerServer::new(1, Ingress::Udp, BUFFER_BYTES).unwrap();
        let (near, far) = pair();
        assert!(server.serve(0, far.as_fd()).unwrap(), "nothing has come");
        let long = vec![0; MESSAGE_BYTES + 1];
        scm_rights::send(near.as_fd(), &long, None, MsgFlags::empty()).unwrap();
        assert!(server.serve(0, far.as_fd()).is_err());
        scm_rights::send(near.as_fd(), b"x", Some(near.as_fd()), MsgFlags::empty()).unwrap();
        assert!(server.serve(0, far.as_fd()).is_err());
        drop(near);
        assert!(!server.serve(0, far.as_fd()).unwrap());
    });
}

/// If the kernel had to drop deletions, only the sockets on interfaces that are really gone are
/// given up.
#[test]
fn lost_deletion_events_cost_no_existing_interface() {
    in_namespace(|| {
        let mut server = BrokerServer::new(1, Ingress::Packet, BUFFER_BYTES).unwrap();
        let ask = |server: &mut BrokerServer, request: &Request| {
            server.handle(0, request.clone()).unwrap_or_else(|_| panic!("{request:?}"))
        };
        let frames_on = |interface| Request::Frames { interface, blocks: vec![], ring: None };
        let lay = |name: &str| {
            ip(&format!("link add {name} type veth peer name {name}-far"));
            InterfaceId::from(&interface(name))
        };
        let hello = Request::Hello { protocol: PROTOCOL };
        ask(&mut server, &hello);
        let stays = lay("stays");
        for interface in [stays.clone(), lay("reported"), lay("unreported"), lay("renewed")] {
            let join =
                Request::Join { interface: interface.clone(), group: GROUP, sources: vec![] };
            ask(&mut server, &frames_on(interface));
            ask(&mut server, &join);
        }
        // Room for a single message.
        sockopt::set(server.deletions(), libc::SOL_SOCKET, libc::SO_RCVBUF, 1_i32).unwrap();
        let index = interface("renewed").index;
        for name in ["reported", "unreported", "renewed"] {
            ip(&format!("link delete {name}"));
        }
        ip(&format!("link add renewed index {index} type veth peer name far"));
        server.follow_deletions();
        assert_eq!(server.workers[0].memberships.len(), 4);
        ask(&mut server, &hello);
        assert_eq!(server.workers[0].memberships.len(), 1);
        for (interface, had_it) in [(stays, true), ((&interface("renewed")).into(), false)] {
            let answer = ask(&mut server, &frames_on(interface));
            let Answer::Frames { has_history, .. } = answer else { panic!("{answer:?}") };
            assert_eq!(has_history, had_it);
        }
    });
}

/// Events about other interfaces do not use up the room for those that matter.
#[test]
fn only_deletions_of_watched_interfaces_are_reported() {
    in_namespace(|| {
        let mut deletions = Deletions::open().unwrap();
        for name in ["ours", "theirs"] {
            ip(&format!("link add {name} type veth peer name {name}-far"));
        }
        let ours = interface("ours").index;
        deletions.watch(ours).unwrap();
        ip("link delete theirs");
        assert_eq!(deletions.take(|_| panic!("nothing was lost")).len(), 0);
        ip("link delete ours");
        assert_eq!(deletions.take(|_| panic!("nothing was lost")), [ours].into());
        assert_eq!(deletions.take(|_| false).len(), 0);
    });
}

/// Arbitrary requests and bytes to one server of each ingress: it answers, refuses or disconnects,
/// and its sockets stay within the limits.
#[test]
fn no_message_hurts_the_supervisor() {
    in_namespace(|| {
        let servers = [Ingress::Packet, Ingress::Udp]
            .map(|ingress| RefCell::new(BrokerServer::new(2, ingress, BUFFER_BYTES).unwrap()));
        let hello = Just(Request::Hello { protocol: PROTOCOL });
        let message = prop_oneof![
            2 => hello.prop_map(|hello| hello.to_bytes()),
            6 => request().prop_map(|request| tame(request).to_bytes()),
            2 => request().prop_map(|request| request.to_bytes()),
            1 => vec(any::<u8>(), 1..100),
        ];
        let sent = (vec((0..3_u16, message), 1..20), 0..2_usize);
        let config = ProptestConfig { cases: 200, ..ProptestConfig::default() };
        let run = TestRunner::new(config).run(&sent, |(messages, which)| {
            for (worker, message) in messages {
                let (near, far) = pair();
                scm_rights::send(near.as_fd(), &message, None, MsgFlags::empty()).unwrap();
                servers[which].borrow_mut().serve(worker, far.as_fd()).ok();
            }
            let sockets = servers[which].borrow().open_sockets();
            prop_assert!(sockets < 10_000, "{sockets}");
            Ok(())
        });
        run.unwrap();
        for server in servers {
            server.borrow_mut().forget();
            assert_eq!(server.borrow().open_sockets(), 0);
        }
    });
}

fn datagrams_at(port: u16) -> Request {
    Request::Datagrams {
        interface: lo(),
        group: GROUP,
        is_broadcast: false,
        is_everywhere: false,
        is_beside_own: false,
        port,
    }
}

/// The same on the loopback, where more requests succeed.
fn tame(request: Request) -> Request {
    let (interface, few) = (lo(), |id: u64| id % 20 + 1);
    let sources = |_: Vec<Addr>| vec![Addr::v4([127, 0, 0, 1])];
    match request {
        Request::Frames { ring, .. } => {
            Request::Frames { interface, blocks: vec![(GROUP, 4)], ring: ring.map(|_| RING) }
        }
        Request::Filter { lease, .. } => Request::Filter { lease: few(lease), blocks: vec![] },
        Request::AllMulticast { lease, on } => Request::AllMulticast { lease: few(lease), on },
        Request::Join { sources: list, .. } => {
            Request::Join { interface, group: GROUP, sources: sources(list) }
        }
        Request::GroHelper { port, .. } => Request::GroHelper { interface, group: GROUP, port },
        Request::GroHelperAnywhere { port, .. } => {
            Request::GroHelperAnywhere { group: GROUP, port }
        }
        Request::Datagrams { port, .. } => datagrams_at(port),
        Request::JoinBy { lease, .. } => Request::JoinBy { lease: few(lease), sources: vec![] },
        Request::LeaveBy { lease, .. } => Request::LeaveBy { lease: few(lease), sources: vec![] },
        Request::Announce { .. } => Request::Announce { ifindex: 1 },
        Request::Merge { lease, on } => Request::Merge { lease: few(lease), on },
        Request::NarrowBy { lease, sources: list } => {
            Request::NarrowBy { lease: few(lease), sources: sources(list) }
        }
        Request::Output { key, .. } => Request::Output { key, is_connected: true, spec: spec() },
        Request::Reconnect { lease, .. } => Request::Reconnect { lease: few(lease), ifindex: 1 },
        Request::ResolveHost { lease, .. } => {
            Request::ResolveHost { lease: few(lease), ifindex: 1 }
        }
        Request::Hooks { of, .. } => Request::Hooks { interface, of },
        Request::XdpLink { .. } => Request::XdpLink { interface, queue: 0 },
        Request::XdpMemory { lease } => Request::XdpMemory { lease: few(lease) },
        Request::Release { leases } => Request::Release {
            leases: leases.into_iter().take(MAX_ITEMS).take(1).map(few).collect(),
        },
        other => other,
    }
}
