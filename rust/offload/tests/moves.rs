//! A rule that moves from the engine to the kernel, and back: the gate and the drain.

use super::lab::{GROUP, Lab, frame, frame_to, number, output, rule, with_lab};
use crate::addr::Addr;
use crate::offload::{Mode, Pass, Put};
use crate::sockets::testnet::wait_until;

fn put_gated(lab: &mut Lab) {
    let rule = rule(Addr::v4(GROUP), vec![output(0, 1)]);
    let fan = lab.fan(&rule);
    lab.table.change(&[], vec![Put { key: 1, rule, fan, mode: Mode::Gate }]).unwrap();
}

#[test]
fn a_gate_opens_only_if_the_engine_has_finished_all_frames() {
    with_lab(1, |mut lab| {
        put_gated(&mut lab);
        for number in 0..3 {
            lab.send(&frame(number, 60));
        }
        assert_eq!((lab.passed().len(), lab.arrived(0).len()), (3, 0));
        assert_eq!(lab.table.gate_count(1).unwrap(), 3);
        // Another frame comes before the gate opens: it and all others stay with the engine.
        lab.send(&frame(3, 60));
        lab.table.open_gate(1, 3).unwrap();
        lab.send(&frame(4, 60));
        assert_eq!((lab.passed().len(), lab.arrived(0).len()), (2, 0));

        lab.table.open_gate(1, 5).unwrap();
        lab.send(&frame(5, 60));
        lab.send(&frame(6, 60));
        assert_eq!((lab.passed().len(), lab.arrived(0).len()), (0, 2));
        lab.table.set_mode(1, Mode::Relay).unwrap();
        lab.send(&frame(7, 60));
        assert_eq!((lab.passed().len(), lab.arrived(0).len()), (0, 1));
        assert_eq!(lab.programs.passed(Pass::Gate).unwrap(), 5);
        assert_eq!(lab.table.counters(1).unwrap().matched.datagrams, 3);

        lab.table.set_mode(1, Mode::Gate).unwrap();
        lab.send(&frame(8, 60));
        assert_eq!((lab.passed().len(), lab.table.gate_count(1).unwrap()), (1, 1));
    });
}

#[test]
fn a_drained_rule_passes_at_once_where_nothing_waits() {
    with_lab(1, |mut lab| {
        lab.put(1, rule(Addr::v4(GROUP), vec![output(0, 1)]));
        lab.send(&frame(1, 60));
        lab.table.set_mode(1, Mode::Drain).unwrap();
        lab.send(&frame(2, 60));
        assert_eq!((lab.arrived(0).len(), lab.passed().len()), (1, 1));
    });
}

#[test]
fn a_rule_that_sheds_takes_its_frames_and_observes_their_sizes() {
    with_lab(1, |mut lab| {
        lab.put(1, rule(Addr::v4(GROUP), vec![output(0, 1)]));
        lab.send(&frame(1, 60));
        lab.table.set_mode(1, Mode::Shed).unwrap();
        for (number, size) in [(2, 60), (3, 61), (4, 61)] {
            lab.send(&frame(number, size));
        }
        assert_eq!((lab.arrived(0).len(), lab.passed().len()), (1, 0));
        let counters = lab.table.counters(1).unwrap();
        assert_eq!((counters.matched.datagrams, counters.copied.datagrams), (4, 1));
        assert!(!counters.is_copied());
        lab.table.set_mode(1, Mode::Gate).unwrap();
        lab.send(&frame(5, 61));
        let observed = lab.table.observed(1).unwrap();
        assert!(observed.datagrams == 5 && (2..=3).contains(&observed.repeats), "{observed:?}");
    });
}

#[test]
fn a_drained_rule_does_not_wait_for_another_copying_cpu() {
    with_lab(2, |mut lab| {
        let groups = [[239, 1, 1, 1], [239, 1, 1, 2]];
        for (cpu, group) in (0..).zip(groups) {
            lab.programs.add_cpu(cpu).unwrap();
            let device = cpu as usize;
            let mut rule = rule(Addr::v4(group), vec![output(device, 1), output(device, 2)]);
            rule.cpu = Some(cpu);
            lab.put(u64::from(cpu) + 1, rule);
            lab.send(&frame_to(group, 1, 60));
        }
        wait_until("both have copied", || {
            [1, 2]
                .iter()
                .all(|key| lab.table.counters(*key).unwrap().outputs[1].handed.datagrams == 1)
        });
        for (key, group) in (1..).zip(groups) {
            lab.table.set_mode(key, Mode::Drain).unwrap();
            lab.send(&frame_to(group, 2, 60));
            assert_eq!(lab.passed().len(), 1, "rule {key}");
        }
    });
}

#[test]
fn frames_for_another_cpu_stay_in_order_when_the_rule_is_drained() {
    with_lab(1, |mut lab| {
        let cpu = 1;
        lab.programs.add_cpu(cpu).unwrap();
        let mut rule = rule(Addr::v4(GROUP), vec![output(0, 1), output(0, 2)]);
        rule.cpu = Some(cpu);
        lab.put(1, rule);
        for number in 0..100 {
            lab.send(&frame(number, 60));
        }
        lab.table.set_mode(1, Mode::Drain).unwrap();
        for number in 100..200 {
            lab.send(&frame(number, 60));
        }
        let passed = lab.passed();
        let relayed = 200 - passed.len();
        let mut copies = Vec::new();
        wait_until("all copies have arrived", || {
            copies.extend(lab.datagrams(0));
            copies.len() == 2 * relayed
        });
        for port in [6001, 6002] {
            let of_output = copies.iter().filter(|(copy, _)| copy.port == port);
            let numbers: Vec<usize> =
                of_output.map(|(_, payload)| number(payload) as usize).collect();
            assert_eq!(numbers, (0..relayed).collect::<Vec<_>>());
        }
        // Once the first frame has passed, all others have.
        assert!(relayed >= 100);
        let payload_at = passed.first().map_or(0, |frame| frame.len() - 60);
        let numbers = passed.iter().map(|frame| number(&frame[payload_at..]) as usize);
        assert_eq!(numbers.collect::<Vec<_>>(), (relayed..200).collect::<Vec<_>>());
        let counters = lab.table.counters(1).unwrap();
        assert_eq!(counters.matched.datagrams, relayed as u64);
        assert_eq!(counters.outputs[1].sent(), counters.matched);
    });
}
