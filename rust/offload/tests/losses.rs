//! Copies that are lost, and that every one of them is explained.

use super::lab::{GROUP, Lab, frame, output, packet_socket, received_frames, rule, with_lab};
use crate::addr::Addr;
use crate::offload::{
    CopyRefusal, Endpoint, HookMode, KernelOutput, KernelTable, Limits, Mode, Pass, Programs, Put,
    Volume,
};
use crate::sockets::testnet::{FAR, interface, ip, wait_until};
use crate::spec::Choice;

/// Asserts both balances, and returns what the outputs have sent.
fn assert_balance(lab: &Lab, key: u64) -> Vec<u64> {
    let counters = lab.table.counters(key).unwrap();
    let matched = counters.matched.datagrams;
    let sent = counters.outputs.iter().enumerate().map(|(at, output)| {
        let lost = counters.queued_or_overflowed().datagrams
            + counters.unhanded(at).datagrams
            + output.rejected.datagrams;
        assert_eq!(matched, output.sent().datagrams + lost, "output {at}: {counters:?}");
        output.sent().datagrams
    });
    sent.collect()
}

#[test]
fn what_a_full_device_rejects_is_charged_to_its_outputs() {
    with_lab(2, |mut lab| {
        let near = |number| output(0, number);
        let mut outputs: Vec<KernelOutput> = (1..=24).map(near).collect();
        outputs.push(output(1, 25));
        lab.put(1, rule(Addr::v4(GROUP), outputs));
        let before = [received_frames("end0"), received_frames("end1")];
        for _ in 0..50 {
            lab.programs.receive(interface(FAR).index, &frame(1, 300), 64);
        }
        let sent = assert_balance(&lab, 1);
        let arrived = [received_frames("end0") - before[0], received_frames("end1") - before[1]];
        assert_eq!(lab.table.counters(1).unwrap().matched.datagrams, 50 * 64);
        assert_eq!(arrived, [sent[..24].iter().sum::<u64>(), sent[24]]);
        assert_eq!(sent[24], 50 * 64, "the other device has lost nothing");
        assert!(arrived[0] < 24 * 50 * 64, "the device was to be overloaded");
        let counters = lab.table.counters(1).unwrap();
        let rejected: u64 = counters.outputs.iter().map(|output| output.rejected.datagrams).sum();
        assert_eq!(rejected, 24 * 50 * 64 - arrived[0]);
        for output in &counters.outputs {
            assert_eq!(output.sent().bytes, 300 * output.sent().datagrams);
        }
        let fan = lab.fan(&rule(Addr::v4(GROUP), vec![output(0, 1)]));
        let device = interface("out0").index;
        assert_eq!(lab.programs.transmitted(&fan, device).unwrap(), (arrived[0], rejected));
        for refusal in CopyRefusal::ALL {
            assert_eq!(lab.programs.refused(refusal).unwrap(), 0);
        }
    });
}

#[test]
fn what_a_full_cpu_queue_loses_is_charged_to_the_rule() {
    with_lab(1, |mut lab| {
        const FRAMES: u32 = 200_000;
        lab.programs.add_cpu(1).unwrap();
        // Copies are equal to the frame, whose page is received again.
        let same = KernelOutput {
            address: Addr::v4(GROUP),
            port: 5001,
            source: Choice::Keep,
            source_port: Choice::Keep,
            destination_mac: [1, 0, 0x5e, 1, 1, 1],
            ..output(0, 1)
        };
        let mut rule = rule(Addr::v4(GROUP), vec![same; 16]);
        rule.cpu = Some(1);
        lab.put(1, rule);
        let before = received_frames("end0");
        lab.programs.receive(interface(FAR).index, &frame(1, 60), FRAMES);
        wait_until("the queue is empty", || {
            let counters = lab.table.counters(1).unwrap();
            counters.queued_or_overflowed().datagrams == lab.programs.overflowed().unwrap()
        });
        let mut sent = assert_balance(&lab, 1);
        wait_until("all copies are accounted for", || {
            sent = assert_balance(&lab, 1);
            received_frames("end0") - before == sent.iter().sum::<u64>()
        });
        let counters = lab.table.counters(1).unwrap();
        // The page of a lost frame comes back with the mark, which is not always a group's address.
        let passed: u64 = Pass::ALL.map(|reason| lab.programs.passed(reason).unwrap()).iter().sum();
        assert_eq!(counters.matched.datagrams + passed, u64::from(FRAMES));
        assert!(lab.programs.overflowed().unwrap() > 0, "the queue was to be overloaded");
    });
}

#[test]
fn devices_that_cannot_send_are_accounted_for() {
    with_lab(2, |mut lab| {
        lab.put(1, rule(Addr::v4(GROUP), vec![output(0, 1), output(1, 2), output(0, 3)]));
        let send = |lab: &Lab| (0..5).for_each(|number| lab.send(&frame(number, 60)));
        let state = |lab: &Lab, at: usize| {
            assert_balance(lab, 1);
            let counters = lab.table.counters(1).unwrap();
            let Volume { datagrams: unhanded, .. } = counters.unhanded(at);
            (
                counters.outputs[at].sent().datagrams,
                counters.outputs[at].rejected.datagrams,
                unhanded,
            )
        };
        send(&lab);
        assert_eq!([0, 1, 2].map(|at| state(&lab, at)), [(5, 0, 0); 3]);
        // Without NAPI at its peer a veth announces that it accepts no frames.
        lab.switch_gro("end0", false);
        send(&lab);
        assert_eq!([0, 1, 2].map(|at| state(&lab, at)), [(5, 0, 5), (10, 0, 0), (5, 0, 5)]);
        lab.switch_gro("end0", true);
        ip("link set end0 down");
        send(&lab);
        assert_eq!([0, 1, 2].map(|at| state(&lab, at)), [(5, 5, 5), (15, 0, 0), (5, 5, 5)]);
        ip("link set out0 down");
        send(&lab);
        assert_eq!([0, 1, 2].map(|at| state(&lab, at)), [(5, 5, 10), (20, 0, 0), (5, 5, 10)]);
        // The kernel leaves out a device whose MTU is too small, with some bytes of tolerance.
        ip("link set out1 mtu 68");
        send(&lab);
        assert_eq!(state(&lab, 1), (20, 0, 5));
        assert!(lab.passed().is_empty());
    });
}

#[test]
fn several_inputs_share_devices() {
    with_lab(2, |mut lab| {
        // end1 is an input as well: its frames come from the other side.
        let second = interface("end1");
        let _hook = lab.programs.attach(second, HookMode::Native).unwrap();
        lab.put(1, rule(Addr::v4(GROUP), vec![output(0, 1), output(0, 2)]));
        let mut other = rule(Addr::v4(GROUP), vec![output(0, 3)]);
        other.endpoint = Endpoint { ifindex: second.index, ..other.endpoint };
        lab.put(2, other);
        let injector = socket2::Socket::from(packet_socket("out1"));
        for number in 0..100 {
            lab.send(&frame(number, 60));
            injector.send(&frame(number, 60)).unwrap();
        }
        assert_eq!(lab.datagrams(0).len(), 300);
        assert_eq!((assert_balance(&lab, 1), assert_balance(&lab, 2)), (vec![100; 2], vec![100]));
    });
}

#[test]
fn what_another_program_loses_on_a_shared_device_is_not_counted() {
    with_lab(1, |mut lab| {
        let outputs: Vec<_> = (1..=24).map(|number| output(0, number)).collect();
        let ours = rule(Addr::v4(GROUP), outputs);
        lab.put(1, ours.clone());
        lab.send(&frame(1, 60));
        let mut other = Programs::load(Limits::default()).unwrap();
        let mut table = KernelTable::open(other.descriptors().unwrap()).unwrap();
        table.switch(true).unwrap();
        let fan = other.fan(&ours.shape()).unwrap();
        table.change(&[], vec![Put { key: 1, rule: ours, fan, mode: Mode::Relay }]).unwrap();
        other.receive(interface(FAR).index, &frame(1, 60), 64);
        let rejected = |table: &KernelTable| -> u64 {
            let outputs = table.counters(1).unwrap().outputs;
            outputs.iter().map(|output| output.rejected.datagrams).sum()
        };
        assert!(rejected(&table) > 0, "the device was to be overloaded");
        assert_eq!(rejected(&lab.table), 0);
        assert_eq!(assert_balance(&lab, 1), [1; 24]);
    });
}
