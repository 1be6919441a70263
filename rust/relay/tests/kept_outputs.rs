//! Outputs that a rule has from another one that it replaces.

use super::*;
use crate::broker::testbed::{BUFFER_BYTES, TestSupervisor};
use crate::stats::Slot;

const INPUT: [u8; 4] = [239, 1, 1, 1];

/// A rule with outputs to these ports of this host.
fn rule_to(id: &str, ports: &[u16]) -> RuleSpec {
    let outputs = ports.iter().map(|port| OutputSpec::to(Addr::v4([127, 0, 0, 1]), *port));
    RuleSpec { id: id.to_owned(), outputs: outputs.collect(), ..rule(INPUT, "lo", None) }
}

/// The slot and the local port of each output.
fn outputs(relay: &Relay) -> Vec<(Slot, u16)> {
    let state = relay.shared.state();
    let all = state.rules.values().flat_map(|rule| &rule.outputs);
    all.map(|output| (output.slot, output.endpoints[0].1)).collect()
}

#[test]
fn a_rule_takes_the_outputs_of_the_one_that_it_replaces() {
    in_namespace(|| {
        let relay = relay();
        relay.start().unwrap();
        relay.change(&[], &[rule_to("a", &[1, 2, 3])]).unwrap();
        let before = outputs(&relay);
        relay.change(&["a".to_owned()], &[rule_to("b", &[4, 3, 1])]).unwrap();
        let after = outputs(&relay);
        assert_eq!((after[1], after[2]), (before[2], before[0]));
        assert!(!before.contains(&after[0]));
        // The slot of the missing one is free again, and only that.
        relay.change(&[], &[rule_to("c", &[5])]).unwrap();
        let slots: Vec<u32> = outputs(&relay).iter().map(|(slot, _)| slot.index).collect();
        assert_eq!(slots.iter().collect::<std::collections::BTreeSet<_>>().len(), slots.len());
        // Another input, or two rules that want the same: each has its own.
        let elsewhere = RuleSpec { id: "e".to_owned(), ..rule([239, 1, 1, 2], "lo", None) };
        let moved = RuleSpec { outputs: rule_to("d", &[1]).outputs, ..elsewhere };
        let put = [moved, rule_to("f", &[1]), rule_to("g", &[1])];
        relay.change(&["b".to_owned()], &put).unwrap();
        let last = outputs(&relay);
        assert_eq!(last.iter().filter(|output| **output == before[0]).count(), 1);
        relay.stop();
    });
}

#[test]
fn a_refused_change_leaves_the_outputs_to_their_rule() {
    in_namespace(|| {
        let relay = relay();
        relay.start().unwrap();
        relay.change(&[], &[rule_to("a", &[1, 2])]).unwrap();
        let before = outputs(&relay);
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut bad = rule_to("b", &[1, 3]);
        bad.outputs[1].source = Choice::Chosen(Addr::v4([127, 0, 0, 1]));
        bad.outputs[1].source_port = Choice::Chosen(taken.local_addr().unwrap().port());
        relay.change(&["a".to_owned()], &[bad]).unwrap_err();
        let put = [rule_to("b", &[2, 1])];
        let change = RuleChange { put: &put, whole: true, ..RuleChange::default() };
        assert!(!relay.apply(&change, |_| false).unwrap());
        assert_eq!((outputs(&relay), relay.rule_ids()), (before, vec!["a".to_owned()]));
        relay.stop();
    });
}

#[test]
fn a_successor_finds_the_sockets_of_outputs_in_whichever_rule() {
    in_namespace(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let settings = Settings::new(Ingress::Udp, BUFFER_BYTES);
        let (client, death) = supervisor.worker(0);
        let first = Relay::with_provider(settings.clone(), Box::new(client)).unwrap();
        first.change(&[], &[rule_to("a", &[1, 2])]).unwrap();
        let sockets = supervisor.open_sockets();
        first.change(&["a".to_owned()], &[rule_to("b", &[3, 2])]).unwrap();
        wait_until("the replaced output is closed", || supervisor.open_sockets() == sockets);
        let before = outputs(&first);
        death.come();
        drop(first);
        let (client, _death) = supervisor.worker(0);
        let second = Relay::with_provider(settings, Box::new(client)).unwrap();
        second.change(&[], &[rule_to("c", &[2, 3])]).unwrap();
        let ports = |all: &[(Slot, u16)]| all.iter().map(|(_, port)| *port).collect::<Vec<_>>();
        let mut expected = ports(&before);
        expected.reverse();
        assert_eq!(ports(&outputs(&second)), expected);
        second.settle().unwrap();
        assert_eq!(supervisor.open_sockets(), sockets);
    });
}

#[test]
fn an_edited_rule_keeps_its_slot_and_those_of_its_outputs() {
    in_namespace(|| {
        let relay = relay();
        relay.start().unwrap();
        relay.change(&[], &[rule_to("a", &[1, 2, 3])]).unwrap();
        let rule_slot = || relay.shared.state().rules["a"].slot;
        let (before, slot) = (outputs(&relay), rule_slot());
        let edit = |outputs: &str| {
            let edit = format!(r#"{{"id":"a","enabled":true,"outputs":{outputs}}}"#);
            let edit = [serde_json::from_str::<RuleEdit>(&edit).unwrap()];
            relay.apply(&RuleChange { edit: &edit, ..RuleChange::default() }, |_| true)
        };
        let to = |port: u16, ttl: u8| {
            format!(r#"{{"address":"127.0.0.1","port":{port},"last_port":{port},"ttl":{ttl}}}"#)
        };
        for bad in ["[[0,4]]", "[[18446744073709551615,2]]", &format!("[[0,3],{}]", to(0, 1))] {
            edit(bad).unwrap_err();
        }
        assert_eq!((outputs(&relay), rule_slot()), (before.clone(), slot));
        assert!(edit(&format!("[[0,1],{},{}]", to(2, 9), to(4, 1))).unwrap());
        let after = outputs(&relay);
        assert_eq!((after[0], rule_slot()), (before[0], slot));
        // Other options need another socket; the counters continue.
        assert_eq!(after[1].0, before[1].0);
        assert_ne!(after[1].1, before[1].1);
        assert!(!before.iter().any(|(slot, _)| *slot == after[2].0));
        relay.stop();
    });
}
