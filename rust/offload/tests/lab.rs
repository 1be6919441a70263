//! A network for tests: a cable into the relay, cables out of it, and sockets at their ends.
//!
//! ```text
//! near0 ----- far0  relay  out0 ----- end0
//! sender      input        out1 ----- end1
//! ```

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, UdpHeader};
use nix::errno::Errno;
use nix::unistd::read;
use socket2::SockRef;

use crate::addr::Addr;
use crate::error::Result;
use crate::offload::{
    Endpoint, Fan, Hook, HookMode, KernelOutput, KernelRule, KernelTable, Limits, Mode, Programs,
    Put, Retired,
};
use crate::packet::{ChecksumState, Datagram, FrameMeta, parse};
use crate::sockets::interfaces;
use crate::sockets::socket;
use crate::sockets::testnet::{FAR, NEAR, in_namespace, interface, ip, settle, wait_until};
use crate::spec::{Choice, Ttl};
use crate::sys::{netdev, sockaddr};

pub(super) const GROUP: [u8; 4] = [239, 1, 1, 1];
pub(super) const PORT: u16 = 5001;
pub(super) const SENDER: [u8; 4] = [192, 0, 2, 7];
pub(super) const SENDER_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const SENDER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The MTU of an interface for jumbo frames.
pub(super) const FAR_MTU: u32 = 9000;
/// The position of the IP header in a frame.
pub(super) const IP_AT: usize = 14;

pub(super) struct Lab {
    pub(super) programs: Programs,
    pub(super) table: KernelTable,
    pub(super) hook: Option<Hook>,
    injector: OwnedFd,
    /// What the input passes to the network stack.
    stack: OwnedFd,
    ends: Vec<OwnedFd>,
}

/// Runs a test with this many cables out of the relay.
pub(super) fn with_lab(outputs: usize, test: impl FnOnce(Lab) + Send + 'static) {
    in_namespace(move || {
        lay_cable(NEAR, FAR);
        for number in 0..outputs {
            lay_cable(&format!("out{number}"), &format!("end{number}"));
        }
        test(Lab::new(outputs));
    });
}

/// A cable whose far end can receive redirected frames: it has NAPI, for which GRO stands.
fn lay_cable(near: &str, far: &str) {
    ip(&format!("link add {near} type veth peer name {far}"));
    for name in [near, far] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1").unwrap();
        ip(&format!("link set {name} up"));
    }
    let devices = socket::open(libc::AF_INET, libc::SOCK_DGRAM, near).unwrap();
    netdev::set_gro(devices.as_fd(), far, true).unwrap();
    for name in [near, far] {
        wait_until("the cable is up", || ip(&format!("-o link show {name}")).contains("state UP"));
    }
}

impl Lab {
    fn new(outputs: usize) -> Self {
        let programs = Programs::load(Limits::default()).unwrap();
        let mut table = KernelTable::open(programs.descriptors().unwrap()).unwrap();
        table.switch(true).unwrap();
        let hook = programs.attach(interface(FAR), HookMode::Native).unwrap();
        let ends = (0..outputs).map(|number| packet_socket(&format!("end{number}"))).collect();
        let (injector, stack) = (packet_socket(NEAR), packet_socket(FAR));
        Self { programs, table, hook: Some(hook), injector, stack, ends }
    }

    /// Sends a frame, and waits until it has gone through both cables: on a busy machine a thread
    /// of the kernel delivers it later.
    pub(super) fn send(&self, frame: &[u8]) {
        assert_eq!(SockRef::from(&self.injector).send(frame).unwrap(), frame.len());
        settle();
    }

    pub(super) fn fan(&mut self, rule: &KernelRule) -> Fan {
        self.programs.fan(&rule.shape()).unwrap()
    }

    pub(super) fn put(&mut self, key: u64, rule: KernelRule) {
        assert!(self.try_put(key, rule).unwrap().is_empty());
    }

    pub(super) fn try_put(&mut self, key: u64, rule: KernelRule) -> Result<Vec<Retired>> {
        let fan = self.fan(&rule);
        self.table.change(&[], vec![Put { key, rule, fan, mode: Mode::Relay }])
    }

    pub(super) fn switch_gro(&self, name: &str, on: bool) {
        netdev::set_gro(self.injector.as_fd(), name, on).unwrap();
    }

    /// The frames that have arrived at the end of an output's cable.
    pub(super) fn arrived(&self, end: usize) -> Vec<Vec<u8>> {
        frames(&self.ends[end])
    }

    /// The datagrams among them, whose checksums are verified.
    pub(super) fn datagrams(&self, end: usize) -> Vec<(Datagram, Vec<u8>)> {
        self.arrived(end).iter().map(|frame| datagram(frame)).collect()
    }

    /// The frames that the input has passed to the network stack.
    pub(super) fn passed(&self) -> Vec<Vec<u8>> {
        frames(&self.stack)
    }
}

pub(super) fn datagram(frame: &[u8]) -> (Datagram, Vec<u8>) {
    let meta = FrameMeta { vlan: None, checksum: ChecksumState::Unverified, segment_size: 0 };
    let datagram = parse(frame, meta).unwrap();
    let (start, len) = (datagram.payload.start as usize, datagram.payload.len as usize);
    (datagram, frame[start..start + len].to_vec())
}

pub(super) fn packet_socket(name: &str) -> OwnedFd {
    let fd = socket::open(libc::AF_PACKET, libc::SOCK_RAW, name).unwrap();
    socket::receive_buffer(fd.as_fd(), 64 << 20, name).unwrap();
    sockaddr::bind_link_layer(fd.as_fd(), interface(name).index.cast_signed()).unwrap();
    fd
}

fn frames(socket: &OwnedFd) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 70_000];
    let mut frames = Vec::new();
    loop {
        match read(socket, &mut buffer) {
            Ok(len) => frames.push(buffer[..len].to_vec()),
            Err(Errno::EAGAIN) => return frames,
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// A frame for the group with a number as payload, padded to this length.
pub(super) fn frame(number: u32, payload_bytes: usize) -> Vec<u8> {
    frame_to(GROUP, number, payload_bytes)
}

pub(super) fn frame_to(group: [u8; 4], number: u32, payload_bytes: usize) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(payload_bytes, number.to_be_bytes()[3]);
    ipv4_frame(&ipv4_header(group, payload_bytes), &payload)
}

pub(super) fn ipv4_header(group: [u8; 4], payload_bytes: usize) -> Ipv4Header {
    let length = u16::try_from(8 + payload_bytes).unwrap();
    Ipv4Header::new(length, 8, IpNumber::UDP, SENDER, group).unwrap()
}

/// A frame with this header, whose checksum is added, and that of UDP.
pub(super) fn ipv4_frame(header: &Ipv4Header, payload: &[u8]) -> Vec<u8> {
    let mut header = header.clone();
    header.header_checksum = header.calc_header_checksum();
    let udp = UdpHeader::with_ipv4_checksum(40_000, PORT, &header, payload).unwrap();
    let [_, a, b, c] = header.destination;
    let mac = [1, 0, 0x5e, a & 0x7f, b, c];
    [&mac[..], &SENDER_MAC, &[8, 0], &header.to_bytes(), &udp.to_bytes(), payload].concat()
}

pub(super) fn ipv6_frame(group: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let header = Ipv6Header {
        traffic_class: 0xb9,
        flow_label: 0x12345.try_into().unwrap(),
        payload_length: u16::try_from(8 + payload.len()).unwrap(),
        next_header: IpNumber::UDP,
        hop_limit: 8,
        source: SENDER_V6,
        destination: group,
    };
    let udp = UdpHeader::with_ipv6_checksum(40_000, PORT, &header, payload).unwrap();
    let mac = [&[0x33, 0x33][..], &group[12..]].concat();
    [&mac[..], &SENDER_MAC, &[0x86, 0xdd], &header.to_bytes(), &udp.to_bytes(), payload].concat()
}

/// The number of a frame that arrived.
pub(super) fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(*payload.first_chunk().unwrap())
}

pub(super) fn endpoint(group: Addr) -> Endpoint {
    Endpoint { ifindex: interface(FAR).index, vlan: 0, group, port: PORT }
}

/// A rule for a group from any sender.
pub(super) fn rule(group: Addr, outputs: Vec<KernelOutput>) -> KernelRule {
    KernelRule {
        endpoint: endpoint(group),
        sources: Vec::new(),
        outputs,
        max_bytes: 1500,
        cpu: None,
    }
}

/// An output to 239.2.`number`.1 at the end of a cable.
pub(super) fn output(device: usize, number: u8) -> KernelOutput {
    let name = format!("out{device}");
    KernelOutput {
        ifindex: interface(&name).index,
        address: Addr::v4([239, 2, number, 1]),
        port: 6000 + u16::from(number),
        source: Choice::Chosen(Addr::v4([10, 1, number, 1])),
        source_port: Choice::Chosen(41_000 + u16::from(number)),
        ttl: Ttl::Set(16),
        dscp: Some(46),
        source_mac: [2, 0, 0, 0, 1, number],
        destination_mac: [1, 0, 0x5e, 2, number, 1],
    }
}

/// Frames that an interface has received.
pub(super) fn received_frames(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{name}:")));
    line.unwrap().split_whitespace().nth(2).unwrap().parse().unwrap()
}

/// The settings of an interface that attaching changes, as `ip` and ethtool(8) show them.
pub(super) fn settings(name: &str) -> (String, Vec<(&'static str, bool)>) {
    const FEATURES: [&str; 5] = [
        "rx-vlan-hw-parse",
        "rx-gro",
        "tx-tcp-segmentation",
        "tx-udp-segmentation",
        "tx-generic-segmentation",
    ];
    let devices = socket::open(libc::AF_INET, libc::SOCK_DGRAM, name).unwrap();
    let feature = |feature| (feature, netdev::feature(devices.as_fd(), name, feature).unwrap());
    let interface = interfaces::list().unwrap().into_iter().find(|found| found.name == name);
    (format!("{interface:?}"), FEATURES.map(feature).to_vec())
}
