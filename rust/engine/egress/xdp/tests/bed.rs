//! An egress that sends on a cable, and a capture of what arrives at its other end.

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{MsgFlags, recv};
use socket2::{Socket, Type};

use super::super::*;
use crate::addr::Addr;
use crate::engine::egress::Egress;
use crate::engine::plan::{Way, XdpLink};
use crate::engine::rewrite::Preserved;
use crate::packet::{ChecksumState, Datagram, FrameMeta, Span, parse};
use crate::sockets::output as output_socket;
use crate::sockets::socket::receive_buffer;
use crate::sockets::testnet::{FAR, NEAR, interface, ip};
use crate::spec::{OutputSpec, Ttl};
use crate::stats::Slot;
use crate::sys::buffers::{Buffer, Buffers};
use crate::sys::ring::{ReceiveLayout, RingEvent};
use crate::sys::sockaddr::bind_link_layer;
use crate::sys::xdp_socket::{self, XdpShape};

pub(super) const V4: Addr = Addr::v4([239, 2, 0, 1]);
pub(super) const SENDER: Addr = Addr::v4([10, 1, 0, 2]);
/// The offset of the data in a buffer.
pub(super) const DATA: u32 = 16 + 32 + 104;
pub(super) const SHAPE: XdpShape = XdpShape { frames: 256, frame_bytes: 2048 };
pub(super) const MAX_PAYLOAD: u16 = 1400;

/// A copy as it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) payload: Vec<u8>,
    pub(super) destination: [u8; 6],
    pub(super) source: [u8; 6],
    pub(super) datagram: Datagram,
}

/// An egress with one rule, whose outputs send on one end of a cable, and a capture of the other.
pub(super) struct Bed {
    pub(super) egress: Egress,
    pub(super) counters: Writer,
    pub(super) plan: Plan,
    pub(super) ring: Ring,
    pub(super) _near: UdpSocket,
    pub(super) far: UdpSocket,
    pub(super) capture: OwnedFd,
    pub(super) kept: Option<Preserved>,
}

pub(super) fn v6() -> Addr {
    "ff3e::8000:1".parse::<std::net::IpAddr>().unwrap().into()
}

/// A source for copies to IPv6 groups; the link-local one is not ready at once.
pub(super) fn add_v6_address() {
    ip(&format!("address add 2001:db8:a::1/64 dev {NEAR} nodad"));
}

pub(super) fn spec(address: Addr) -> OutputSpec {
    let interface = interface(NEAR);
    OutputSpec {
        ifindex: interface.index,
        interface: interface.name.to_owned(),
        ..OutputSpec::to(address, 6000)
    }
}

pub(super) fn mac(name: &str) -> [u8; 6] {
    let text = ip(&format!("-o link show {name}"));
    let mac = text.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    let bytes: Vec<u8> = mac.split(':').map(|hex| u8::from_str_radix(hex, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// An output with the counter slot `slot`, which may use the link `link`, if it is given.
pub(super) fn plan_output(spec: &OutputSpec, slot: u32, link: Option<u64>) -> PlanOutput {
    let socket = output_socket::open(spec).unwrap();
    let local = socket2::SockRef::from(&socket.fd).local_addr().unwrap().as_socket().unwrap();
    let rewrite = Rewrite::of(spec, local.ip().into(), Addr::v4([239, 1, 1, 0]), 5000);
    let headers = crate::packet::Headers {
        source: local.ip().into(),
        destination: spec.address,
        source_port: local.port(),
        port: spec.port,
        ttl: if let Ttl::Set(ttl) = spec.ttl { ttl } else { 1 },
        dscp: spec.dscp.unwrap_or(0),
    };
    let ethernet = EthernetHeader { destination: group_mac(spec.address), source: mac(NEAR) };
    let xdp =
        link.map(|link| Arc::new(XdpOutput::new(link, ethernet, headers, MAX_PAYLOAD, false)));
    PlanOutput {
        fd: Arc::new(socket.fd.into()),
        slot: Slot { index: slot, generation: 1 },
        is_group: spec.address.is_multicast(),
        // Batches would arrive in one frame.
        max_segment: 1,
        burst: None,
        carrier: None,
        rewrite: rewrite.map(Arc::new),
        xdp,
        buckets: None,
    }
}

pub(super) fn link(id: u64, shape: XdpShape) -> XdpLink {
    let opened = xdp_socket::open(interface(NEAR).index, 0, shape).unwrap();
    XdpLink { id, socket: Arc::new(opened.socket.into()), umem: Arc::new(opened.umem), shape }
}

pub(super) fn plan(outputs: Vec<PlanOutput>, links: Vec<XdpLink>) -> Plan {
    let kept = Preserved::by(outputs.iter().filter_map(|output| output.rewrite.as_deref()));
    let end = u32::try_from(outputs.len()).unwrap();
    let rule = PlanRule { outputs: 0..end, kept, ..PlanRule::default() };
    let outputs = [outputs.into()].into();
    Plan { rules: [rule].into(), outputs, links: links.into(), ..Plan::empty() }
}

impl Bed {
    pub(super) fn new(plan: Plan) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        far.connect(near.local_addr().unwrap()).unwrap();
        let mut ring = Ring::new().unwrap();
        let pool = ring.add_pool(Buffers::new(2048, 1024).unwrap()).unwrap();
        ring.receive(near.as_fd(), pool, ReceiveLayout::Datagram, 0).unwrap();
        let kind = Type::from(libc::SOCK_RAW).cloexec().nonblocking();
        let capture = OwnedFd::from(Socket::new_raw(libc::AF_PACKET.into(), kind, None).unwrap());
        receive_buffer(capture.as_fd(), 32 << 20, "a capture").unwrap();
        bind_link_layer(capture.as_fd(), interface(FAR).index.try_into().unwrap()).unwrap();
        let mut bed = Self {
            egress: Egress::new(16),
            counters: Writer::new(stats::create_page().unwrap()),
            plan: Plan::empty(),
            ring,
            _near: near,
            far,
            capture,
            kept: None,
        };
        bed.adopt(plan);
        bed
    }

    pub(super) fn adopt(&mut self, plan: Plan) {
        let plans = (&self.plan, &plan);
        self.egress.settle(&mut self.ring, plans, &mut self.counters).unwrap();
        self.egress.adopt(&plan, &self.plan);
        self.kept = plan.rules[0].kept;
        self.plan = plan;
    }

    pub(super) fn finish(&mut self) {
        self.egress.finish(&mut self.ring, &self.plan, &mut self.counters).unwrap();
    }

    pub(super) fn received(&mut self) -> Buffer {
        self.ring.wait().unwrap();
        let event = self.ring.next_event();
        let Some(RingEvent::Received { buffer, .. }) = event else { panic!("{event:?}") };
        buffer
    }

    /// Sends one window of these payloads, and checks the balance of each output.
    pub(super) fn send(&mut self, payloads: &[Vec<u8>]) {
        let mut window = Window::new();
        window.resize(payloads.len(), 1);
        for payload in payloads {
            // An empty datagram would end the reception; its buffer need not be empty.
            self.far.send(if payload.is_empty() { b"." } else { payload }).unwrap();
            let (buffer, len) = (self.received(), u32::try_from(payload.len()).unwrap());
            let entry = WindowEntry::single(buffer, (DATA, len), 9, 0);
            let entry = window.push(entry);
            let datagram = Datagram {
                source: SENDER,
                group: Addr::v4([239, 1, 1, 7]),
                source_port: 4000,
                port: 5000,
                ttl: 9,
                dscp: 0,
                vlan: 0,
                payload: Span { start: DATA, len },
                segments: 1,
            };
            assert!(window.link(0, self.kept.as_ref(), &datagram, entry));
        }
        let Self { egress, ring, plan, counters, .. } = self;
        egress.send_window(ring, &mut window, plan, counters).unwrap();
        assert!(window.active().is_empty());
        window.drain().for_each(|buffer| ring.give_back(buffer));
        ring.offer_buffers();
        self.check_balance();
    }

    pub(super) fn check_balance(&mut self) {
        let waiting = u64::from(self.egress.has_waiting());
        for output in self.plan.share(0) {
            let [wanted, sent, dropped] = counts(&mut self.counters, output.slot.index);
            assert!(sent + dropped <= wanted);
            assert!(waiting > 0 || sent + dropped == wanted, "{wanted} {sent} {dropped}");
        }
    }

    pub(super) fn counts(&mut self, slot: u32) -> [u64; 3] {
        counts(&mut self.counters, slot)
    }

    pub(super) fn way(&self, output: usize) -> Way {
        self.plan.share(0)[output].xdp.as_ref().unwrap().way()
    }

    /// The copies for port 6000 that have arrived. Sockets leave UDP checksums to the device.
    pub(super) fn copies(&self) -> Vec<Copy> {
        let mut bytes = vec![0; 65_536];
        let mut copies = Vec::new();
        let meta = FrameMeta { vlan: None, checksum: ChecksumState::Trusted, segment_size: 0 };
        while let Ok(len) = recv(self.capture.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            let frame = &bytes[..len];
            let Ok(datagram) = parse(frame, meta) else { continue };
            if datagram.port == 6000 {
                let Span { start, len } = datagram.payload;
                copies.push(Copy {
                    payload: frame[start as usize..][..len as usize].to_vec(),
                    destination: frame[..6].try_into().unwrap(),
                    source: frame[6..12].try_into().unwrap(),
                    datagram,
                });
            }
        }
        copies
    }
}

pub(super) fn counts(counters: &mut Writer, slot: u32) -> [u64; 3] {
    let words = counters.slot(slot);
    let dropped = words[output::DROPPED..][..Loss::COUNT].iter().sum();
    [words[output::WANTED], words[output::SENT], dropped]
}

pub(super) fn lost(counters: &mut Writer, slot: u32, loss: Loss) -> u64 {
    counters.slot(slot)[output::DROPPED + loss as usize]
}

/// Payloads with different lengths, which form batches of one or two.
pub(super) fn uneven(number: u8, count: u16) -> Vec<Vec<u8>> {
    (0..count).map(|at| vec![number; 4 + usize::from(at * 37 % 300)]).collect()
}

/// As many windows of uneven payloads as the choice of a way needs; returns them.
pub(super) fn settle_on_xdp(bed: &mut Bed) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for number in 0..10 {
        let payloads = uneven(number, 32);
        bed.send(&payloads);
        all.extend(payloads);
    }
    all
}

/// Compares copies with what was sent; prints only the first difference.
pub(super) fn assert_same(arrived: &[Vec<u8>], sent: &[Vec<u8>]) {
    let first = arrived.iter().zip(sent).position(|(one, other)| one != other);
    assert_eq!((arrived.len(), first), (sent.len(), None));
}

pub(super) fn payloads_of(copies: &[Copy], group: Addr) -> Vec<Vec<u8>> {
    let own = copies.iter().filter(|copy| copy.datagram.group == group);
    own.map(|copy| copy.payload.clone()).collect()
}

/// Outputs of another plan with the same sockets.
pub(super) trait CloneAll {
    fn clone_all(&self) -> Self;
}

impl CloneAll for Vec<PlanOutput> {
    fn clone_all(&self) -> Self {
        let clone = |output: &PlanOutput| PlanOutput {
            fd: output.fd.clone(),
            carrier: output.carrier.clone(),
            rewrite: output.rewrite.clone(),
            xdp: output.xdp.clone(),
            buckets: output.buckets.clone(),
            ..*output
        };
        self.iter().map(clone).collect()
    }
}
