//! How long the rule table takes a datagram, with few rules and with many.
//!
//! The rules alternate between IPv4 and IPv6. Look-ups go through all of their keys in an order
//! that has nothing to do with the order of the rules, and one begins only when the last one's
//! answer is there: this is the time of a look-up, not the rate of many at once.

use std::hint::black_box;

use _native::addr::Addr;
use _native::packet::{Datagram, Span};
use _native::rules::{InputKey, Table, TableRule, Verdict};
use criterion::{Criterion, Throughput};

const INTERFACE: u32 = 3;
const SOURCE: Addr = Addr::v4([10, 0, 0, 5]);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for rules in [10, 10_000] {
        measure(&mut criterion, "any source", rules, &[]);
        measure(&mut criterion, "listed source", rules, &[SOURCE]);
    }
    criterion.final_summary();
}

fn measure(criterion: &mut Criterion, name: &str, rules: u32, sources: &[Addr]) {
    let order = shuffled(rules);
    let compiled: Vec<_> = order
        .iter()
        .rev()
        .map(|number| TableRule { input: input(*number), sources: sources.into() })
        .collect();
    let table = Table::compile(&compiled);
    let mut group = criterion.benchmark_group("find");
    group.throughput(Throughput::Elements(1));
    let (mut next, mut last) = (0, 0);
    group.bench_function(format!("{name}, {rules} rules"), |bencher| {
        bencher.iter(|| {
            next = if next + 1 < order.len() { next + 1 } else { 0 };
            // The answer is never that large, but only the answer shows it.
            let number = order[next] ^ (last >> 31);
            let Verdict::Rules(found) = table.find(INTERFACE, &datagram(number)) else {
                panic!("rule {number} is not found");
            };
            last = found[0];
        });
    });
    black_box(last);
    group.finish();
}

/// A datagram that the rule of this number takes.
fn datagram(number: u32) -> Datagram {
    let InputKey { group, port, vlan, .. } = input(number);
    Datagram {
        source: SOURCE,
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
    let [_, _, high, low] = number.to_be_bytes();
    let group = if number.is_multiple_of(2) {
        Addr::v4([239, 1, high, low])
    } else {
        Addr::v6([0xff, 0x3e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, high, low])
    };
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
