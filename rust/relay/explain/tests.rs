use super::*;
use crate::addr::Addr;
use crate::packet::Span;
use crate::spec::{InputSpec, Join, OutputSpec};
use crate::stats::sequences::SequenceSpec;

const GROUP: Addr = Addr::v4([239, 1, 1, 1]);
const SENDER: Addr = Addr::v4([10, 0, 0, 5]);

fn rule(group_bits: u8, last_port: u16, sources: &[Addr]) -> RuleSpec {
    let input = InputSpec {
        group: GROUP.block(group_bits),
        group_bits,
        broadcast: false,
        everywhere: false,
        port: 5001,
        last_port,
        join: Join::Each,
        interface: "eth0".to_owned(),
        ifindex: 7,
        sources: sources.into(),
        vlan: 0,
        sequence: SequenceSpec::Auto,
    };
    let outputs = vec![OutputSpec::to(Addr::v4([192, 0, 2, 7]), 7000)];
    RuleSpec { id: String::new(), enabled: true, input, outputs, merge: None, class: None }
}

fn datagram(port: u16) -> Datagram {
    let payload = Span { start: 0, len: 100 };
    let (source, group, source_port) = (SENDER, GROUP, 4000);
    Datagram { source, group, source_port, port, ttl: 4, dscp: 0, vlan: 0, payload, segments: 1 }
}

#[test]
fn rules_that_do_not_match_say_why() {
    let disabled = RuleSpec { enabled: false, ..rule(0, 5001, &[]) };
    let mut elsewhere = rule(0, 5001, &[]);
    elsewhere.input.ifindex = 8;
    let mut tagged = rule(0, 5001, &[]);
    tagged.input.vlan = 5;
    let mut other_group = rule(0, 5001, &[]);
    other_group.input.group = Addr::v4([239, 1, 1, 2]);
    let block = rule(8, 5001, &[]);
    let other_source = rule(0, 5001, &[Addr::v4([10, 0, 0, 6])]);
    let rules =
        vec![rule(0, 5001, &[]), disabled, elsewhere, tagged, other_group, block, other_source];
    let explainer = Explainer::new(rules);
    let found = explainer.explain(7, &datagram(5001), 10);
    assert_eq!((found.matched, found.reason), (vec![0], None));
    let others = [
        (1, TableMiss::Disabled),
        (2, TableMiss::Interface),
        (3, TableMiss::Vlan),
        (5, TableMiss::Shadowed),
        (6, TableMiss::Source),
    ];
    assert_eq!(found.others, others);
    assert_eq!(explainer.explain(7, &datagram(5001), 2).others, others[..2]);
    let found = explainer.explain(7, &datagram(5002), 10);
    assert_eq!((found.matched, found.reason), (vec![], Some(Discard::NoRule)));
    assert!(found.others.contains(&(0, TableMiss::Port)));
}

#[test]
fn without_a_match_the_reason_is_that_of_the_table() {
    let disabled = RuleSpec { enabled: false, ..rule(0, 5001, &[]) };
    let found = Explainer::new(vec![disabled]).explain(7, &datagram(5001), 1);
    assert_eq!((found.matched, found.reason), (vec![], Some(Discard::Disabled)));
    let listed = rule(0, 5001, &[Addr::v4([10, 0, 0, 6])]);
    let found = Explainer::new(vec![listed]).explain(7, &datagram(5001), 1);
    assert_eq!((found.matched, found.reason), (vec![], Some(Discard::Source)));
}
