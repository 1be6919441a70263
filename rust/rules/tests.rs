//! Each verdict, and the precedence between rules on one input.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::packet::Span;

const GROUP: Addr = Addr::v4([239, 1, 1, 1]);
const OTHER_GROUP: Addr = Addr::v6([0xff, 0x3e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
const SOURCES: [Addr; 3] =
    [Addr::v4([10, 0, 0, 7]), Addr::v4([10, 0, 0, 5]), Addr::v4([10, 0, 0, 6])];
const INPUT: InputKey = InputKey { interface: 3, vlan: 0, group: GROUP, port: 5001 };

fn rule(input: InputKey, sources: &[Addr]) -> TableRule {
    TableRule { input, group_bits: 0, last_port: input.port, sources: sources.into() }
}

/// A rule for a block of groups, or a range of ports, that begins with `input`.
fn pattern(input: InputKey, group_bits: u8, last_port: u16, sources: &[Addr]) -> TableRule {
    TableRule { group_bits, last_port, ..rule(input, sources) }
}

fn datagram(input: InputKey, source: Addr) -> Datagram {
    Datagram {
        source,
        group: input.group,
        source_port: 40_000,
        port: input.port,
        ttl: 1,
        dscp: 0,
        vlan: input.vlan,
        payload: Span { start: 42, len: 5 },
        segments: 1,
    }
}

/// What the table says about a datagram for `input` from `source`.
fn find(table: &Table, input: InputKey, source: Addr) -> Verdict<'_> {
    table.find(input.interface, &datagram(input, source))
}

#[test]
fn a_rule_takes_what_fits_it_and_nothing_else() {
    let table = Table::compile(&[rule(INPUT, &[])]);
    let no_rule = |group| Verdict::Discard(Discard::NoRule, group);
    for (input, verdict) in [
        (INPUT, Verdict::Rules(&[0])),
        (InputKey { interface: 4, ..INPUT }, no_rule(None)),
        (InputKey { group: OTHER_GROUP, ..INPUT }, no_rule(None)),
        (InputKey { port: 5002, ..INPUT }, no_rule(Some(0))),
        (InputKey { port: 5002, vlan: 7, ..INPUT }, no_rule(Some(0))),
        (InputKey { vlan: 7, ..INPUT }, Verdict::Discard(Discard::Vlan, Some(0))),
    ] {
        assert_eq!(find(&table, input, SOURCES[0]), verdict, "{input:?}");
    }
}

#[test]
fn an_empty_table_takes_nothing() {
    let table = Table::compile(&[]);
    assert_eq!(find(&table, INPUT, SOURCES[0]), Verdict::Discard(Discard::NoRule, None));
}

#[test]
fn a_rule_for_a_vlan_does_not_take_untagged_datagrams() {
    let tagged = InputKey { vlan: 7, ..INPUT };
    let table = Table::compile(&[rule(tagged, &[])]);
    assert_eq!(find(&table, tagged, SOURCES[0]), Verdict::Rules(&[0]));
    let refused = Verdict::Discard(Discard::Vlan, Some(0));
    assert_eq!(find(&table, INPUT, SOURCES[0]), refused);
    assert_eq!(find(&table, InputKey { vlan: 8, ..INPUT }, SOURCES[0]), refused);
}

#[test]
fn rules_on_one_input_all_take_it_in_their_order() {
    let other = InputKey { port: 5002, ..INPUT };
    let rules = [rule(INPUT, &[]), rule(other, &[]), rule(INPUT, &[]), rule(INPUT, &[])];
    let table = Table::compile(&rules);
    assert_eq!(find(&table, INPUT, SOURCES[0]), Verdict::Rules(&[0, 2, 3]));
    assert_eq!(find(&table, other, SOURCES[0]), Verdict::Rules(&[1]));
}

#[test]
fn a_source_that_no_rule_lists_is_refused() {
    let table = Table::compile(&[rule(INPUT, &SOURCES[..2])]);
    assert_eq!(find(&table, INPUT, SOURCES[0]), Verdict::Rules(&[0]));
    assert_eq!(find(&table, INPUT, SOURCES[1]), Verdict::Rules(&[0]));
    let refused = Verdict::Discard(Discard::Source, Some(0));
    assert_eq!(find(&table, INPUT, SOURCES[2]), refused);
}

#[test]
fn rules_that_list_the_source_come_before_rules_for_any() {
    let table = Table::compile(&[
        rule(INPUT, &[]),
        rule(INPUT, &SOURCES[..2]),
        rule(INPUT, &SOURCES[1..2]),
        rule(INPUT, &[]),
    ]);
    assert_eq!(find(&table, INPUT, SOURCES[0]), Verdict::Rules(&[1]));
    assert_eq!(find(&table, INPUT, SOURCES[1]), Verdict::Rules(&[1, 2]));
    assert_eq!(find(&table, INPUT, SOURCES[2]), Verdict::Rules(&[0, 3]));
}

#[test]
fn a_source_that_is_listed_twice_counts_once() {
    let table = Table::compile(&[rule(INPUT, &[SOURCES[0], SOURCES[1], SOURCES[0]])]);
    assert_eq!(find(&table, INPUT, SOURCES[0]), Verdict::Rules(&[0]));
}

#[test]
fn groups_are_numbered_densely_per_interface() {
    let mut compiler = Compiler::default();
    assert_eq!(compiler.groups(), 0);
    let numbers = [
        rule(INPUT, &[]),
        rule(InputKey { port: 5002, vlan: 7, ..INPUT }, &SOURCES),
        rule(InputKey { interface: 4, ..INPUT }, &[]),
        rule(InputKey { group: OTHER_GROUP, ..INPUT }, &[]),
    ]
    .map(|rule| compiler.add(rule));
    let table = compiler.table();
    assert_eq!(compiler.groups(), 3);
    assert_eq!(numbers.map(|rule| compiler.group_of(rule)), [0, 0, 1, 2]);
    let unknown_port = InputKey { interface: 4, port: 9, ..INPUT };
    let verdict = find(&table, unknown_port, SOURCES[0]);
    assert_eq!(verdict, Verdict::Discard(Discard::NoRule, Some(1)));
}

/// Where a rule for 239.1.0.0 with so many varying bits, and ports from 5000 on, begins.
const BLOCK: InputKey =
    InputKey { interface: 3, vlan: 0, group: Addr::v4([239, 1, 0, 0]), port: 5000 };

#[test]
fn the_smaller_block_wins_and_then_the_narrower_range() {
    let ports = |first| InputKey { port: first, ..BLOCK };
    let table = Table::compile(&[
        pattern(BLOCK, 16, 5999, &[]),
        pattern(BLOCK, 16, 5099, &[]),
        pattern(ports(5001), 16, 5001, &[]),
        pattern(BLOCK, 9, 5999, &[]),
        rule(INPUT, &[]),
        pattern(InputKey { port: 5000, ..INPUT }, 0, 5002, &[]),
    ]);
    for (group, port, taken) in [
        ([239, 1, 1, 1], 5001, 4),
        ([239, 1, 1, 1], 5002, 5),
        ([239, 1, 1, 1], 5003, 3),
        ([239, 1, 1, 2], 5001, 3),
        ([239, 1, 2, 0], 5001, 2),
        ([239, 1, 2, 0], 5099, 1),
        ([239, 1, 255, 255], 5100, 0),
    ] {
        let key = InputKey { group: Addr::v4(group), port, ..BLOCK };
        assert_eq!(find(&table, key, SOURCES[0]), Verdict::Rules(&[taken]), "{key:?}");
    }
    let beyond = InputKey { port: 6000, ..BLOCK };
    let verdict = Verdict::Discard(Discard::NoRule, Some(1));
    assert_eq!(find(&table, beyond, SOURCES[0]), verdict);
    let outside = InputKey { group: Addr::v4([239, 2, 0, 0]), ..BLOCK };
    assert_eq!(find(&table, outside, SOURCES[0]), Verdict::Discard(Discard::NoRule, None));
}

#[test]
fn ranges_of_one_width_that_overlap_both_take_what_lies_in_both() {
    let later = InputKey { port: 5050, ..BLOCK };
    let table = Table::compile(&[pattern(BLOCK, 8, 5099, &[]), pattern(later, 8, 5149, &[])]);
    for (port, taken) in
        [(5000, &[0][..]), (5049, &[0]), (5050, &[0, 1]), (5099, &[0, 1]), (5100, &[1])]
    {
        let key = InputKey { port, ..BLOCK };
        assert_eq!(find(&table, key, SOURCES[0]), Verdict::Rules(taken), "{port}");
    }
}

#[test]
fn what_the_specific_rule_does_not_list_is_left_to_the_next() {
    let rules = [
        rule(INPUT, &SOURCES[..1]),
        pattern(BLOCK, 16, 5099, &SOURCES[1..2]),
        pattern(BLOCK, 20, 5099, &[]),
    ];
    let table = Table::compile(&rules);
    for (source, taken) in SOURCES.into_iter().zip([0, 1, 2]) {
        assert_eq!(find(&table, INPUT, source), Verdict::Rules(&[taken]));
    }
    let table = Table::compile(&rules[..2]);
    let refused = Verdict::Discard(Discard::Source, Some(0));
    assert_eq!(find(&table, INPUT, SOURCES[2]), refused);
    let refused = Verdict::Discard(Discard::Source, Some(1));
    assert_eq!(find(&table, BLOCK, SOURCES[2]), refused);
}

#[test]
fn a_block_for_a_vlan_takes_no_untagged_datagrams() {
    let tagged = InputKey { vlan: 7, ..BLOCK };
    let table = Table::compile(&[pattern(tagged, 16, 5099, &[])]);
    assert_eq!(find(&table, tagged, SOURCES[0]), Verdict::Rules(&[0]));
    assert_eq!(find(&table, BLOCK, SOURCES[0]), Verdict::Discard(Discard::Vlan, Some(0)));
    let other_port = InputKey { port: 5100, ..BLOCK };
    assert_eq!(find(&table, other_port, SOURCES[0]), Verdict::Discard(Discard::NoRule, Some(0)));
}

/// Rules as a table must take them, said without one.
#[derive(Default)]
struct Model(BTreeMap<u32, TableRule>);

impl Model {
    fn find(&self, interface: u32, datagram: &Datagram, group: impl Fn(u32) -> u32) -> Answer {
        let named = |rule: &TableRule| {
            rule.input.interface == interface
                && datagram.group.block(rule.group_bits) == rule.input.group.block(rule.group_bits)
        };
        let mut named: Vec<_> = self.0.iter().filter(|(_, rule)| named(rule)).collect();
        named.sort_by_key(|(_, rule)| (rule.group_bits, rule.last_port - rule.input.port));
        let smallest = named.first().map(|(number, _)| group(**number));
        let has_port =
            |rule: &TableRule| (rule.input.port..=rule.last_port).contains(&datagram.port);
        named.retain(|(_, rule)| has_port(rule));
        let elsewhere = named.first().map(|(number, _)| group(**number));
        named.retain(|(_, rule)| rule.input.vlan == datagram.vlan);
        let width = |rule: &TableRule| (rule.group_bits, rule.last_port - rule.input.port);
        for equal in named.chunk_by(|one, next| width(one.1) == width(next.1)) {
            let lists = |rule: &TableRule| rule.sources.contains(&datagram.source);
            let is_listed = equal.iter().any(|(_, rule)| lists(rule));
            let takes = |rule: &TableRule| {
                if is_listed { lists(rule) } else { rule.sources.is_empty() }
            };
            let takers = equal.iter().filter(|(_, rule)| takes(rule));
            let takers: Vec<u32> = takers.map(|(number, _)| **number).collect();
            if !takers.is_empty() {
                return Answer::Rules(takers);
            }
        }
        match (named.first(), elsewhere) {
            (Some((number, _)), _) => Answer::Discard(Discard::Source, Some(group(**number))),
            (None, Some(number)) => Answer::Discard(Discard::Vlan, Some(number)),
            (None, None) => Answer::Discard(Discard::NoRule, smallest),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Rules(Vec<u32>),
    Discard(Discard, Option<u32>),
}

impl From<Verdict<'_>> for Answer {
    fn from(verdict: Verdict<'_>) -> Self {
        match verdict {
            Verdict::Rules(rules) => Self::Rules(rules.to_vec()),
            Verdict::Discard(reason, group) => Self::Discard(reason, group),
        }
    }
}

/// Few values, so that rules meet.
fn inputs() -> impl Strategy<Value = InputKey> {
    let group = (0..2_u8, 0..3_u8).prop_map(|(high, low)| Addr::v4([239, 1, high, low]));
    (1..3_u32, 0..2_u16, group, 5000..5004_u16)
        .prop_map(|(interface, vlan, group, port)| InputKey { interface, vlan, group, port })
}

fn rules() -> impl Strategy<Value = TableRule> {
    let sources = proptest::collection::vec(proptest::sample::select(&SOURCES[..]), 0..3);
    let shape =
        prop_oneof![3 => Just((0, 0)), 1 => (prop_oneof![Just(0), Just(2), Just(8)], 0..3_u16)];
    (inputs(), shape, sources).prop_map(|(input, (bits, more), sources)| {
        let input = InputKey { group: input.group.block(bits), ..input };
        pattern(input, bits, input.port + more, &sources)
    })
}

#[derive(Clone, Debug)]
enum Change {
    Add(TableRule),
    /// One of those there are.
    Remove(proptest::sample::Index),
    Compile,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        4 => rules().prop_map(Change::Add),
        3 => any::<proptest::sample::Index>().prop_map(Change::Remove),
        3 => Just(Change::Compile),
    ];
    proptest::collection::vec(change, 1..120)
}

/// Every datagram that some rule of [`rules`] may take, and some more.
fn all_datagrams() -> impl Iterator<Item = (u32, Datagram)> {
    let keys = (1..4).flat_map(|interface| (0..2).map(move |vlan| (interface, vlan)));
    let places = (0..2).flat_map(|high| (0..5).map(move |low| Addr::v4([239, 1, high, low])));
    let ports = places.flat_map(|group| (5000..5007).map(move |port| (group, port)));
    let inputs = ports.flat_map(move |(group, port)| {
        keys.clone().map(move |(interface, vlan)| InputKey { interface, vlan, group, port })
    });
    let datagrams = inputs.flat_map(|input| SOURCES.map(|source| (input, source)));
    datagrams.map(|(input, source)| (input.interface, datagram(input, source)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_table_that_was_changed_is_as_one_made_afresh(changes in changes()) {
        let mut compiler = Compiler::default();
        let mut model = Model::default();
        for change in changes.into_iter().chain([Change::Compile]) {
            match change {
                Change::Add(rule) => {
                    let number = compiler.add(rule.clone());
                    prop_assert!(model.0.insert(number, rule).is_none(), "the number is taken");
                }
                Change::Remove(_) if model.0.is_empty() => {}
                Change::Remove(which) => {
                    let numbers: Vec<u32> = model.0.keys().copied().collect();
                    let number = *which.get(&numbers);
                    compiler.remove(number);
                    model.0.remove(&number);
                }
                Change::Compile => {
                    let table = compiler.table();
                    let group_of = |rule| compiler.group_of(rule);
                    let fresh = Table::compile(&model.0.values().cloned().collect::<Vec<_>>());
                    let numbers: Vec<u32> = model.0.keys().copied().collect();
                    for (interface, datagram) in all_datagrams() {
                        let answer = Answer::from(table.find(interface, &datagram));
                        let wanted = model.find(interface, &datagram, group_of);
                        prop_assert_eq!(&answer, &wanted, "{:?} on {}", datagram, interface);
                        let fresh = Answer::from(fresh.find(interface, &datagram));
                        match (answer, fresh) {
                            (Answer::Rules(answer), Answer::Rules(fresh)) => {
                                let fresh: Vec<u32> =
                                    fresh.iter().map(|rule| numbers[*rule as usize]).collect();
                                prop_assert_eq!(answer, fresh);
                            }
                            (Answer::Discard(reason, group), Answer::Discard(same, other)) => {
                                prop_assert_eq!(reason, same);
                                prop_assert_eq!(group.is_some(), other.is_some());
                            }
                            different => prop_assert!(false, "{:?}", different),
                        }
                    }
                }
            }
        }
    }
}
