//! A supervisor whose sockets another one takes over.

use std::net::UdpSocket;

use proptest::prelude::*;

use super::*;
use crate::addr::Addr;
use crate::broker::Ingress;
use crate::broker::testbed::TestSupervisor;
use crate::sockets::provider::{PacketSocketRequest, SocketProvider};
use crate::sockets::testnet::{in_namespace, interface, ip};
use crate::sockets::udp_input::UdpInputRequest;
use crate::spec::OutputSpec;
use crate::sys::packet_ring::RingShape;

const GROUP: Addr = Addr::v4([239, 1, 1, 1]);
const V6: Addr = Addr::v6([0xff, 0x3e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// Gives all sockets of one server to another.
fn hand_over(from: &TestSupervisor, to: &TestSupervisor) -> usize {
    let (from, mut to) = (from.server.lock().unwrap(), to.server.lock().unwrap());
    let records = from.leased().map(|(record, fd)| (record, fd.try_clone_to_owned().unwrap()));
    let records: Vec<_> = records.collect();
    let count = records.len();
    for (record, fd) in records {
        to.adopt(&record, fd).unwrap();
    }
    count
}

fn output_to(port: u16) -> OutputSpec {
    OutputSpec::to(Addr::v4([127, 0, 0, 1]), port)
}

#[test]
fn a_successor_gets_the_same_sockets() {
    in_namespace(|| {
        let old = TestSupervisor::new(2, Ingress::Packet);
        let lo = interface("lo");
        let request = PacketSocketRequest { interface: lo, blocks: &[], sockets: 1, ring: None };
        let (first, _death) = old.worker(0);
        let frames = first.frames(&request).unwrap();
        let output = first.output(7, &output_to(6001)).unwrap();
        let sender = UdpSocket::from(output.socket.as_fd().try_clone_to_owned().unwrap());
        let port = sender.local_addr().unwrap();
        let new = TestSupervisor::new(2, Ingress::Packet);
        // The frames of both workers, and the output.
        assert_eq!(hand_over(&old, &new), 3);
        let (next, _) = new.worker(0);
        let taken = next.frames(&request).unwrap();
        assert_eq!(taken[0].receive_buffer_bytes, frames[0].receive_buffer_bytes);
        let output = next.output(7, &output_to(6001)).unwrap();
        let sender = UdpSocket::from(output.socket.as_fd().try_clone_to_owned().unwrap());
        assert_eq!(sender.local_addr().unwrap(), port);
        assert_eq!(new.open_sockets(), 3);
        // The socket of the other worker, which never asked, keeps its place.
        let (other, _) = new.worker(1);
        other.frames(&request).unwrap();
        assert_eq!(new.open_sockets(), 3);
    });
}

#[test]
fn datagrams_wait_for_the_successor() {
    in_namespace(|| {
        let old = TestSupervisor::new(1, Ingress::Udp);
        let lo = interface("lo");
        let request = UdpInputRequest {
            group: GROUP,
            is_broadcast: false,
            is_everywhere: false,
            is_beside_own: false,
            port: 5001,
            interface: lo,
        };
        let (first, death) = old.worker(0);
        let input = first.datagrams(&request).unwrap();
        first.join_socket(&input.socket, lo.index, GROUP, &[]).unwrap();
        let new = TestSupervisor::new(1, Ingress::Udp);
        assert_eq!(hand_over(&old, &new), 1);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"between", ("239.1.1.1", 5001)).unwrap();
        let (next, _) = new.worker(0);
        let taken = next.datagrams(&request).unwrap();
        next.join_socket(&taken.socket, lo.index, GROUP, &[]).unwrap();
        next.release_unclaimed().unwrap();
        death.come();
        drop((first, input));
        old.server.lock().unwrap().forget();
        sender.send_to(b"afterwards", ("239.1.1.1", 5001)).unwrap();
        let socket = UdpSocket::from(taken.socket.as_fd().try_clone_to_owned().unwrap());
        let mut room = [0; 16];
        for expected in [&b"between"[..], b"afterwards"] {
            let len = socket.recv(&mut room).unwrap();
            assert_eq!(&room[..len], expected);
        }
    });
}

#[test]
fn a_socket_on_a_deleted_interface_is_not_taken_over() {
    in_namespace(|| {
        ip("link add short type veth peer name other");
        let old = TestSupervisor::new(1, Ingress::Packet);
        let (first, _death) = old.worker(0);
        let request = PacketSocketRequest {
            interface: interface("short"),
            blocks: &[],
            sockets: 1,
            ring: None,
        };
        let _frames = first.frames(&request).unwrap();
        ip("link delete short");
        let new = TestSupervisor::new(1, Ingress::Packet);
        assert_eq!(hand_over(&old, &new), 1);
        assert_eq!(new.open_sockets(), 0);
    });
}

fn leases() -> impl Strategy<Value = (SocketKey, SocketDetails)> {
    let ring = prop::option::of(
        (any::<u32>(), any::<u16>())
            .prop_map(|(slot_bytes, slots)| RingShape { slot_bytes, slots }),
    );
    let frames = (any::<u32>(), any::<u32>(), ring, any::<bool>(), any::<Option<u64>>());
    let frames = frames.prop_map(|(ifindex, bytes, ring, flag, group)| {
        let details = PacketLease {
            receive_buffer_bytes: bytes as usize,
            vnet_hdr: flag,
            ring,
            asked: ring,
            takes_all: !flag,
            wants_all: false,
            group,
        };
        (SocketKey::Frames { ifindex }, SocketDetails::Frames(details))
    });
    let output =
        (any::<u64>(), any::<u32>(), "[a-z]{0,127}").prop_map(|(key, bytes, interface)| {
            let spec = OutputSpec { interface, ..OutputSpec::to(V6, 5001) };
            let details = SocketDetails::Output { send_buffer_bytes: bytes as usize };
            (SocketKey::Output { key, spec }, details)
        });
    let others = (any::<u32>(), any::<u16>(), any::<bool>(), 0..5_u8).prop_map(
        |(ifindex, port, flag, which)| {
            let helper = SocketDetails::Helper { vote: None };
            match which {
                0 => {
                    let (is_broadcast, is_everywhere) = (flag, !flag);
                    let member = Member::default();
                    let details = SocketDetails::Datagrams { receive_buffer_bytes: 9, member };
                    let key = SocketKey::Datagrams {
                        ifindex,
                        group: V6,
                        port,
                        is_broadcast,
                        is_everywhere,
                    };
                    (key, details)
                }
                1 => (SocketKey::GroHelper { ifindex, group: GROUP, port }, helper),
                2 => (SocketKey::GroHelperAnywhere { group: V6, port }, helper),
                3 => (SocketKey::GroHelperForPort { v4: flag, port }, helper),
                _ => (SocketKey::PortGuard { ifindex, address: GROUP, port }, helper),
            }
        },
    );
    prop_oneof![frames, output, others]
}

proptest! {
    #[test]
    fn a_record_says_what_the_lease_is((key, details) in leases(), worker in any::<u16>()) {
        let mut bytes = Vec::new();
        key.write(&mut bytes);
        details.write_to(&mut bytes).unwrap();
        let mut whole = Vec::new();
        (RECORD_FORM, worker).write(&mut whole);
        whole.push(0);
        whole.extend(&bytes);
        prop_assert!(whole.len() <= RECORD_BYTES);
        whole.resize(RECORD_BYTES, 0);
        let (number, lease) = HandedLease::parse(&whole).unwrap();
        prop_assert_eq!((number, lease.state), (worker, LeaseState::Orphaned));
        prop_assert_eq!(&lease.key, &key);
        prop_assert_eq!(format!("{:?}", lease.details), format!("{details:?}"));
        whole[0] += 1;
        prop_assert!(HandedLease::parse(&whole).is_none());
    }

    #[test]
    fn any_record_is_harmless(mut bytes in prop::collection::vec(any::<u8>(), RECORD_BYTES)) {
        drop(HandedLease::parse(&bytes));
        bytes[..2].copy_from_slice(&RECORD_FORM.to_le_bytes());
        drop(HandedLease::parse(&bytes));
    }
}
