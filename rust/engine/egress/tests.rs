//! Batches of the received datagrams in a window: by flow, in order, of maximal length.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::addr::Addr;
use crate::engine::plan::PlanOutput;
use crate::engine::rewrite::{Preserved, Rewrite};
use crate::engine::window::WindowEntry;
use crate::packet::{Datagram, Span};
use crate::sockets::output::{self, OutputSocket};
use crate::sockets::testnet::{in_namespace, ip};
use crate::spec::{Choice, OutputSpec, Ttl};
use crate::stats::Slot;
use crate::sys::buffers::{Buffer, Buffers};
use crate::sys::ring::{ReceiveLayout, RingEvent};

const GROUP: Addr = Addr::v4([239, 1, 1, 1]);
/// The offset of the data in a buffer.
const DATA: u32 = 16 + 32 + 104;

fn plain(address: Addr) -> OutputSpec {
    OutputSpec::to(address, 6000)
}

/// The fields that the outputs of a rule preserve, as in the plan.
fn kept(ttl: Ttl, source: Choice<Addr>) -> Preserved {
    let spec = OutputSpec { ttl, source, ..plain(GROUP) };
    let rewrite = Rewrite::of(&spec, Addr::v4([127, 0, 0, 1]), GROUP, 5001);
    Preserved::by(rewrite.iter()).unwrap()
}

/// A datagram of a flow: sender, TTL, and length in bytes.
type Sent = (u8, u8, u16);

fn datagram((source, ttl, len): Sent) -> Datagram {
    Datagram {
        source: Addr::v4([10, 0, 0, source]),
        group: GROUP,
        source_port: 4000,
        port: 5001,
        ttl,
        dscp: 0,
        vlan: 0,
        payload: Span { start: 0, len: len.into() },
        segments: 1,
    }
}

/// A ring that receives what the second socket sends to the first.
fn listening() -> (Ring, UdpSocket, UdpSocket) {
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    let far = UdpSocket::bind("127.0.0.1:0").unwrap();
    far.connect(near.local_addr().unwrap()).unwrap();
    let mut ring = Ring::new().unwrap();
    let pool = ring.add_pool(Buffers::new(2048, 256).unwrap()).unwrap();
    ring.receive(near.as_fd(), pool, ReceiveLayout::Datagram, 0).unwrap();
    (ring, near, far)
}

fn received(ring: &mut Ring) -> Buffer {
    ring.wait().unwrap();
    let Some(RingEvent::Received { buffer, .. }) = ring.next_event() else { panic!("nothing") };
    buffer
}

/// A window with one rule that matched these datagrams; their buffers are real.
pub(super) fn window(sent: &[Sent], kept: Option<Preserved>) -> Window {
    let (mut ring, _near, far) = listening();
    let mut window = Window::new();
    window.resize(sent.len(), 1);
    for &sent in sent {
        far.send(b".").unwrap();
        let buffer = received(&mut ring);
        let (datagram, (_, ttl, len)) = (datagram(sent), sent);
        let (len, segment) = (u32::from(len), u32::from(len));
        let entry =
            WindowEntry { buffer, start: 0, len, segment, count: 1, ttl, dscp: 0, is_part: false };
        let entry = window.push(entry);
        assert!(window.link(0, kept.as_ref(), &datagram, entry));
    }
    window
}

/// Sends datagrams to `places`, matched by a rule for 239.1.1.0/24 and 5000-5099, through an
/// output.
fn send(spec: &OutputSpec, places: &[(Addr, u16, &str)]) {
    let socket = output::open(spec).unwrap();
    let rewrite = Rewrite::of(
        spec,
        output::local_endpoint(socket.fd.as_fd()).unwrap().0,
        Addr::v4([239, 1, 1, 0]),
        5000,
    );
    send_through(socket, rewrite, places);
}

/// The same through an open socket.
fn send_through(socket: OutputSocket, rewrite: Option<Rewrite>, places: &[(Addr, u16, &str)]) {
    let mut rig = OneOutput::new(socket, rewrite);
    rig.send(places);
    let words = rig.counters.slot(1);
    let count = u64::try_from(places.len()).unwrap();
    assert_eq!((words[stats::output::WANTED], words[stats::output::SENT]), (count, count));
}

/// An egress with one rule and one output.
struct OneOutput {
    plan: Plan,
    egress: Egress,
    counters: Writer,
}

impl OneOutput {
    fn new(socket: OutputSocket, rewrite: Option<Rewrite>) -> Self {
        let kept = Preserved::by(rewrite.iter());
        let output = PlanOutput {
            fd: Arc::new(socket.fd.into()),
            slot: Slot { index: 1, generation: 1 },
            is_group: false,
            max_segment: socket.max_segment,
            burst: None,
            carrier: None,
            rewrite: rewrite.map(Arc::new),
            xdp: None,
            buckets: None,
        };
        let rule = PlanRule { outputs: 0..1, kept, ..PlanRule::default() };
        let outputs = [[output].into()].into();
        let plan = Plan { rules: [rule].into(), outputs, ..Plan::empty() };
        let mut egress = Egress::new(2);
        egress.adopt(&plan, &Plan::empty());
        Self { plan, egress, counters: Writer::new(stats::create_page().unwrap()) }
    }

    /// An output that has proved what it accepts, as if it were a group.
    fn proven(socket: OutputSocket) -> Self {
        let mut rig = Self::new(socket, None);
        Arc::get_mut(&mut rig.plan.outputs[0]).unwrap()[0].is_group = true;
        while rig.egress.limits[1].proven_segment(1).is_none() {
            rig.egress.limits[1].accept(0, 2);
        }
        rig
    }

    fn send(&mut self, places: &[(Addr, u16, &str)]) {
        let Self { plan, egress, counters } = self;
        let kept = plan.rules[0].kept;
        let (mut ring, _near, far) = listening();
        let mut window = Window::new();
        window.resize(places.len(), 1);
        for &(group, port, payload) in places {
            let len = u32::try_from(payload.len()).unwrap();
            far.send(payload.as_bytes()).unwrap();
            let buffer = received(&mut ring);
            let entry = WindowEntry::single(buffer, (DATA, len), 9, 0);
            let entry = window.push(entry);
            let datagram = Datagram { group, port, ..datagram((7, 9, 0)) };
            assert!(window.link(0, kept.as_ref(), &datagram, entry));
        }
        egress.send_window(&mut ring, &mut window, plan, counters).unwrap();
    }
}

/// The batches of each wave, as numbers of datagrams in the window.
pub(super) fn waves(window: &mut Window, kept: Option<Preserved>) -> Vec<Vec<Vec<u16>>> {
    let mut waves = Vec::new();
    while !window.active().is_empty() {
        let mut batches = Batches::new();
        for position in 0..window.active().len() {
            let lane = window.active()[position];
            assert_eq!(window.rule(lane), 0);
            batches.take(window, lane, kept.as_ref()).unwrap();
        }
        window.retire_finished();
        waves.push(batches.all().map(<[u16]>::to_vec).collect());
    }
    window.forget_flows();
    waves
}

#[test]
fn interleaved_senders_form_one_batch_each() {
    let sent: Vec<Sent> = (0..60).map(|n| (n % 20, 9, 1400)).collect();
    let kept = Some(kept(Ttl::Set(1), Choice::Keep));
    let waves = waves(&mut window(&sent, kept), kept);
    let own = |source: u16| vec![source, source + 20, source + 40];
    assert_eq!(waves, [(0..20).map(own).collect::<Vec<_>>()]);
    // A rule that preserves nothing has one lane for all of them.
    assert_eq!(self::waves(&mut window(&sent, None), None)[0][0].len(), 46);
}

#[test]
fn a_change_of_ttl_closes_the_batch_of_its_flow_only() {
    let sent = [(1, 9, 100), (2, 9, 100), (1, 8, 100), (2, 9, 100), (1, 9, 100)];
    let kept = Some(kept(Ttl::Keep, Choice::Kernel));
    let waves = waves(&mut window(&sent, kept), kept);
    assert_eq!(waves, [vec![vec![0], vec![1, 3]], vec![vec![2]], vec![vec![4]]]);
}

#[test]
fn each_copy_goes_to_its_position_in_the_range() {
    in_namespace(|| {
        let group = |last| Addr::v4([239, 1, 1, last]);
        let places: [(Addr, u16, &str, &str); 4] = [
            (group(3), 5000, "first", "127.0.1.3:6000"),
            (group(5), 5099, "second", "127.0.1.5:6099"),
            (group(3), 5001, "third", "127.0.1.3:6001"),
            (group(3), 5000, "fourth", "127.0.1.3:6000"),
        ];
        let came = places.map(|(group, port, payload, _)| (group, port, payload));
        let hosts = ["127.0.1.3:6000", "127.0.1.3:6001", "127.0.1.5:6099"];
        let hosts = hosts.map(|host| (host, UdpSocket::bind(host).unwrap()));
        for (_, socket) in &hosts {
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        let ranged =
            OutputSpec { address_bits: 8, last_port: 6099, ..plain(Addr::v4([127, 0, 1, 0])) };
        let by_ttl = OutputSpec { ttl: Ttl::Decrement, ..ranged.clone() };
        let by_sender = OutputSpec { source_port: Choice::Keep, ..ranged.clone() };
        for spec in [ranged, by_ttl, by_sender] {
            send(&spec, &came);
            for (host, socket) in &hosts {
                for (.., payload, _) in places.iter().filter(|(.., place)| place == host) {
                    let mut bytes = [0; 64];
                    let (len, from) = socket.recv_from(&mut bytes).unwrap();
                    assert_eq!(&bytes[..len], payload.as_bytes());
                    assert_eq!(from.port() == 4000, spec.has_own_headers());
                }
            }
        }
    });
}

/// Numbered payloads of these lengths.
fn payloads(lengths: impl IntoIterator<Item = usize>) -> Vec<String> {
    lengths.into_iter().enumerate().map(|(n, len)| format!("{n:0len$}")).collect()
}

fn places(payloads: &[String]) -> Vec<(Addr, u16, &str)> {
    payloads.iter().map(|text| (GROUP, 5000, text.as_str())).collect()
}

fn host() -> UdpSocket {
    let host = UdpSocket::bind("127.0.0.1:6000").unwrap();
    host.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    host
}

fn socket_to_host() -> OutputSocket {
    output::open(&plain(Addr::v4([127, 0, 0, 1]))).unwrap()
}

fn assert_arrive<'a>(host: &UdpSocket, payloads: impl IntoIterator<Item = &'a String>) {
    for payload in payloads {
        let mut bytes = [0; 2048];
        let len = host.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], payload.as_bytes());
    }
}

/// Sends payloads of these lengths to one output of a loopback with this MTU, and receives them.
fn send_lengths(mtu: u16, lengths: impl IntoIterator<Item = usize>) {
    let payloads = payloads(lengths);
    in_namespace(move || {
        let host = host();
        // The output is opened before, and so does not know this limit.
        let socket = socket_to_host();
        ip(&format!("link set lo mtu {mtu}"));
        send_through(socket, None, &places(&payloads));
        assert_arrive(&host, &payloads);
    });
}

/// Rising lengths make a batch of each datagram.
#[test]
fn a_lane_of_more_batches_than_a_chain_keeps_its_order() {
    send_lengths(65_535, 40..40 + 3 * CHAIN_SENDS);
}

/// The kernel refuses a batch of datagrams that its link cannot carry, and takes them one by one.
#[test]
fn a_lane_keeps_its_order_when_a_batch_inside_a_chain_is_refused() {
    send_lengths(600, [100, 200, 300, 700, 700, 700, 701, 800, 800, 90, 91, 92]);
}

#[test]
fn a_loose_chain_keeps_its_order() {
    // Rising, in pairs, and long batches among short ones.
    let lengths = (0..160).map(|n| match n % 40 {
        0..20 => 40 + n,
        20..30 => 90,
        _ => 240 - n,
    });
    let payloads = payloads(lengths);
    in_namespace(move || {
        let host = host();
        let mut rig = OneOutput::proven(socket_to_host());
        for sent in [160, 320] {
            rig.send(&places(&payloads));
            assert_eq!(rig.counters.slot(1)[stats::output::SENT], sent);
            assert_arrive(&host, &payloads);
        }
    });
}

/// The link has changed since the output has proved what it accepts.
#[test]
fn a_loose_chain_loses_a_refused_batch_rather_than_reorder() {
    let payloads = payloads([100, 200, 700, 700, 90, 91, 92]);
    in_namespace(move || {
        let host = host();
        let mut rig = OneOutput::proven(socket_to_host());
        ip("link set lo mtu 600");
        rig.send(&places(&payloads));
        let words = rig.counters.slot(1);
        let lost = words[stats::output::DROPPED + Loss::SendError as usize];
        assert_eq!((words[stats::output::SENT], lost), (4, 3));
        assert_arrive(&host, payloads[..2].iter().chain(&payloads[5..]));
        assert_eq!(rig.egress.limits[1].proven_segment(1), None);
        // What it has learned costs no further datagram.
        rig.send(&places(&payloads));
        assert_eq!(rig.counters.slot(1)[stats::output::SENT], 11);
        assert_arrive(&host, &payloads);
    });
}

/// Nothing overtakes a batch that is refused like all behind it.
#[test]
fn a_loose_chain_waits_for_its_output_to_be_reconnected() {
    let payloads = payloads((0..100).map(|n| 100 + n % 7));
    in_namespace(move || {
        let host = host();
        let spec = plain(Addr::v4([127, 0, 0, 1]));
        let socket = output::open(&spec).unwrap();
        let fd = socket.fd.try_clone().unwrap();
        let mut rig = OneOutput::proven(socket);
        crate::sys::sockaddr::disconnect(fd.as_fd()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| output::reconnect(fd.as_fd(), &spec).unwrap());
            rig.send(&places(&payloads));
        });
        let words = rig.counters.slot(1);
        let lost = words[stats::output::DROPPED + Loss::SendError as usize];
        assert_eq!((words[stats::output::WANTED], words[stats::output::SENT] + lost), (100, 100));
        // One wave may have been under way.
        assert!(lost < 100, "{lost} lost");
        let sent = usize::try_from(words[stats::output::SENT]).unwrap();
        assert_arrive(&host, &payloads[100 - sent..]);
    });
}

#[test]
fn a_window_limits_its_flows_and_clears_them() {
    let kept = kept(Ttl::Set(1), Choice::Keep);
    let mut window = window(&[(1, 9, 100)], Some(kept));
    let link = |window: &mut Window, number: usize| {
        let number = u32::try_from(number).unwrap();
        let source = Addr::v4(number.to_be_bytes());
        window.link(0, Some(&kept), &Datagram { source, ..datagram((0, 9, 100)) }, 0)
    };
    let taken = (1..2 * MAX_FLOWS).take_while(|&n| link(&mut window, n)).count();
    assert_eq!(taken, MAX_FLOWS - 1);
    waves(&mut window, Some(kept));
    assert!(link(&mut window, 2 * MAX_FLOWS));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_flow_keeps_its_order_and_a_batch_its_sender_and_ttl(
        sent in prop::collection::vec((0_u8..4, 8_u8..10, prop::sample::select(vec![0_u16, 50, 100])), 1..80),
        keeps_ttl: bool,
    ) {
        let kept = Some(kept(if keeps_ttl { Ttl::Keep } else { Ttl::Set(1) }, Choice::Keep));
        let batches = waves(&mut window(&sent, kept), kept).concat();
        for batch in &batches {
            let first = sent[usize::from(batch[0])];
            for &number in batch {
                let (source, ttl, _) = sent[usize::from(number)];
                prop_assert!(source == first.0 && (!keeps_ttl || ttl == first.1));
            }
        }
        let order = batches.concat();
        prop_assert_eq!(order.len(), sent.len());
        for source in 0..4 {
            let own: Vec<_> = order.iter().filter(|n| sent[usize::from(**n)].0 == source).collect();
            prop_assert!(own.is_sorted());
        }
    }
}
