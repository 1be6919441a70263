//! What is left of a change that is refused: nothing.

use std::fs;

use super::*;
use crate::open::testnet::{in_namespace, interface};

fn rule(group: [u8; 4], name: &str, source: Option<[u8; 4]>) -> RuleSpec {
    let input = InputSpec {
        group: Addr::v4(group),
        port: 5001,
        interface: name.to_owned(),
        ifindex: interface(name).index,
        sources: Box::default(),
        vlan: 0,
    };
    let output = OutputSpec {
        address: Addr::v4([127, 0, 0, 1]),
        port: 6001,
        ifindex: 0,
        interface: String::new(),
        ttl: 1,
        dscp: 0,
        source: source.map(Addr::v4),
        source_port: None,
        multicast_loop: true,
        priority: None,
    };
    RuleSpec { input, outputs: vec![output] }
}

fn relay() -> Relay {
    Relay::new(Settings::new(Ingress::Udp, 1 << 20)).unwrap()
}

/// The groups of IPv4 that this network namespace is a member of.
fn memberships() -> String {
    fs::read_to_string("/proc/thread-self/net/igmp").unwrap()
}

#[test]
fn an_interface_of_a_refused_rule_is_not_reported() {
    in_namespace(|| {
        let relay = relay();
        let before = memberships();
        let good = rule([239, 1, 1, 1], "lo", None);
        let bad = rule([239, 1, 1, 2], "lo", Some([192, 0, 2, 1]));
        relay.change(&[], &[good.clone(), bad.clone()]).unwrap_err();
        assert!(relay.report().interfaces.is_empty());
        assert_eq!(memberships(), before);
        relay.change(&[], &[good]).unwrap();
        relay.change(&[], &[bad]).unwrap_err();
        assert_eq!(relay.report().interfaces.len(), 1);
        assert_eq!(relay.report().rules.len(), 1);
    });
}

#[test]
fn a_change_after_the_end_changes_nothing() {
    in_namespace(|| {
        let relay = relay();
        let first = rule([239, 1, 1, 1], "lo", None);
        let keys = relay.change(&[], &[first]).unwrap();
        relay.start().unwrap();
        relay.stop();
        let before = memberships();
        relay.change(&keys, &[rule([239, 1, 1, 2], "lo", None)]).unwrap_err();
        assert_eq!(memberships(), before);
        let left: Vec<u32> = relay.report().rules.iter().map(|rule| rule.key).collect();
        assert_eq!(left, keys);
    });
}
