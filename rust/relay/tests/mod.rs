//! Changes: a refused one leaves nothing behind, and one that has to wait is completed later.

use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsFd;

use super::*;
use crate::addr::Addr;
use crate::sockets::interfaces;
use crate::sockets::testnet::{
    NEAR, in_namespace, interface, ip, wait_for, wait_until, with_cable,
};
use crate::spec::Choice;
use crate::spec::{InputSpec, Join, OutputSpec, RuleSpec};
use crate::stats::sequences::SequenceSpec;
use crate::sys::netdev;

mod egress;
mod egress_hosts;
mod kept_outputs;
mod leased;
mod takeover;
mod taps;

pub(super) fn rule(group: [u8; 4], name: &str, source: Option<[u8; 4]>) -> RuleSpec {
    let input = InputSpec {
        everywhere: false,
        group: Addr::v4(group),
        group_bits: 0,
        broadcast: false,
        port: 5001,
        last_port: 5001,
        join: Join::Each,
        interface: name.to_owned(),
        ifindex: interface(name).index,
        sources: Box::default(),
        vlan: 0,
        sequence: SequenceSpec::Auto,
    };
    let output = OutputSpec {
        source: source.map_or(Choice::Kernel, |source| Choice::Chosen(Addr::v4(source))),
        ..OutputSpec::to(Addr::v4([127, 0, 0, 1]), 6001)
    };
    let id = format!("{group:?}%{name}");
    RuleSpec { id, enabled: true, input, outputs: vec![output], merge: None, class: None }
}

fn relay() -> Relay {
    Relay::new(Settings::new(Ingress::Udp, 1 << 20)).unwrap()
}

/// The IPv4 memberships of this network namespace.
fn memberships() -> String {
    fs::read_to_string("/proc/thread-self/net/igmp").unwrap()
}

#[test]
fn an_interface_of_a_refused_rule_is_not_reported() {
    in_namespace(|| {
        let relay = relay();
        let before = memberships();
        let _taken = UdpSocket::bind("127.0.0.1:5001").unwrap();
        let good = rule([239, 1, 1, 1], "lo", None);
        let bad = rule([127, 0, 0, 1], "lo", None);
        relay.change(&[], &[good.clone(), bad.clone()]).unwrap_err();
        assert!(relay.report().interfaces.is_empty());
        wait_for(before.clone(), memberships);
        relay.change(&[], &[good]).unwrap();
        relay.change(&[], &[bad]).unwrap_err();
        assert_eq!(relay.report().interfaces.len(), 1);
        assert_eq!(relay.report().rules.len(), 1);
    });
}

#[test]
fn a_change_after_stop_changes_nothing() {
    in_namespace(|| {
        let relay = relay();
        let first = rule([239, 1, 1, 1], "lo", None);
        let ids = [first.id.clone()];
        relay.change(&[], &[first]).unwrap();
        relay.start().unwrap();
        relay.stop();
        let before = memberships();
        relay.change(&ids, &[rule([239, 1, 1, 2], "lo", None)]).unwrap_err();
        wait_for(before.clone(), memberships);
        assert_eq!(relay.rule_ids(), ids);
    });
}

/// The ids of all rules, and the indices of their slots.
fn slots(relay: &Relay) -> Vec<(String, u32)> {
    let state = relay.shared.state();
    state.rules.values().map(|rule| (rule.id.to_string(), rule.slot.index)).collect()
}

/// A rule with this id, for `lo` unless the index says otherwise.
fn rule_with_id(id: &str, ifindex: u32, vlan: u16) -> RuleSpec {
    let mut spec = rule([239, 1, 1, 1], "lo", None);
    spec.id = id.to_owned();
    (spec.input.ifindex, spec.input.vlan) = (ifindex, vlan);
    spec
}

#[test]
fn an_unchanged_rule_is_not_touched_and_a_changed_one_is_replaced() {
    in_namespace(|| {
        let relay = relay();
        let plain = |id| rule_with_id(id, 1, 0);
        relay.change(&[], &["a", "b", "c"].map(plain)).unwrap();
        let before = slots(&relay);
        let disabled = RuleSpec { enabled: false, ..plain("a") };
        let put = [disabled.clone(), rule_with_id("b", 1, 7), rule_with_id("c", 9, 0), plain("d")];
        relay.change(&[], &put).unwrap();
        let after = slots(&relay);
        assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
        assert_ne!(after[1].1, before[1].1);
        assert_eq!((relay.rule_ids().len(), relay.disabled()), (4, vec!["a".to_owned()]));
        relay.change(&[], &[disabled]).unwrap();
        assert_eq!(slots(&relay), after);
    });
}

#[test]
fn rules_are_removed_by_id_or_by_a_whole_replacement() {
    in_namespace(|| {
        let relay = relay();
        let plain = |id| rule_with_id(id, 1, 0);
        relay.change(&[], &["a", "b", "c"].map(plain)).unwrap();
        let removed = ["a", "b"].map(str::to_owned);
        relay.change(&removed, &[plain("b")]).unwrap();
        assert_eq!(relay.rule_ids(), ["b", "c"]);
        let put = [plain("b"), plain("d")];
        let whole = RuleChange { put: &put, whole: true, ..RuleChange::default() };
        relay.apply(&whole, |_| true).unwrap();
        assert_eq!(relay.rule_ids(), ["b", "d"]);
        let unknown = RuleChange { remove: &["x".to_owned()], ..RuleChange::default() };
        let twice = RuleChange { put: &["x", "x"].map(plain), ..RuleChange::default() };
        for change in [unknown, twice] {
            assert_eq!(relay.apply(&change, |_| true).unwrap_err().rule.as_deref(), Some("x"));
        }
    });
}

/// Why the input and the output of the first rule wait.
fn troubles(relay: &Relay) -> (Option<String>, Option<String>) {
    let rules = relay.report().rules;
    let trouble = rules[0].trouble.as_ref();
    let text = trouble.map(|it| format!("{}: {}", it.state.name(), it.reason));
    (text, rules[0].outputs[0].parked.clone())
}

#[test]
fn a_rule_waits_for_its_interface_and_others_are_not_touched() {
    with_cable(|| {
        let relay = relay();
        let mut waits = rule([239, 1, 1, 1], NEAR, Some([10, 9, 7, 1]));
        waits.input.interface = "later0".to_owned();
        relay.change(&[], &[waits, rule([239, 1, 1, 2], "lo", None)]).unwrap();
        relay.start().unwrap();
        let waiting = "unresolved: there is no interface later0".to_owned();
        let parked = "10.9.7.1 is not an address of this host".to_owned();
        assert_eq!(troubles(&relay), (Some(waiting), Some(parked)));
        assert_eq!(relay.report().interfaces.len(), 1);
        ip(&format!("address add 10.9.7.1/24 dev {NEAR}"));
        wait_until("the output is open", || troubles(&relay).1.is_none());
        ip("link add later0 type veth peer name far1");
        ip("link set far1 up");
        let down = Some("waiting: later0 is down".to_owned());
        wait_until("the link exists", || troubles(&relay).0 == down);
        assert!(!memberships().contains("later0"));
        ip("link set later0 up");
        wait_until("the input is open", || troubles(&relay).0.is_none());
        assert!(memberships().contains("later0"));
        ip("link set later0 name renamed0");
        wait_until("the new name is noticed", || troubles(&relay).0.is_some());
        wait_until("the group is left", || !memberships().contains("010101EF"));
        assert_eq!(relay.report().rules[1].trouble, None);
        relay.stop();
    });
}

#[test]
fn a_failure_without_a_notification_of_its_end_is_tried_again() {
    with_cable(|| {
        let relay = relay();
        let mut spec = rule([10, 9, 0, 1], NEAR, None);
        spec.input.interface = "later0".to_owned();
        relay.change(&[], &[spec]).unwrap();
        relay.start().unwrap();
        let program = UdpSocket::bind("10.9.0.1:5001").unwrap();
        ip("link add later0 type veth peer name far1");
        ip("link set far1 up");
        ip("link set later0 up");
        wait_until("it is refused", || {
            let (trouble, _) = troubles(&relay);
            trouble.is_some_and(|text| text.contains("another program has this port"))
        });
        drop(program);
        wait_until("it is open", || troubles(&relay).0.is_none());
        relay.stop();
    });
}

/// The number of bound IPv4 UDP sockets in this network namespace.
fn bound_sockets() -> usize {
    fs::read_to_string("/proc/thread-self/net/udp").unwrap().lines().count() - 1
}

#[test]
fn helpers_are_opened_when_gro_is_turned_on() {
    with_cable(|| {
        let asking = UdpSocket::bind("127.0.0.1:0").unwrap();
        netdev::set_gro(asking.as_fd(), NEAR, false).unwrap();
        drop(asking);
        let relay = Relay::new(Settings::new(Ingress::Packet, 1 << 20)).unwrap();
        let mut broadcasts = rule([10, 9, 0, 255], NEAR, None);
        broadcasts.input.broadcast = true;
        let mut local = rule([10, 9, 0, 1], NEAR, None);
        local.input.port = 5002;
        local.input.last_port = 5002;
        // Another program has the port of the last one.
        let _program = UdpSocket::bind("10.9.0.1:5002").unwrap();
        relay.change(&[], &[rule([239, 1, 1, 1], NEAR, None), broadcasts, local]).unwrap();
        relay.start().unwrap();
        // The program's, and the outputs'.
        assert_eq!(bound_sockets(), 1 + 3);
        interfaces::switch_gro_on(NEAR).unwrap();
        wait_until("the kernel merges for both", || bound_sockets() == 1 + 3 + 2);
        relay.stop();
    });
}

#[test]
fn if_one_port_of_a_range_fails_none_is_opened() {
    in_namespace(|| {
        let _program = UdpSocket::bind("127.0.0.1:5003").unwrap();
        let relay = relay();
        let mut range = rule([127, 0, 0, 1], "lo", None);
        range.input.last_port = 5005;
        let error = relay.change(&[], &[range.clone()]).unwrap_err().to_string();
        assert!(error.contains("5003"), "{error}");
        wait_for(1, bound_sockets);
        range.input.last_port = 5002;
        let ids = [range.id.clone()];
        relay.change(&[], &[range]).unwrap();
        // One for each port, and the output's.
        assert_eq!(bound_sockets(), 1 + 2 + 1);
        relay.change(&ids, &[]).unwrap();
        wait_for(1, bound_sockets);
    });
}

#[test]
fn the_groups_of_a_refused_block_are_left() {
    in_namespace(|| {
        let before = memberships();
        let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
        for ingress in [Ingress::Packet, Ingress::Udp] {
            let settings = Settings::new(ingress, 1 << 20);
            let relay = Relay::new(settings).unwrap();
            let mut block = rule([239, 1, 1, 0], "lo", None);
            block.input.group_bits = 6;
            let mut bad = rule([239, 1, 2, 1], "lo", None);
            bad.outputs[0].source_port = Choice::Chosen(taken.local_addr().unwrap().port());
            relay.change(&[], &[block.clone(), bad]).unwrap_err();
            wait_for(before.clone(), memberships);
            let ids = [block.id.clone()];
            relay.change(&[], &[block]).unwrap();
            assert_eq!(memberships().lines().count(), before.lines().count() + 64);
            relay.change(&ids, &[]).unwrap();
            wait_for(before.clone(), memberships);
        }
    });
}

#[test]
fn an_abandoned_change_was_prepared_and_leaves_nothing() {
    with_cable(|| {
        for ingress in [Ingress::Packet, Ingress::Udp] {
            let relay = Relay::new(Settings::new(ingress, 1 << 20)).unwrap();
            let first = rule([239, 1, 1, 1], "lo", None);
            let kept = [first.id.clone()];
            relay.change(&[], &[first]).unwrap();
            relay.start().unwrap();
            let (before, sockets) = (memberships(), bound_sockets());
            let add = [rule([239, 1, 1, 2], NEAR, None)];
            let change = RuleChange { remove: &kept, put: &add, ..RuleChange::default() };
            let refused = relay.apply(&change, |prepared| {
                // The new sockets are open, and the old rules are untouched.
                assert!(memberships().contains("020101EF") && bound_sockets() > sockets);
                assert_eq!(prepared.rule_ids().collect::<Vec<_>>(), kept);
                false
            });
            assert!(!refused.unwrap());
            wait_for((before, sockets), || (memberships(), bound_sockets()));
            assert_eq!(relay.report().interfaces.len(), 1);
            let agreed = relay.apply(&change, |_| true);
            assert!(agreed.unwrap());
            assert!(!memberships().contains("010101EF"));
            relay.stop();
        }
    });
}
