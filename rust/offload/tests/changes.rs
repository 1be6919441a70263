//! Rules that are put, replaced and removed while datagrams arrive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::lab::{
    GROUP, Lab, SENDER, frame, frame_to, number, output, packet_socket, rule, with_lab,
};
use crate::addr::Addr;
use crate::offload::{HookMode, KernelRule, KernelTable, Limits, Mode, Pass, Programs, Put};
use crate::sockets::testnet::{FAR, NEAR, interface, run_on_any_cpu, wait_until};

fn group(number: u16) -> Addr {
    let [high, low] = number.to_be_bytes();
    Addr::v4([239, 3, low, 1 + high])
}

/// A rule of its own for each number.
fn other(lab: &mut Lab, number: u16) -> Put {
    let rule = rule(group(number), vec![output(0, 100), output(1, 101)]);
    let fan = lab.fan(&rule);
    Put { key: 1000 + u64::from(number), rule, fan, mode: Mode::Relay }
}

/// Sends frames in another thread until the changes are made; returns how many.
fn under_traffic(lab: &mut Lab, changes: impl FnOnce(&mut Lab)) -> u32 {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            run_on_any_cpu();
            let socket = socket2::Socket::from(packet_socket(NEAR));
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                socket.send(&frame(number, 60)).unwrap();
                number += 1;
                // The ring of a cable's end has 256 slots.
                thread::sleep(Duration::from_micros(20));
            }
            number
        });
        changes(lab);
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    })
}

/// The numbers of the datagrams that have arrived, in order.
fn numbers(lab: &Lab, end: usize) -> Vec<u32> {
    lab.datagrams(end).iter().map(|(_, payload)| number(payload)).collect()
}

#[test]
fn changes_of_other_rules_lose_nothing() {
    with_lab(2, |mut lab| {
        lab.put(1, rule(Addr::v4(GROUP), vec![output(0, 1), output(1, 2)]));
        let many = (0..1000).map(|number| other(&mut lab, number)).collect();
        lab.table.change(&[], many).unwrap();
        let mut arrived: [Vec<u32>; 2] = Default::default();
        let sent = under_traffic(&mut lab, |lab| {
            for round in 0..20 {
                let put = (0..50).map(|number| other(lab, number)).collect();
                let retired = lab.table.change(&[], put).unwrap();
                retired.into_iter().for_each(|retired| lab.table.free(retired));
                if round % 2 == 1 {
                    let keys: Vec<u64> = (1000..1050).collect();
                    let retired = lab.table.change(&keys, Vec::new()).unwrap();
                    assert_eq!(retired.len(), 50);
                    retired.into_iter().for_each(|retired| lab.table.free(retired));
                }
                for (end, all) in arrived.iter_mut().enumerate() {
                    let before = all.len();
                    wait_until("datagrams arrive", || {
                        all.extend(numbers(lab, end));
                        all.len() > before
                    });
                }
            }
        });
        for (end, mut all) in arrived.into_iter().enumerate() {
            wait_until("the last arrives", || {
                all.extend(numbers(&lab, end));
                all.last() == Some(&(sent - 1))
            });
            assert_eq!(all, (0..sent).collect::<Vec<_>>());
        }
        assert!(lab.passed().is_empty());
        assert_eq!(lab.table.counters(1).unwrap().matched.datagrams, u64::from(sent));
    });
}

#[test]
fn a_replaced_rule_neither_loses_nor_repeats() {
    with_lab(2, |mut lab| {
        let to = |end| rule(Addr::v4(GROUP), vec![output(end, 1)]);
        lab.put(1, to(0));
        let (mut arrived, mut matched) = (Vec::new(), 0);
        let sent = under_traffic(&mut lab, |lab| {
            for round in 0..100 {
                let rule = to(round % 2);
                let fan = lab.fan(&rule);
                let put = Put { key: 1, rule, fan, mode: Mode::Relay };
                for retired in lab.table.change(&[], vec![put]).unwrap() {
                    let counters = lab.table.retired_counters(&retired).unwrap();
                    assert_eq!(retired.key(), Some(1));
                    matched += counters.matched.datagrams;
                    lab.table.free(retired);
                }
                let before = arrived.len();
                wait_until("datagrams arrive", || {
                    arrived.extend(numbers(lab, 0).into_iter().chain(numbers(lab, 1)));
                    arrived.len() > before
                });
            }
        });
        wait_until("the last arrives", || {
            arrived.extend(numbers(&lab, 0).into_iter().chain(numbers(&lab, 1)));
            arrived.contains(&(sent - 1))
        });
        arrived.sort_unstable();
        assert_eq!(arrived, (0..sent).collect::<Vec<_>>());
        matched += lab.table.counters(1).unwrap().matched.datagrams;
        assert!(matched <= u64::from(sent), "counters are read at once after a change");
        assert!(lab.passed().is_empty());
    });
}

#[test]
fn a_rule_takes_its_senders_only() {
    with_lab(1, |mut lab| {
        let listed = |key: u64, sources: Vec<Addr>| {
            let number = u8::try_from(key).unwrap();
            (key, KernelRule { sources, ..rule(Addr::v4(GROUP), vec![output(0, number)]) })
        };
        let strangers = vec![Addr::v4([192, 0, 2, 8]), Addr::v4([192, 0, 2, 9])];
        let (key, only_strangers) = listed(1, strangers);
        lab.put(key, only_strangers);
        lab.send(&frame(1, 60));
        assert_eq!((lab.arrived(0).len(), lab.passed().len()), (0, 1));

        let (key, only_sender) = listed(2, vec![Addr::v4(SENDER)]);
        lab.put(key, only_sender.clone());
        lab.put(3, listed(3, Vec::new()).1);
        lab.send(&frame(2, 60));
        assert_eq!(lab.datagrams(0)[0].0.port, 6002, "a listed sender comes first");
        assert!(lab.try_put(4, only_sender).is_err(), "two rules for one sender");
        let retired = lab.table.change(&[2], Vec::new()).unwrap();
        assert_eq!(retired.len(), 1);
        lab.send(&frame(3, 60));
        assert_eq!(lab.datagrams(0)[0].0.port, 6003, "any sender");
        assert_eq!(lab.programs.passed(Pass::NoRule).unwrap(), 1);
    });
}

#[test]
fn a_refused_change_changes_nothing() {
    with_lab(1, |mut lab| {
        let ours = rule(Addr::v4(GROUP), vec![output(0, 1)]);
        lab.put(1, ours.clone());
        let fan = lab.fan(&ours);
        let put = |key, rule| Put { key, rule, fan: fan.clone(), mode: Mode::Relay };
        let puts = vec![put(2, rule(group(2), vec![output(0, 2)])), put(3, ours)];
        let error = lab.table.change(&[], puts).unwrap_err();
        assert!(error.to_string().contains("239.1.1.1:5001"), "{error}");
        lab.send(&frame_to([239, 3, 2, 1], 1, 60));
        assert_eq!((lab.arrived(0).len(), lab.passed().len()), (0, 1));
        lab.send(&frame(1, 60));
        assert_eq!(lab.arrived(0).len(), 1);
        assert!(lab.table.counters(2).is_err());
    });
}

#[test]
fn a_successor_takes_the_relaying_rules_over() {
    with_lab(1, |mut lab| {
        let ours = rule(Addr::v4(GROUP), vec![output(0, 1)]);
        let listed =
            KernelRule { sources: vec![Addr::v4(SENDER)], ..rule(group(1), vec![output(0, 2)]) };
        lab.put(1, ours.clone());
        lab.put(2, listed);
        lab.send(&frame(1, 60));
        lab.table = KernelTable::open(lab.programs.descriptors().unwrap()).unwrap();
        lab.send(&frame(2, 60));
        lab.send(&frame_to([239, 3, 1, 1], 3, 60));
        assert_eq!(numbers(&lab, 0), [1, 2, 3], "nothing has stopped");

        let fan = lab.fan(&ours);
        let put = Put { key: 7, rule: ours, fan, mode: Mode::Relay };
        let retired = lab.table.change(&[], vec![put]).unwrap();
        let matched = retired.iter().map(|retired| {
            assert_eq!(retired.key(), None);
            let counters = lab.table.retired_counters(retired).unwrap();
            assert_eq!(counters.outputs[0].sent(), counters.matched);
            (retired.endpoint().group, counters.matched.datagrams)
        });
        let matched: Vec<(Addr, u64)> = matched.collect();
        assert_eq!(matched, [(Addr::v4(GROUP), 2), (group(1), 1)]);
        lab.send(&frame(4, 60));
        lab.send(&frame_to([239, 3, 1, 1], 5, 60));
        assert_eq!((numbers(&lab, 0), lab.passed().len()), (vec![4], 1));
    });
}

#[test]
fn places_of_devices_are_used_again_once_no_rule_needs_them() {
    with_lab(3, |mut lab| {
        lab.programs = Programs::load(Limits { devices: 2, fans: 2, ..Limits::default() }).unwrap();
        lab.table = KernelTable::open(lab.programs.descriptors().unwrap()).unwrap();
        let to = |device| rule(Addr::v4(GROUP), vec![output(device, 1)]);
        lab.put(1, to(0));
        let fan = lab.fan(&to(1));
        assert!(lab.programs.fan(&to(2).shape()).is_err(), "both devices are needed");
        drop(fan);
        let retired = lab.try_put(1, to(2)).unwrap();
        assert!(
            lab.programs.fan(&to(1).shape()).is_err(),
            "the replaced rule may have copies on their way"
        );
        retired.into_iter().for_each(|retired| lab.table.free(retired));
        lab.try_put(1, to(1)).unwrap();
        lab.table.switch(true).unwrap();
        lab.hook = None;
        lab.hook = Some(lab.programs.attach(interface(FAR), HookMode::Native).unwrap());
        lab.send(&frame(1, 60));
        assert_eq!([0, 1, 2].map(|end| lab.arrived(end).len()), [0, 1, 0]);
    });
}
