//! The state of an output's socket, and the datagrams that it sends.

use socket2::SockRef;

use super::*;
use crate::sockets::testnet::{
    FAR, NEAR, in_namespace, interface, ip, settle, wait_until, with_cable,
};

fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

fn spec(address: &str, interface_name: &str) -> OutputSpec {
    let by_routing = interface_name.is_empty();
    OutputSpec {
        ifindex: if by_routing { 0 } else { interface(interface_name).index },
        interface: interface_name.to_owned(),
        ttl: Ttl::Set(9),
        dscp: Some(46),
        ..OutputSpec::to(addr(address), 6001)
    }
}

fn option(output: &OutputSocket, level: c_int, name: c_int) -> c_int {
    let mut value = 0;
    sockopt::get(output.fd.as_fd(), level, name, &mut value).unwrap();
    value
}

#[test]
fn a_group_is_sent_to_as_asked_without_a_route() {
    with_cable(|| {
        let asked =
            OutputSpec { priority: Some(6), multicast_loop: false, ..spec("239.1.1.1", NEAR) };
        let output = open(&asked).unwrap();
        let ip = libc::IPPROTO_IP;
        assert_eq!(option(&output, ip, libc::IP_MULTICAST_TTL), 9);
        assert_eq!(option(&output, ip, libc::IP_MULTICAST_LOOP), 0);
        assert_eq!(option(&output, ip, libc::IP_TOS), 46 << 2);
        assert_eq!(option(&output, ip, libc::IP_RECVERR), 1);
        assert_eq!(option(&output, ip, libc::IP_MTU_DISCOVER), libc::IP_PMTUDISC_DONT);
        assert_eq!(option(&output, libc::SOL_SOCKET, libc::SO_PRIORITY), 6);
        assert_eq!(output.send_buffer_bytes, SEND_BUFFER_BYTES);
        assert_eq!(output.max_segment, 1472);
        let from = SockRef::from(&output.fd).local_addr().unwrap().as_socket().unwrap();
        assert_eq!(from.ip().to_string(), "10.9.0.1");
        // A datagram over the MTU leaves in fragments.
        assert_eq!(SockRef::from(&output.fd).send(&[0; 9000]).unwrap(), 9000);
    });
}

#[test]
fn an_ipv6_group_of_the_link_is_reached_by_its_interface() {
    with_cable(|| {
        ip(&format!("address add 2001:db8::1/64 dev {NEAR} nodad"));
        for group in ["ff02::77", "ff3e::2"] {
            let output = open(&spec(group, NEAR)).unwrap();
            let ip = libc::IPPROTO_IPV6;
            assert_eq!(option(&output, ip, libc::IPV6_MULTICAST_HOPS), 9);
            assert_eq!(option(&output, ip, libc::IPV6_TCLASS), 46 << 2);
            assert_eq!(option(&output, ip, libc::IPV6_RECVERR), 1);
            assert_eq!(output.max_segment, 1452);
        }
    });
}

#[test]
fn a_host_is_reached_by_routing_or_by_an_interface() {
    with_cable(|| {
        let output = open(&spec("127.0.0.1", "")).unwrap();
        assert_eq!(option(&output, libc::IPPROTO_IP, libc::IP_TTL), 9);
        assert_eq!(output.max_segment, 65507);

        ip(&format!("link set {NEAR} mtu 1300"));
        let output = open(&spec("10.9.0.7", NEAR)).unwrap();
        assert_eq!(output.max_segment, 1300 - 28);
        let bound = option(&output, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX);
        assert_eq!(u32::try_from(bound).unwrap(), interface(NEAR).index);

        let error = open(&spec("192.0.2.1", "")).unwrap_err().to_string();
        assert!(error.contains("192.0.2.1:6001: there is no route to it"), "{error}");
    });
}

#[test]
fn outputs_may_share_a_source_port() {
    in_namespace(|| {
        let from =
            |address| OutputSpec { source_port: Choice::Chosen(7000), ..spec(address, "lo") };
        let outputs = ["239.1.1.1", "239.1.1.2", "127.0.0.1"].map(|to| open(&from(to)).unwrap());
        for output in &outputs {
            let local = SockRef::from(&output.fd).local_addr().unwrap().as_socket().unwrap();
            assert_eq!(local.port(), 7000);
        }
    });
}

#[test]
fn a_source_address_must_be_this_hosts() {
    in_namespace(|| {
        let own =
            OutputSpec { source: Choice::Chosen(addr("127.0.0.3")), ..spec("239.1.1.1", "lo") };
        let output = open(&own).unwrap();
        let local = SockRef::from(&output.fd).local_addr().unwrap().as_socket().unwrap();
        assert_eq!(local.ip().to_string(), "127.0.0.3");

        let foreign = OutputSpec { source: Choice::Chosen(addr("192.0.2.9")), ..own };
        let error = open(&foreign).unwrap_err().to_string();
        assert!(error.contains("239.1.1.1%lo:6001: Cannot assign"), "{error}");
    });
}

#[test]
fn replies_of_the_peer_are_discarded() {
    in_namespace(|| {
        let host = std::net::UdpSocket::bind("127.0.0.1:6001").unwrap();
        let output = open(&spec("127.0.0.1", "")).unwrap();
        let local = SockRef::from(&output.fd).local_addr().unwrap().as_socket().unwrap();
        host.send_to(b"answer", local).unwrap();
        settle();
        let error = SockRef::from(&output.fd).recv(&mut []).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    });
}

#[test]
fn a_socket_follows_its_interface_and_keeps_its_port_and_buffer() {
    for address in ["239.1.1.1", "10.9.0.9", "ff02::77", "2001:db8::9"] {
        with_cable(move || {
            ip(&format!("address add 2001:db8::1/64 dev {NEAR} nodad"));
            let asked = spec(address, NEAR);
            let output = open(&asked).unwrap();
            let fd = output.fd.as_fd();
            let local = || SockRef::from(&fd).local_addr().unwrap().as_socket().unwrap();
            let before = local();
            ip(&format!("link delete {NEAR}"));
            ip(&format!("link add {NEAR} type veth peer name {FAR}"));
            ip(&format!("address add 10.9.0.7/24 dev {NEAR}"));
            ip(&format!("address add 2001:db8::7/64 dev {NEAR} nodad"));
            ip(&format!("link set {FAR} up"));
            ip(&format!("link set {NEAR} up mtu 1400"));
            SockRef::from(&fd).send(b"lost").unwrap_err();
            let recreated = OutputSpec { ifindex: interface(NEAR).index, ..asked };
            let headers = if addr(address).is_v4() { 28 } else { 48 };
            // The kernel creates the routes of a link some time after it comes up.
            wait_until("there is a route", || reconnect(fd, &recreated).is_ok());
            for _ in 0..2 {
                assert_eq!(reconnect(fd, &recreated).unwrap(), 1400 - headers);
                assert_eq!(local().port(), before.port());
                assert_ne!(local().ip(), before.ip());
            }
            assert_eq!(local_endpoint(fd), Some((local().ip().into(), local().port())));
            assert_eq!(path_segment(fd, &recreated).unwrap(), 1400 - headers);
            SockRef::from(&fd).send(b"sent").unwrap();
            let mut booked = 0;
            sockopt::get(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &mut booked).unwrap();
            assert_eq!(usize::try_from(booked).unwrap() / 2, output.send_buffer_bytes);
        });
    }
}

#[test]
fn a_source_that_is_asked_for_stays_when_it_is_reconnected() {
    with_cable(|| {
        let own = Choice::Chosen(addr("10.9.0.1"));
        for source_port in [Choice::Kernel, Choice::Chosen(7777)] {
            let asked = OutputSpec { source: own, source_port, ..spec("239.1.1.1", NEAR) };
            let output = open(&asked).unwrap();
            let fd = output.fd.as_fd();
            let local = || SockRef::from(&fd).local_addr().unwrap().as_socket().unwrap();
            let before = local();
            for _ in 0..2 {
                reconnect(fd, &asked).unwrap();
                assert_eq!(local(), before);
            }
        }
    });
}

#[test]
fn preserved_fields_need_another_socket_or_a_privilege() {
    with_cable(|| {
        ip(&format!("address add 2001:db8::1/64 dev {NEAR} nodad"));
        for (group, own) in [("239.1.1.1", "10.9.0.1"), ("ff3e::2", "2001:db8::1")] {
            let options = options::of(addr(group));
            let keeping = OutputSpec { source: Choice::Keep, ..spec(group, NEAR) };
            let output = open(&keeping).unwrap();
            let (level, name) = options.any_source;
            assert_eq!(option(&output, level, name), 1);
            assert_eq!(local(output.fd.as_fd()).unwrap().ip(), addr(own).ip());

            let keeping = OutputSpec { source_port: Choice::Keep, ..spec(group, NEAR) };
            assert!(keeping.has_own_headers());
            let output = open(&keeping).unwrap();
            assert_eq!(option(&output, libc::SOL_SOCKET, libc::SO_TYPE), libc::SOCK_RAW);
            let payload = 1500 - keeping.ip_headers();
            assert_eq!(local(output.fd.as_fd()).unwrap().ip(), addr(own).ip());
            assert_eq!(output.max_segment, payload);
        }
    });
}
