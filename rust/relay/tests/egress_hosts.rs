//! Outputs to hosts that may send frames: the neighbours and paths behind them.

use std::net::UdpSocket;
use std::thread;

use super::egress::{of_frames, reason, relay_with, wait_for};
use super::*;
use crate::sockets::testnet::without_rights;

const V4: &str = "10.9.0.9";
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn to_host(address: &str) -> RuleSpec {
    let address = address.parse::<std::net::IpAddr>().unwrap().into();
    let outputs = vec![OutputSpec::to(address, 6001)];
    RuleSpec { id: "a".to_owned(), outputs, ..rule([239, 1, 1, 1], "lo", None) }
}

fn set_neighbour(address: &str, mac: &str, state: &str) {
    ip(&format!("neighbour replace {address} lladdr {mac} dev {NEAR} nud {state}"));
}

fn destination(relay: &Relay) -> Option<[u8; 6]> {
    of_frames(relay, |frames| frames.of_worker(0).map(|frames| frames.ethernet.destination))
}

/// No host answers here, so that only the entries decide which the test sets.
#[test]
fn frames_wait_for_their_neighbour_and_follow_its_address() {
    with_cable(|| {
        let relay = relay_with(EgressMode::Xdp);
        relay.change(&[], &[to_host(V4)]).unwrap();
        relay.start().unwrap();
        assert_eq!(reason(&relay), "no_neighbour");
        assert!(
            !relay.shared.state().xdp_links.of_worker(0).is_empty(),
            "the link is open in advance"
        );
        for (mac, bytes) in [("2:0:0:0:0:9", MAC), ("2:0:0:0:0:8", [2, 0, 0, 0, 0, 8])] {
            set_neighbour(V4, mac, "reachable");
            wait_for(&relay, "batches");
            wait_until("the MAC address", || destination(&relay) == Some(bytes));
        }
        set_neighbour(V4, "2:0:0:0:0:9", "failed");
        wait_for(&relay, "no_neighbour");
        relay.stop();
    });
}

#[test]
fn the_kernel_is_asked_to_confirm_a_stale_neighbour() {
    with_cable(|| {
        set_neighbour(V4, "2:0:0:0:0:9", "stale");
        let relay = relay_with(EgressMode::Auto);
        relay.change(&[], &[to_host(V4)]).unwrap();
        assert_eq!((reason(&relay), destination(&relay)), ("batches", Some(MAC)));
        assert!(ip(&format!("neighbour show {V4}")).contains("DELAY"));
    });
}

#[test]
fn without_rights_a_copy_through_the_socket_has_a_stale_neighbour_confirmed() {
    with_cable(|| {
        set_neighbour(V4, "2:0:0:0:0:9", "permanent");
        let relay = relay_with(EgressMode::Auto);
        relay.change(&[], &[to_host(V4)]).unwrap();
        assert_eq!(reason(&relay), "batches");
        thread::scope(|scope| {
            scope.spawn(|| {
                without_rights();
                relay.start().unwrap();
            });
        });
        set_neighbour(V4, "2:0:0:0:0:9", "stale");
        wait_for(&relay, "no_neighbour");
        UdpSocket::bind("10.9.0.1:0").unwrap().send_to(b"copy", (V4, 6001)).unwrap();
        wait_for(&relay, "batches");
        relay.stop();
    });
}
