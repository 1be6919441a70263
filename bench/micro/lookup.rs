//! How long the rule table takes a datagram, with few rules and with many.
//!
//! The rules alternate between IPv4 and IPv6. Look-ups go through all of their keys in an order
//! that has nothing to do with the order of the rules. "In a row" is how the engine works: the
//! next datagram does not wait for the last one's answer. "Chained" makes it wait, which shows
//! the time from question to answer, caches and all.

use std::hint::black_box;
use std::time::{Duration, Instant};

use _native::addr::Addr;
use _native::packet::{Datagram, Span};
use _native::rules::{InputKey, Table, TableRule, Verdict};
use criterion::{Criterion, Throughput};

const INTERFACE: u32 = 3;
const SOURCE: Addr = Addr::v4([10, 0, 0, 5]);
/// Not in their order, and each datagram comes from one of them.
const SOURCES: [Addr; 8] = [
    SOURCE,
    Addr::v4([192, 0, 2, 8]),
    Addr::v4([10, 0, 0, 9]),
    Addr::v4([172, 16, 3, 2]),
    Addr::v4([10, 8, 0, 5]),
    Addr::v4([198, 51, 100, 77]),
    Addr::v4([10, 0, 0, 6]),
    Addr::v4([203, 0, 113, 1]),
];
const PREFIXES: [Addr; 2] =
    [Addr::v4([239, 1, 0, 0]), Addr::v6([0xff, 0x3e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0])];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for rules in [10, 10_000] {
        measure(&mut criterion, "any source", rules, 0, &[]);
        measure(&mut criterion, "listed source", rules, 0, &[SOURCE]);
        measure(&mut criterion, "eight listed sources", rules, 0, &SOURCES);
        measure(&mut criterion, "two ports", rules, 1, &[]);
    }
    criterion.final_summary();
}

/// With `more_ports` the rules are patterns: each names so many ports behind its first.
fn measure(criterion: &mut Criterion, name: &str, rules: u32, more_ports: u16, sources: &[Addr]) {
    let order = shuffled(rules);
    let rule = |number: &u32| {
        let input = input(*number);
        let last_port = input.port + more_ports;
        TableRule { input, group_bits: 0, last_port, sources: sources.into() }
    };
    let table = Table::compile(&order.iter().rev().map(rule).collect::<Vec<_>>());
    let mut group = criterion.benchmark_group("find");
    group.throughput(Throughput::Elements(1));
    group.bench_function(format!("{name}, {rules} rules, in a row"), |bencher| {
        bencher.iter_custom(|iterations| time(&table, &order, sources, iterations, |_| 0));
    });
    group.bench_function(format!("{name}, {rules} rules, chained"), |bencher| {
        // The answer is never that large, but only the answer shows it.
        bencher
            .iter_custom(|iterations| time(&table, &order, sources, iterations, |rule| rule >> 31));
    });
    group.finish();
}

/// Looks up as many datagrams; `chain` makes of an answer what the next number is changed by.
fn time(
    table: &Table,
    order: &[u32],
    sources: &[Addr],
    iterations: u64,
    chain: impl Fn(u32) -> u32,
) -> Duration {
    let mut last = 0;
    let start = Instant::now();
    for (_, number) in (0..iterations).zip(order.iter().cycle()) {
        match table.find(INTERFACE, &datagram(number ^ chain(last), sources)) {
            Verdict::Rules([rule]) => last = black_box(*rule),
            verdict => panic!("{verdict:?} for rule {number}"),
        }
    }
    start.elapsed()
}

/// A datagram that the rule of this number takes.
fn datagram(number: u32, sources: &[Addr]) -> Datagram {
    let source = sources.get(number as usize % sources.len().max(1)).copied().unwrap_or(SOURCE);
    let InputKey { group, port, vlan, .. } = input(number);
    Datagram {
        source,
        group,
        source_port: 40_000,
        port,
        ttl: 9,
        dscp: 0,
        vlan,
        payload: Span { start: 42, len: 1400 },
        segments: 1,
    }
}

fn input(number: u32) -> InputKey {
    // Chosen without a branch: which family comes next is a surprise here, but to the table only.
    let prefix = PREFIXES[number as usize % PREFIXES.len()].bits();
    let group = Addr::from_bits(prefix | u128::from(number));
    let [.., low] = number.to_be_bytes();
    InputKey { interface: INTERFACE, vlan: 0, group, port: 5000 + u16::from(low % 4) }
}

/// The numbers below `count` in an order of chance, the same one every time.
fn shuffled(count: u32) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..count).collect();
    let mut state = 0x9e37_79b9_u32;
    for place in (1..numbers.len()).rev() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        numbers.swap(place, (state >> 8) as usize % (place + 1));
    }
    numbers
}
