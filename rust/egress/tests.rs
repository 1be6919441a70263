//! Batches of what real datagrams left in a window: by flow, in order, as long as can be.

use std::net::UdpSocket;
use std::os::fd::AsFd;

use proptest::prelude::*;

use super::*;
use crate::addr::Addr;
use crate::open::output::{Choice, OutputSpec, Ttl};
use crate::packet::{Datagram, Span};
use crate::rewrite::Kept;
use crate::sys::buffers::Buffers;
use crate::sys::ring::{Event, ReceiveLayout};
use crate::window::Entry;

const GROUP: Addr = Addr::v4([239, 1, 1, 1]);

/// What the outputs of a rule keep, as the plan has it.
fn kept(ttl: Ttl, source: Choice<Addr>) -> Kept {
    let spec = OutputSpec {
        address: GROUP,
        address_bits: 0,
        port: 6001,
        last_port: 6001,
        ifindex: 1,
        interface: "lo".to_owned(),
        ttl,
        dscp: Some(0),
        source,
        source_port: Choice::Kernel,
        multicast_loop: true,
        priority: None,
    };
    let rewrite = Rewrite::of(&spec, Addr::v4([127, 0, 0, 1]), GROUP, 5001);
    Kept::by(rewrite.iter()).unwrap()
}

/// A datagram of a flow: who sent it, with which TTL, and how many bytes.
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

/// A window with one rule that took these datagrams; their buffers are real.
fn window(sent: &[Sent], kept: Option<Kept>) -> Window {
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    let far = UdpSocket::bind("127.0.0.1:0").unwrap();
    far.connect(near.local_addr().unwrap()).unwrap();
    let mut ring = Ring::new().unwrap();
    let pool = ring.add_pool(Buffers::new(2048, 256).unwrap()).unwrap();
    ring.receive(near.as_fd(), pool, ReceiveLayout::Datagram, 0).unwrap();
    let mut window = Window::new();
    window.resize(sent.len(), 1);
    for &sent in sent {
        far.send(b".").unwrap();
        ring.wait().unwrap();
        let Some(Event::Received { buffer, .. }) = ring.next_event() else { panic!("nothing") };
        let (datagram, (_, ttl, len)) = (datagram(sent), sent);
        let (len, segment) = (u32::from(len), u32::from(len));
        let entry = Entry { buffer, start: 0, len, segment, count: 1, ttl, dscp: 0 };
        let entry = window.push(entry);
        assert!(window.link(0, kept.map(|kept| kept.flow(&datagram)), entry));
    }
    window
}

/// The batches of each wave, as numbers of datagrams in the window.
fn waves(window: &mut Window, kept: Option<Kept>) -> Vec<Vec<Vec<u16>>> {
    let mut waves = Vec::new();
    while !window.active().is_empty() {
        let mut batches = Batches::new();
        for position in 0..window.active().len() {
            let lane = window.active()[position];
            assert_eq!(window.rule(lane), 0);
            batches.take(window, lane, kept).unwrap();
        }
        window.retire_finished();
        waves.push(batches.all().map(<[u16]>::to_vec).collect());
    }
    window.forget_flows();
    waves
}

#[test]
fn senders_that_interleave_make_one_batch_each() {
    let sent: Vec<Sent> = (0..60).map(|n| (n % 20, 9, 1400)).collect();
    let kept = Some(kept(Ttl::Set(1), Choice::Keep));
    let waves = waves(&mut window(&sent, kept), kept);
    let own = |source: u16| vec![source, source + 20, source + 40];
    assert_eq!(waves, [(0..20).map(own).collect::<Vec<_>>()]);
    // A rule that keeps nothing has one lane for all of them.
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
fn a_window_takes_so_many_flows_and_forgets_them() {
    let kept = kept(Ttl::Set(1), Choice::Keep);
    let mut window = window(&[(1, 9, 100)], Some(kept));
    let flow = |number: usize| {
        let number = u32::try_from(number).unwrap();
        let source = Addr::v4(number.to_be_bytes());
        Some(kept.flow(&Datagram { source, ..datagram((0, 9, 100)) }))
    };
    let taken = (1..2 * MAX_FLOWS).take_while(|&n| window.link(0, flow(n), 0)).count();
    assert_eq!(taken, MAX_FLOWS - 1);
    waves(&mut window, Some(kept));
    assert!(window.link(0, flow(2 * MAX_FLOWS), 0));
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
