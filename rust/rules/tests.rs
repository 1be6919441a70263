//! Every verdict, and the precedence between rules on one input.

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

/// A rule for a block of groups or a range of ports, starting with `input`.
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

/// The table's verdict on a datagram for `input` from `source`.
fn find(table: &Table, input: InputKey, source: Addr) -> Verdict<'_> {
    table.find(input.interface, &datagram(input, source))
}

#[test]
fn a_rule_matches_only_its_input() {
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
fn an_empty_table_matches_nothing() {
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
fn all_rules_on_one_input_match_in_order() {
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

/// The start of a rule for 239.1.0.0 with this many varying bits, and ports from 5000 on.
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
fn overlapping_ranges_of_one_width_both_match_the_overlap() {
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
fn unlisted_sources_are_left_to_the_next_rule() {
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

#[test]
fn a_rule_added_again_is_found_under_its_new_number() {
    let mut compiler = Compiler::default();
    let other = |port| rule(InputKey { port, ..INPUT }, &SOURCES[..1]);
    let first = compiler.add(rule(INPUT, &[]));
    let others: Vec<u32> = (6000..6100).map(|port| compiler.add(other(port))).collect();
    let before = compiler.table();
    for round in 0..200 {
        let number = others[round % others.len()];
        let again = compiler.rule(number).clone();
        compiler.remove(number);
        let without = compiler.table();
        let verdict = find(&without, again.input, SOURCES[0]);
        assert_eq!(verdict, Verdict::Discard(Discard::NoRule, Some(0)), "round {round}");
        assert_eq!(compiler.add(again.clone()), number, "a free number is reused first");
        let with = compiler.table();
        assert_eq!(find(&with, again.input, SOURCES[0]), Verdict::Rules(&[number]));
        assert_eq!(find(&with, INPUT, SOURCES[2]), Verdict::Rules(&[first]));
    }
    assert_eq!(compiler.span(), 101);
    assert_eq!(find(&before, INPUT, SOURCES[2]), Verdict::Rules(&[first]), "a table is immutable");
}

#[test]
fn only_datagrams_of_disabled_rules_count_as_disabled() {
    let other_port = InputKey { port: 5002, ..INPUT };
    let taking = [rule(other_port, &[]), rule(INPUT, &SOURCES[..1])];
    let disabled = [rule(INPUT, &SOURCES[1..2]), pattern(INPUT, 4, 5003, &SOURCES[..2])];
    let mut compiler = Compiler::default();
    for rule in taking {
        compiler.add(rule);
    }
    compiler.set_disabled(Some(Table::compile(&disabled)));
    let table = compiler.table();
    let is_disabled = Verdict::Discard(Discard::Disabled, None);
    assert_eq!(find(&table, INPUT, SOURCES[0]), Verdict::Rules(&[1]));
    assert_eq!(find(&table, INPUT, SOURCES[1]), is_disabled);
    assert_eq!(find(&table, INPUT, SOURCES[2]), Verdict::Discard(Discard::Source, Some(0)));
    assert_eq!(find(&table, other_port, SOURCES[0]), Verdict::Rules(&[0]));
    assert_eq!(find(&table, InputKey { port: 5003, ..INPUT }, SOURCES[0]), is_disabled);
    let elsewhere = InputKey { port: 5004, ..INPUT };
    assert_eq!(find(&table, elsewhere, SOURCES[0]), Verdict::Discard(Discard::NoRule, Some(0)));
    let tagged = InputKey { vlan: 7, ..INPUT };
    assert_eq!(find(&table, tagged, SOURCES[1]), Verdict::Discard(Discard::Vlan, Some(0)));
    compiler.set_disabled(None);
    let table = compiler.table();
    assert_eq!(find(&table, INPUT, SOURCES[1]), Verdict::Discard(Discard::Source, Some(0)));
}
