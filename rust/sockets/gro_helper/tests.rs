//! Helper sockets and their effect on the kernel.

use std::net::UdpSocket;

use super::*;
use crate::sockets::testnet::{NEAR, in_namespace, interface, settle, with_cable};

const LOOPBACK: Addr = Addr::v4([127, 0, 0, 1]);

/// The second send reports the answer to the first.
fn is_refused() -> bool {
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect("127.0.0.1:5001").unwrap();
    sender.send(b"first").unwrap();
    settle();
    sender.send(b"second").is_err()
}

#[test]
fn a_held_port_is_not_refused() {
    in_namespace(|| {
        assert!(is_refused());
        let held = port_guard(LOOPBACK, 5001, interface("lo").index, false).unwrap().unwrap();
        assert!(!is_refused());
        drop(held);
        assert!(is_refused());
    });
}

#[test]
fn an_application_keeps_its_port_and_its_datagrams() {
    in_namespace(|| {
        let application = UdpSocket::bind("0.0.0.0:5001").unwrap();
        socket2::SockRef::from(&application).set_reuse_address(true).unwrap();
        assert!(port_guard(LOOPBACK, 5001, interface("lo").index, false).unwrap().is_none());
        assert!(!is_refused());
        let mut buffer = [0; 16];
        assert_eq!(application.recv(&mut buffer).unwrap(), 5);
    });
}

#[test]
fn an_address_of_another_host_needs_no_holder() {
    in_namespace(|| {
        assert!(port_guard(Addr::v4([192, 0, 2, 1]), 5001, 0, false).unwrap().is_none());
    });
}

#[test]
fn helpers_share_a_group_with_each_other_and_with_applications() {
    with_cable(|| {
        let application = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
        let application = application.unwrap();
        application.set_reuse_address(true).unwrap();
        let any = std::net::SocketAddr::from(([0, 0, 0, 0], 5001));
        application.bind(&any.into()).unwrap();
        let near = interface(NEAR);
        let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().into();
        for group in [Addr::v4([239, 1, 1, 1]), v6("ff3e::1"), v6("ff02::1:5")] {
            let _first = open(group, 5001, &near).unwrap();
            let _second = open(group, 5001, &near).unwrap();
            let _loopback = open(group, 5001, &interface("lo")).unwrap();
        }
    });
}
