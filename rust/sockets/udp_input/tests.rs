//! Reception by sockets of the udp ingress, on the loopback and on a cable.

use nix::errno::Errno;
use nix::unistd::read;
use socket2::SockRef;

use super::*;
use crate::sockets::output::{self, OutputSocket};
use crate::sockets::testnet::{
    FAR, NEAR, in_namespace, interface, ip, settle, wait_until, with_cable,
};
use crate::spec::{Choice, OutputSpec};

fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

/// A sender to the group through this interface, from this address.
fn sender(group: &str, interface_name: &str, source: Option<&str>) -> OutputSocket {
    let spec = OutputSpec {
        ifindex: interface(interface_name).index,
        interface: interface_name.to_owned(),
        source: source.map_or(Choice::Kernel, |source| Choice::Chosen(addr(source))),
        ..OutputSpec::to(addr(group), 5001)
    };
    output::open(&spec).unwrap()
}

/// What the socket received of what this host sent.
fn heard(input: &UdpInput) -> Vec<String> {
    settle();
    let mut buffer = [0; 64];
    let mut heard = Vec::new();
    loop {
        match read(&input.fd, &mut buffer) {
            Ok(len) => heard.push(String::from_utf8_lossy(&buffer[..len]).into_owned()),
            Err(Errno::EAGAIN) => return heard,
            Err(errno) => panic!("{errno}"),
        }
    }
}

fn check_memberships(group: &str, on: &str, sources: [&str; 3]) {
    let senders = sources.map(|source| (source, sender(group, on, Some(source))));
    let on = interface(on);
    let input = open(&UdpInputRequest::on(on, addr(group), 5001)).unwrap();
    let fd = input.fd.as_fd();
    let [first, second, _] = sources;
    let hears = |wanted: &[&str]| {
        for (source, sender) in &senders {
            SockRef::from(&sender.fd).send(source.as_bytes()).unwrap();
        }
        assert_eq!(heard(&input), wanted);
    };
    let group = addr(group);
    let (first_list, second_list) = ([addr(first)], [addr(second)]);
    hears(&[]);
    join(fd, on.index, group, &first_list).unwrap();
    hears(&[first]);
    join(fd, on.index, group, &second_list).unwrap();
    join(fd, on.index, group, &second_list).unwrap();
    hears(&[first, second]);
    leave(fd, on.index, group, &first_list);
    hears(&[second]);
    join(fd, on.index, group, &[]).unwrap();
    hears(&sources);
    join(fd, on.index, group, &first_list).unwrap();
    hears(&sources);
    leave(fd, on.index, group, &second_list);
    hears(&sources);
    leave(fd, on.index, group, &[]);
    hears(&[]);
    join(fd, on.index, group, &first_list).unwrap();
    hears(&[first]);
}

#[test]
fn sources_add_up_and_any_wins() {
    in_namespace(|| check_memberships("239.1.1.1", "lo", ["127.0.0.1", "127.0.0.2", "127.0.0.3"]));
}

#[test]
fn sources_add_up_and_any_wins_for_ipv6() {
    with_cable(|| {
        let sources = ["2001:db8::1", "2001:db8::2", "2001:db8::3"];
        for source in sources {
            ip(&format!("address add {source}/64 dev {NEAR} nodad"));
        }
        check_memberships("ff3e::1", NEAR, sources);
    });
}

#[test]
fn sources_over_the_limit_leave_the_membership_as_it_was() {
    in_namespace(|| {
        let lo = interface("lo");
        let input = open(&UdpInputRequest::on(lo, addr("239.1.1.1"), 5001)).unwrap();
        join(input.fd.as_fd(), lo.index, addr("239.1.1.1"), &[addr("127.0.0.1")]).unwrap();
        let many = (1..30).map(|last| Addr::v4([127, 0, 0, last])).collect::<Vec<_>>();
        let error = join(input.fd.as_fd(), lo.index, addr("239.1.1.1"), &many).unwrap_err();
        assert!(error.to_string().contains("lo for 239.1.1.1"), "{error}");
        assert!(error.to_string().contains("igmp_max_msf"), "{error}");
        for source in ["127.0.0.1", "127.0.0.2"] {
            let sender = sender("239.1.1.1", "lo", Some(source));
            SockRef::from(&sender.fd).send(source.as_bytes()).unwrap();
        }
        assert_eq!(heard(&input), ["127.0.0.1"]);
    });
}

#[test]
fn each_socket_receives_only_from_its_interface() {
    with_cable(|| {
        for (name, address) in [(NEAR, "2001:db8::1"), (FAR, "2001:db8::2")] {
            ip(&format!("address add {address}/64 dev {name} nodad"));
        }
        for group in ["ff3e::1", "ff02::1:5"] {
            let inputs = [NEAR, FAR].map(|name| {
                let on = interface(name);
                let input = open(&UdpInputRequest::on(on, addr(group), 5001)).unwrap();
                join(input.fd.as_fd(), on.index, addr(group), &[]).unwrap();
                input
            });
            // The near socket gets the looped copy, the far one the datagram that arrives.
            let sender = sender(group, NEAR, None);
            let [near, far] = &inputs;
            let mut far_heard = Vec::new();
            SockRef::from(&sender.fd).send(b"over the cable").unwrap();
            wait_until("the datagram is there", || {
                far_heard = heard(far);
                !far_heard.is_empty()
            });
            assert_eq!(far_heard, ["over the cable"]);
            assert_eq!(heard(near), ["over the cable"]);
        }
    });
}

#[test]
fn a_local_address_belongs_to_one_socket() {
    in_namespace(|| {
        let lo = interface("lo");
        let input = open(&UdpInputRequest::on(lo, addr("127.0.0.1"), 5001)).unwrap();
        assert_eq!(input.receive_buffer_bytes, RECEIVE_BUFFER_BYTES);
        let sender = sender("127.0.0.1", "lo", None);
        SockRef::from(&sender.fd).send(b"to the host").unwrap();
        assert_eq!(heard(&input), ["to the host"]);
        let error =
            open(&UdpInputRequest::on(lo, addr("127.0.0.1"), 5001)).unwrap_err().to_string();
        assert!(error.contains("lo for 127.0.0.1, port"), "{error}");
    });
}
