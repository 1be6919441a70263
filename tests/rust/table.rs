//! The compiled rule table against the plainest model: a walk through all rules.

use std::collections::{BTreeMap, HashSet};

use _native::addr::Addr;
use _native::packet::{Datagram, Discard, Span};
use _native::rules::{Compiler, InputKey, TableRule, Verdict};
use proptest::prelude::*;

/// Rules by their numbers.
type Rules = BTreeMap<u32, TableRule>;

proptest! {
    #[test]
    fn the_table_says_what_the_model_says_whatever_has_changed(
        changes in prop::collection::vec(change(), 1..8),
        datagrams in prop::collection::vec((interface(), datagram()), 1..60),
    ) {
        let mut compiler = Compiler::default();
        let mut rules = Rules::new();
        for change in &changes {
            change.make(&mut compiler, &mut rules)?;
            let table = compiler.table();
            for (interface, datagram) in &datagrams {
                let verdict = table.find(*interface, datagram);
                let (expected, known) = model(&rules, *interface, datagram);
                match (verdict, &expected) {
                    (Verdict::Rules(found), Ok(numbers)) => prop_assert_eq!(found, numbers),
                    (Verdict::Discard(reason, group), Err(expected)) => {
                        prop_assert_eq!(reason, *expected);
                        prop_assert_eq!(group, known.map(|rule| compiler.group_of(rule)));
                    }
                    _ => prop_assert!(false, "{verdict:?} is not {expected:?}"),
                }
            }
        }
    }

    #[test]
    fn rules_share_a_group_number_when_they_share_interface_and_block(
        changes in prop::collection::vec(change(), 1..8),
    ) {
        let mut compiler = Compiler::default();
        let mut rules = Rules::new();
        for change in &changes {
            change.make(&mut compiler, &mut rules)?;
        }
        let place =
            |rule: &TableRule| (rule.input.interface, rule.group_bits, low(rule), high(rule));
        let mut seen = vec![None; compiler.groups()];
        for (number, rule) in &rules {
            let entry = &mut seen[compiler.group_of(*number) as usize];
            prop_assert_eq!(*entry.get_or_insert(place(rule)), place(rule));
        }
        let places: HashSet<_> = rules.values().map(place).collect();
        prop_assert_eq!(places.len(), seen.iter().flatten().count());
        if changes.iter().all(|change| change.remove.is_empty()) {
            prop_assert_eq!(places.len(), seen.len(), "no number is left out");
        }
    }
}

/// What happens between one table and the next.
#[derive(Clone, Debug)]
struct Change {
    remove: Vec<prop::sample::Index>,
    add: Vec<TableRule>,
}

impl Change {
    fn make(&self, compiler: &mut Compiler, rules: &mut Rules) -> Result<(), TestCaseError> {
        for which in &self.remove {
            let numbers: Vec<u32> = rules.keys().copied().collect();
            if !numbers.is_empty() {
                let number = which.get(&numbers);
                compiler.remove(*number);
                rules.remove(number);
            }
        }
        for rule in &self.add {
            let number = compiler.add(rule.clone());
            prop_assert!((number as usize) < compiler.span());
            prop_assert!(rules.insert(number, rule.clone()).is_none(), "{number} is taken");
        }
        Ok(())
    }
}

/// Mostly small ones, for which a table is patched, and some that make it anew.
fn change() -> impl Strategy<Value = Change> {
    let most = prop_oneof![3 => Just(3_usize), 1 => Just(40)];
    let change = most.prop_flat_map(|most| {
        let remove = prop::collection::vec(any::<prop::sample::Index>(), 0..most);
        (remove, prop::collection::vec(rule(), 0..most))
    });
    change.prop_map(|(remove, add)| Change { remove, add })
}

/// The first and the last address of a rule's block.
fn low(rule: &TableRule) -> u128 {
    rule.input.group.bits() >> rule.group_bits << rule.group_bits
}

fn high(rule: &TableRule) -> u128 {
    low(rule) + (1 << rule.group_bits) - 1
}

/// How specific a rule is: the fewer groups, then the fewer ports, the more.
fn breadth(rule: &TableRule) -> (u8, u16) {
    (rule.group_bits, rule.last_port - rule.input.port)
}

/// The rules that take a datagram, or why none does; and some rule whose block this is about.
fn model(
    rules: &Rules,
    interface: u32,
    datagram: &Datagram,
) -> (Result<Vec<u32>, Discard>, Option<u32>) {
    let mut of_group: Vec<(u32, &TableRule)> = rules
        .iter()
        .map(|(number, rule)| (*number, rule))
        .filter(|(_, rule)| rule.input.interface == interface)
        .filter(|(_, rule)| (low(rule)..=high(rule)).contains(&datagram.group.bits()))
        .collect();
    of_group.sort_by_key(|(number, rule)| (breadth(rule), *number));
    let mut of_port = of_group.clone();
    of_port.retain(|(_, rule)| (rule.input.port..=rule.last_port).contains(&datagram.port));
    let mut of_input = of_port.clone();
    of_input.retain(|(_, rule)| rule.input.vlan == datagram.vlan);
    for level in of_input.chunk_by(|(_, one), (_, next)| breadth(one) == breadth(next)) {
        let (mut named, mut any) = (level.to_vec(), level.to_vec());
        named.retain(|(_, rule)| rule.sources.contains(&datagram.source));
        any.retain(|(_, rule)| rule.sources.is_empty());
        let taken = if named.is_empty() { any } else { named };
        if !taken.is_empty() {
            return (Ok(taken.into_iter().map(|(number, _)| number).collect()), None);
        }
    }
    let first = |rules: &[(u32, &TableRule)]| rules.first().map(|(number, _)| *number);
    if of_port.is_empty() {
        (Err(Discard::NoRule), first(&of_group))
    } else if of_input.is_empty() {
        (Err(Discard::Vlan), first(&of_port))
    } else {
        (Err(Discard::Source), first(&of_input))
    }
}

// Few values each, so that rules and datagrams meet.

fn interface() -> impl Strategy<Value = u32> {
    prop_oneof![Just(1), Just(2), Just(u32::MAX)]
}

fn vlan() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(0), 1 => Just(7), 1 => Just(4095)]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![Just(5001), Just(5002), Just(u16::MAX)]
}

fn bits() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0), 2 => 1..4_u8, 1 => Just(16), 1 => Just(96)]
}

/// The first and the last port of a rule.
fn ports() -> impl Strategy<Value = (u16, u16)> {
    let range = (5000..5004_u16, 0..4_u16).prop_map(|(first, more)| (first, first + more));
    prop_oneof![
        2 => port().prop_map(|port| (port, port)),
        2 => range,
        1 => Just((1, u16::MAX)),
    ]
}

fn group() -> impl Strategy<Value = Addr> {
    prop_oneof![
        Just(Addr::v4([239, 1, 1, 1])),
        Just(Addr::v4([239, 1, 1, 2])),
        Just(Addr::v6([0xff, 0x3e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2])),
    ]
}

fn source() -> impl Strategy<Value = Addr> {
    (0..5_u8).prop_map(|last| Addr::v4([10, 0, 0, last]))
}

fn rule() -> impl Strategy<Value = TableRule> {
    let sources = prop_oneof![
        1 => Just(Vec::new()),
        1 => prop::collection::vec(source(), 1..4),
    ];
    (interface(), vlan(), group(), bits(), ports(), sources).prop_map(
        |(interface, vlan, group, group_bits, (port, last_port), sources)| TableRule {
            input: InputKey { interface, vlan, group, port },
            group_bits,
            last_port,
            sources: sources.into(),
        },
    )
}

fn datagram() -> impl Strategy<Value = Datagram> {
    (source(), group(), port(), vlan()).prop_map(|(source, group, port, vlan)| Datagram {
        source,
        group,
        source_port: 40_000,
        port,
        ttl: 1,
        dscp: 0,
        vlan,
        payload: Span { start: 42, len: 5 },
        segments: 1,
    })
}
