//! The rights that loading needs, and what a process can do without any.

use std::thread;

use caps::{CapSet, Capability};

use super::lab::{GROUP, frame, output, rule, with_lab};
use crate::addr::Addr;
use crate::error::Error;
use crate::offload::{Fan, HookMode, KernelTable, Limits, Mode, Programs, Put};
use crate::sockets::testnet::{FAR, interface};
use crate::sys::bpf;

#[test]
fn rules_are_changed_without_any_right() {
    with_lab(1, |mut lab| {
        let ours = rule(Addr::v4(GROUP), vec![output(0, 1)]);
        let fan = lab.fan(&ours);
        let fan = Fan::new(fan.number(), fan.devices().clone(), fan);
        let descriptors = lab.programs.descriptors().unwrap();
        let unprivileged = thread::spawn(|| {
            for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
                caps::clear(None, set).unwrap();
            }
            let mut table = KernelTable::open(descriptors).unwrap();
            table.change(&[], vec![Put { key: 1, rule: ours, fan, mode: Mode::Relay }]).unwrap();
            assert!(bpf::create_device_map(1).is_err());
            let Err(error) = Programs::load(Limits::default()) else { panic!("loaded") };
            assert!(matches!(error, Error::Permission(_)), "{error}");
            table
        });
        lab.table = unprivileged.join().unwrap();
        lab.send(&frame(1, 60));
        assert_eq!(lab.arrived(0).len(), 1);
        assert_eq!(lab.table.counters(1).unwrap().outputs[0].sent().datagrams, 1);
    });
}

#[test]
fn loading_needs_three_capabilities() {
    with_lab(1, |mut lab| {
        lab.hook = None;
        let needed = [Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_NET_ADMIN];
        let limited = thread::spawn(move || {
            let keep = |rights: Vec<Capability>| {
                caps::set(None, CapSet::Effective, &rights.into_iter().collect()).unwrap();
            };
            keep(needed.to_vec());
            let programs = Programs::load(Limits::default()).unwrap();
            programs.attach(interface(FAR), HookMode::Native).unwrap();
            for missing in needed {
                keep(needed.into_iter().filter(|right| *right != missing).collect());
                let Err(error) = Programs::load(Limits::default()) else { panic!("{missing}") };
                // Without CAP_PERFMON the verifier rejects the programs, as it would faulty ones.
                let is_named = missing != Capability::CAP_PERFMON;
                assert_eq!(matches!(error, Error::Permission(_)), is_named, "{missing}: {error}");
            }
        });
        limited.join().unwrap();
    });
}
