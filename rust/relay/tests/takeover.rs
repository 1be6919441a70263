//! Relays that follow each other on one page of counters.

use std::net::UdpSocket;

use super::rule;
use crate::relay::*;
use crate::sockets::testnet::{in_namespace, wait_until};
use crate::spec::{InputSpec, RuleSpec};

fn page() -> (Arc<SharedWords>, impl Fn() -> SharedWords) {
    let page = stats::create_page().unwrap();
    let handed = page.clone();
    (page, move || SharedWords::open(handed.fd().try_clone_to_owned().unwrap()).unwrap())
}

fn on_page(settings: Settings, page: SharedWords) -> Result<Relay> {
    Relay::on_page(settings, Box::new(LocalProvider::new()), page)
}

fn relay(page: SharedWords) -> Relay {
    on_page(Settings::new(Ingress::Udp, 1 << 20), page).unwrap()
}

fn specs() -> [RuleSpec; 2] {
    let near = rule([127, 0, 0, 1], "lo", None);
    let other = InputSpec { port: 5002, last_port: 5002, ..near.input.clone() };
    [near.clone(), RuleSpec { id: "other".to_owned(), input: other, ..near }]
}

/// Sends `count` datagrams, and waits until the first rule has matched `total` in all.
fn send(relay: &Relay, count: u64, total: u64) {
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..count {
        sender.send_to(b"datagram", "127.0.0.1:5001").unwrap();
    }
    wait_until("all are counted", || counts(relay).first() == Some(&(total, total)));
}

/// The matched datagrams of each rule, and the wanted copies of its output.
fn counts(relay: &Relay) -> Vec<(u64, u64)> {
    let report = relay.report();
    report.rules.iter().map(|rule| (rule.matched, rule.outputs[0].wanted)).collect()
}

#[test]
fn a_successor_continues_the_counters_of_its_rules_and_drops_the_others() {
    in_namespace(|| {
        let (page, open) = page();
        let [first, second] = specs();
        let dead = relay(open());
        dead.start().unwrap();
        dead.change(&[], &[first.clone(), second.clone()]).unwrap();
        send(&dead, 5, 5);
        // It ends without writing to the page, as a process that is killed does.
        dead.stop();
        drop(dead);
        let relay = relay(open());
        assert_eq!(stats::incarnations(&page), 2);
        relay.start().unwrap();
        let put = std::slice::from_ref(&first);
        let change = RuleChange { put, ..RuleChange::default() };
        // The counters of an abandoned change remain claimable.
        assert!(!relay.apply(&change, |_| false).unwrap());
        relay.change(&[], put).unwrap();
        assert_eq!(counts(&relay), [(5, 5)]);
        assert_eq!(relay.report().interfaces[0].received, 5);
        send(&relay, 3, 8);
        relay.settle().unwrap();
        relay.change(&[], &[second]).unwrap();
        assert_eq!(counts(&relay), [(8, 8), (0, 0)]);
        // A rule that is removed and added again begins at zero, in this process and in the next.
        relay.change(std::slice::from_ref(&first.id), &[]).unwrap();
        relay.change(&[], &[first]).unwrap();
        assert_eq!(counts(&relay), [(0, 0), (0, 0)]);
        relay.stop();
    });
}

#[test]
fn a_successor_does_not_find_the_counters_of_a_removed_rule() {
    in_namespace(|| {
        let (_page, open) = page();
        let [first, _] = specs();
        let dead = relay(open());
        dead.start().unwrap();
        dead.change(&[], std::slice::from_ref(&first)).unwrap();
        send(&dead, 5, 5);
        dead.change(std::slice::from_ref(&first.id), &[]).unwrap();
        dead.stop();
        drop(dead);
        let relay = relay(open());
        relay.change(&[], &[first]).unwrap();
        relay.start().unwrap();
        assert_eq!(counts(&relay), [(0, 0)]);
        relay.stop();
    });
}

#[test]
fn a_page_of_another_layout_is_refused() {
    let settings = Settings::new(Ingress::Udp, 1 << 20);
    let strange = SharedWords::create(64).unwrap();
    let error = on_page(settings.clone(), strange).err().unwrap().to_string();
    assert!(error.contains("another layout"), "{error}");
    let (_page, open) = page();
    let several = Settings { workers: 2, ..settings };
    assert!(matches!(on_page(several, open()), Err(Error::Invalid(_))));
}
