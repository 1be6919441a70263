//! Nothing on the path of a datagram allocates: a whole relay on loopback, its memory watched.
//!
//! The only test of this program, because the allocator is the program's.

#![allow(unsafe_code, reason = "an allocator is unsafe by its trait; this one only counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use _native::addr::Addr;
use _native::relay::{Ingress, Relay, Settings};
use _native::sockets::interfaces::{self, HostInterface};
use _native::spec::{InputSpec, Join, OutputSpec, RuleSpec, Ttl};
use _native::stats::sequences::SequenceSpec;

const HOST: Addr = Addr::v4([127, 0, 0, 1]);
const PATIENCE: Duration = Duration::from_secs(20);

#[global_allocator]
static MEMORY: Counting = Counting;
/// Allocations of the engines' threads; the one that follows the interfaces is not hot.
static BY_ENGINES: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_engine() {
            BY_ENGINES.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the trait's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Whether the calling thread is an engine, by the name it has in the kernel.
fn is_engine() -> bool {
    let mut name = [0_u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, which `name` has, and allocates nothing.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.starts_with(b"mcr-engine")
}

#[test]
fn an_engine_allocates_nothing_for_datagrams() {
    let outputs = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let ports = outputs.each_ref().map(|socket| socket.local_addr().unwrap().port());
    // Free again with the end of the statement.
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut all = interfaces::list().unwrap().into_iter();
    let loopback = all.find(|interface| interface.loopback).unwrap();
    let settings = Settings::new(Ingress::Udp, 1 << 20);
    let relay = Relay::new(settings).unwrap();
    relay.change(&[], &[rule(port, loopback, &ports)]).unwrap();
    relay.start().unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(("127.0.0.1", port)).unwrap();

    let before = BY_ENGINES.load(Ordering::Relaxed);
    assert!(before > 0, "the engine's preparations are not seen");
    let mut sent = 0;
    for round in 0..100_u16 {
        for number in 0..100_u16 {
            // Sizes that change, empty datagrams among them, so that batches are of all kinds.
            let size = usize::from((round * 7 + number / 5 * 31) % 1400);
            sender.send(&[0x5a; 1400][..size]).unwrap();
        }
        sent += 100;
        await_sent(&relay, sent);
    }
    assert_eq!(BY_ENGINES.load(Ordering::Relaxed) - before, 0);
    relay.stop();
    for output in &relay.report().rules[0].outputs {
        let lost: u64 = output.dropped.iter().map(|(_, copies)| copies).sum();
        assert_eq!((output.wanted, output.sent + lost, output.pending), (sent, sent, 0));
    }
}

fn rule(port: u16, loopback: HostInterface, outputs: &[u16]) -> RuleSpec {
    let input = InputSpec {
        group: HOST,
        group_bits: 0,
        broadcast: false,
        everywhere: false,
        port,
        last_port: port,
        join: Join::Each,
        interface: loopback.name,
        ifindex: loopback.index,
        sources: Box::default(),
        vlan: 0,
        sequence: SequenceSpec::Auto,
    };
    // The last one takes the TTL over, and so has lanes and envelopes.
    let output = |&port: &u16| OutputSpec {
        ttl: if Some(&port) == outputs.last() { Ttl::Keep } else { Ttl::Set(1) },
        ..OutputSpec::to(HOST, port)
    };
    let id = port.to_string();
    RuleSpec {
        id,
        enabled: true,
        input,
        merge: None,
        class: None,
        outputs: outputs.iter().map(output).collect(),
    }
}

/// Waits until every output is done with so many copies.
fn await_sent(relay: &Relay, copies: u64) {
    let deadline = Instant::now() + PATIENCE;
    while relay.report().rules[0].outputs.iter().any(|output| output.wanted < copies) {
        assert!(Instant::now() < deadline, "the relay does not get there");
        std::thread::yield_now();
    }
}
