//! The ways of outputs while the host changes, and the links behind them.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::relay::egress::frames::OutputFrames;
use crate::sockets::joins::Joins;
use crate::sockets::testnet::{FAR, tc};
use crate::sockets::xdp::link;
use crate::sys::xdp_socket::XdpDescriptors;

const GROUP: [u8; 4] = [239, 2, 0, 1];

/// A rule with one output to [`GROUP`] on the near end of the cable.
fn to_group(id: &str) -> RuleSpec {
    let output = OutputSpec {
        interface: NEAR.to_owned(),
        ifindex: interface(NEAR).index,
        ..OutputSpec::to(Addr::v4(GROUP), 6001)
    };
    RuleSpec { id: id.to_owned(), outputs: vec![output], ..rule([239, 1, 1, 1], "lo", None) }
}

pub(super) fn relay_with(egress: EgressMode) -> Relay {
    Relay::new(Settings { egress, ..Settings::new(Ingress::Udp, 1 << 20) }).unwrap()
}

/// A running relay with one such rule.
fn running() -> Relay {
    let relay = relay_with(EgressMode::Auto);
    relay.change(&[], &[to_group("a")]).unwrap();
    relay.start().unwrap();
    relay
}

/// The reason why the first output of the first rule uses its socket.
pub(super) fn reason(relay: &Relay) -> &'static str {
    match relay.report().rules[0].outputs[0].way {
        Some(OutputWay::Socket(name)) => name,
        other => panic!("{other:?}"),
    }
}

pub(super) fn wait_for(relay: &Relay, wanted: &str) {
    wait_until(wanted, || reason(relay) == wanted);
}

/// Something of the frames of the first output of the first rule.
pub(super) fn of_frames<T>(relay: &Relay, get: impl FnOnce(&OutputFrames) -> T) -> T {
    let state = relay.shared.state();
    get(&state.rules.values().next().unwrap().outputs[0].frames)
}

fn is_open(relay: &Relay) -> bool {
    let load = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
    of_frames(relay, |frames| frames.of_worker(0).is_some_and(|frames| load(&frames.is_open)))
}

/// Another program's socket on the transmit queue, if it is free.
fn occupy_queue() -> Option<XdpDescriptors> {
    link::until_free(|| link::open(&interface(NEAR), 0)).ok().map(|(descriptors, _)| descriptors)
}

#[test]
fn an_output_returns_to_its_socket_while_its_frames_would_miss_something() {
    with_cable(|| {
        let relay = running();
        let id = of_frames(&relay, OutputFrames::link);
        assert!(id.is_some() && is_open(&relay));
        let check = |name: &str, begin: &dyn Fn(), end: &dyn Fn()| {
            begin();
            wait_for(&relay, name);
            assert!(!is_open(&relay), "{name}");
            end();
            wait_for(&relay, "batches");
            assert!(is_open(&relay), "{name}");
        };
        let tbf = format!("qdisc add dev {NEAR} root tbf rate 1gbit burst 100k latency 1s");
        let plain = format!("qdisc del dev {NEAR} root");
        check("discipline", &|| tc(&tbf), &|| tc(&plain));
        let joins = Mutex::new(Joins::new());
        let (group, index) = (Addr::v4(GROUP), interface(NEAR).index);
        let join = || joins.lock().unwrap().join(index, NEAR, group, &[]).unwrap();
        let leave = || drop(joins.lock().unwrap().leave(index, group, &[]));
        check("local_member", &join, &leave);
        let set = |word: &str| ip(&format!("link set {NEAR} {word}"));
        check("parked", &|| drop(set("down")), &|| drop(set("up")));
        // The link was kept all the time.
        assert_eq!(of_frames(&relay, OutputFrames::link), id);
        relay.stop();
    });
}

#[test]
fn frames_follow_the_address_and_the_mtu_of_their_interface() {
    with_cable(|| {
        let relay = running();
        let fields = || {
            of_frames(&relay, |frames| {
                let frames = frames.of_worker(0)?;
                let source = frames.headers.source.to_string();
                Some((frames.ethernet, source, frames.headers.source_port, frames.max_payload))
            })
        };
        let (ethernet, source, port, payload) = fields().unwrap();
        assert_eq!(ethernet.destination, [1, 0, 0x5e, 2, 0, 1]);
        assert_eq!((&*source, payload), ("10.9.0.1", 1500 - 28));
        ip(&format!("link set {NEAR} address 02:00:00:00:00:07"));
        let mac = || fields().map(|(ethernet, ..)| ethernet.source);
        wait_until("the MAC address", || mac() == Some([2, 0, 0, 0, 0, 7]));
        ip(&format!("link set {NEAR} mtu 1400"));
        wait_until("the MTU", || fields().is_some_and(|it| it.3 == 1400 - 28));
        ip(&format!("address add 10.9.1.7/24 dev {NEAR}"));
        ip(&format!("address del 10.9.0.1/24 dev {NEAR}"));
        let is_other = |(_, source, own_port, _): (_, String, u16, _)| {
            source == "10.9.1.7" && own_port == port
        };
        wait_until("the source", || fields().is_some_and(is_other));
        relay.stop();
    });
}

#[test]
fn outputs_share_a_link_until_the_last_of_them_ends() {
    with_cable(|| {
        let relay = running();
        let mut second = to_group("b");
        second.input.port = 5002;
        second.input.last_port = 5002;
        relay.change(&[], &[second]).unwrap();
        assert_eq!(relay.shared.state().xdp_links.of_worker(0).len(), 1);
        relay.change(&["a".to_owned()], &[]).unwrap();
        assert_eq!((reason(&relay), occupy_queue().is_some()), ("batches", false));
        relay.change(&["b".to_owned()], &[]).unwrap();
        assert!(relay.shared.state().xdp_links.of_worker(0).is_empty());
        let other = occupy_queue();
        assert!(other.is_some());
        relay.change(&[], &[to_group("c")]).unwrap();
        assert_eq!(reason(&relay), "queue_in_use");
        drop(other);
        wait_for(&relay, "batches");
        relay.stop();
    });
}

#[test]
fn an_interface_that_is_created_again_gets_another_link() {
    with_cable(|| {
        let relay = running();
        let before = of_frames(&relay, OutputFrames::link);
        ip(&format!("link del {NEAR}"));
        wait_for(&relay, "parked");
        wait_until("it is closed", || relay.shared.state().xdp_links.of_worker(0).is_empty());
        ip(&format!("link add {NEAR} type veth peer name {FAR}"));
        ip(&format!("address add 10.9.0.1/24 dev {NEAR}"));
        ip(&format!("link set {NEAR} up"));
        wait_for(&relay, "batches");
        let after = of_frames(&relay, OutputFrames::link);
        assert!(after.is_some() && after != before);
        relay.stop();
    });
}

#[test]
fn a_successor_relays_what_its_predecessor_did_though_a_link_is_missing() {
    with_cable(|| {
        let page = stats::create_page().unwrap();
        let forced = Settings { egress: EgressMode::Xdp, ..Settings::new(Ingress::Udp, 1 << 20) };
        let successor = || {
            let page = SharedWords::open(page.fd().try_clone_to_owned().unwrap()).unwrap();
            Relay::on_page(forced.clone(), Box::new(LocalProvider::new()), page).unwrap()
        };
        let first = successor();
        first.change(&[], &[to_group("a")]).unwrap();
        first.start().unwrap();
        wait_until("it has counted", || first.report().rules[0].outputs[0].way.is_some());
        first.stop();
        drop(first);
        let _other = occupy_queue().unwrap();
        let second = successor();
        second.change(&[], &[to_group("a")]).unwrap();
        assert_eq!(reason(&second), "queue_in_use");
        let error = second.change(&[], &[to_group("b")]).unwrap_err().to_string();
        assert!(error.contains("another program has an AF_XDP socket"), "{error}");
    });
}

#[test]
fn a_forced_output_that_cannot_use_a_link_refuses_its_rule() {
    with_cable(|| {
        let relay = relay_with(EgressMode::Xdp);
        let mut both = to_group("a");
        both.outputs.push(OutputSpec::to(Addr::v4([10, 9, 0, 2]), 6001));
        let error = relay.change(&[], &[both]).unwrap_err().to_string();
        assert!(error.starts_with("10.9.0.2:6001 cannot be sent through AF_XDP: "), "{error}");
        assert!(error.contains("use egress auto"), "{error}");
        assert!(
            relay.shared.state().xdp_links.of_worker(0).is_empty() && relay.rule_ids().is_empty()
        );
        // One that waits for its interface is accepted.
        ip(&format!("link set {NEAR} down"));
        relay.change(&[], &[to_group("a")]).unwrap();
        assert_eq!(reason(&relay), "parked");
        let chosen = relay_with(EgressMode::Socket);
        chosen.change(&[], &[to_group("a")]).unwrap();
        assert_eq!(reason(&chosen), "chosen");
    });
}
