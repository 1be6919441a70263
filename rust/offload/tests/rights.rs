//! What a process without any right can do with the descriptors of the maps.

use std::thread;

use caps::CapSet;

use super::lab::{GROUP, frame, output, rule, with_lab};
use crate::addr::Addr;
use crate::error::Error;
use crate::offload::{Fan, KernelTable, Limits, Mode, Programs, Put};
use crate::sys::bpf;

#[test]
fn rules_are_changed_without_any_right() {
    with_lab(1, |mut lab| {
        let ours = rule(Addr::v4(GROUP), vec![output(0, 1)]);
        let fan = lab.fan(&ours);
        let fan = Fan::new(fan.number(), fan.devices().clone());
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
