//! What attaching does to an interface, and that detaching undoes it.

use super::lab::{FAR_MTU, GROUP, frame, output, rule, settings, with_lab};
use crate::addr::Addr;
use crate::error::Error;
use crate::offload::{HookMode, Limits, Pass, Programs};
use crate::sockets::testnet::{FAR, NEAR, interface, ip};

#[test]
fn another_program_is_never_replaced() {
    with_lab(1, |mut lab| {
        lab.put(1, rule(Addr::v4(GROUP), vec![output(0, 1)]));
        let other = Programs::load(Limits::default()).unwrap();
        for mode in [HookMode::Native, HookMode::Generic] {
            ip(&format!("link set {FAR} up"));
            let error = other.attach(interface(FAR), mode).unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{error}");
            assert!(error.to_string().contains("XDP") || mode == HookMode::Generic, "{error}");
        }
        lab.send(&frame(1, 60));
        assert_eq!(lab.arrived(0).len(), 1);
    });
}

#[test]
fn detaching_restores_the_interface_and_its_peer() {
    with_lab(1, |mut lab| {
        let attached = [settings(NEAR), settings(FAR)];
        lab.hook = None;
        let before = [settings(NEAR), settings(FAR)];
        assert_ne!(attached, before, "attaching changes something that is to be restored");
        let hook = lab.programs.attach(interface(FAR), HookMode::Native).unwrap();
        assert_eq!([settings(NEAR), settings(FAR)], attached);
        assert!(ip(&format!("link show {FAR}")).contains("xdp"));
        drop(hook);
        assert_eq!([settings(NEAR), settings(FAR)], before);
        assert!(!ip(&format!("link show {FAR}")).contains("xdp"));
        lab.put(1, rule(Addr::v4(GROUP), vec![output(0, 1)]));
        lab.send(&frame(1, 60));
        assert_eq!((lab.arrived(0).len(), lab.passed().len()), (0, 1));
    });
}

#[test]
fn jumbo_frames_are_attached_to_and_reach_the_stack() {
    with_lab(1, |mut lab| {
        lab.hook = None;
        for name in [NEAR, FAR] {
            ip(&format!("link set {name} mtu {FAR_MTU}"));
        }
        lab.hook = Some(lab.programs.attach(interface(FAR), HookMode::Native).unwrap());
        lab.put(1, rule(Addr::v4(GROUP), vec![output(0, 1)]));
        let jumbo = frame(1, 8900);
        lab.send(&jumbo);
        assert_eq!(lab.passed(), [jumbo]);
        assert_eq!(lab.programs.passed(Pass::TooLong).unwrap(), 1);
        lab.send(&frame(2, 1400));
        assert_eq!(lab.arrived(0).len(), 1);
    });
}

#[test]
fn generic_mode_relays_unless_frames_are_merged_before() {
    with_lab(2, |mut lab| {
        lab.hook = None;
        let error = lab.programs.attach(interface(FAR), HookMode::Generic).unwrap_err();
        assert!(error.to_string().contains("rx-gro off"), "{error}");
        lab.switch_gro(FAR, false);
        lab.hook = Some(lab.programs.attach(interface(FAR), HookMode::Generic).unwrap());
        let outputs = [(0, 1), (0, 2), (1, 3), (0, 4)];
        lab.put(1, rule(Addr::v4(GROUP), outputs.map(|(end, to)| output(end, to)).to_vec()));
        lab.send(&frame(1, 60));
        let groups = |end: usize| -> Vec<Addr> {
            lab.datagrams(end).iter().map(|(copy, _)| copy.group).collect()
        };
        assert_eq!(groups(0), [1, 2, 4].map(|number| Addr::v4([239, 2, number, 1])));
        assert_eq!(groups(1), [Addr::v4([239, 2, 3, 1])]);
        assert!(lab.passed().is_empty());
    });
}
