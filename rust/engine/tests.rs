//! The sockets that an engine holds when its plans change.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::*;
use crate::addr::Addr;
use crate::engine::buffers::SizeClass;
use crate::engine::ingress::Delivery;
use crate::engine::plan::Source;
use crate::sockets::socket::drops;
use crate::stats;

/// An engine in a thread of its own, and the other ends of its channels.
struct Running {
    commands: Sender<EngineCommand>,
    retired: Receiver<Box<Plan>>,
    wake: Arc<OwnedFd>,
    thread: thread::JoinHandle<io::Result<()>>,
    page: Arc<SharedWords>,
}

impl Running {
    fn start(first: Plan, ring: FreshRing) -> Self {
        let (commands, orders) = mpsc::channel();
        let (retirer, retired) = mpsc::channel();
        let wake: Arc<OwnedFd> =
            Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap().into());
        let page = stats::create_page().unwrap();
        let links = EngineChannels {
            commands: orders,
            retired: retirer,
            wake: wake.clone(),
            woken: Arc::default(),
            page: page.clone(),
            buffer_bytes: 1 << 20,
            verify_checksums: true,
            flows: false,
            latency: false,
        };
        let thread = thread::spawn(move || run(Box::new(first), ring, links));
        Self { commands, retired, wake, thread, page }
    }

    fn send(&self, command: EngineCommand) {
        self.commands.send(command).unwrap();
        nix::unistd::write(&self.wake, &1_u64.to_ne_bytes()).unwrap();
    }

    /// Waits for the end; returns how many datagrams it has received.
    fn end(self) -> io::Result<u64> {
        self.thread.join().unwrap().map(|()| Self::received(&self.page))
    }

    /// How many datagrams are counted in the first slot of a page.
    fn received(page: &Arc<SharedWords>) -> u64 {
        page.words()[stats::SLOT_WORDS + stats::interface::RECEIVED].load(Ordering::Acquire)
    }

    fn retired(&self) -> Box<Plan> {
        self.retired.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

fn source(id: u64) -> Source {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    Source {
        id,
        fd: Arc::new(OwnedFd::from(socket).into()),
        kind: Delivery::Datagram { group: Addr::v4([127, 0, 0, 1]), port },
        ring: None,
        class: SizeClass::Super,
        interface: 1,
        slot: 0,
    }
}

fn plan(sources: &[Source]) -> Plan {
    Plan { sources: sources.into(), ..Plan::empty() }
}

/// Closing a packet socket takes the kernel milliseconds: the thread that frees the plan must do
/// it, not the engine, and then it must be done.
#[test]
fn a_retired_plan_is_the_last_to_hold_its_sockets() {
    let sources: Vec<Source> = (1..=400).map(source).collect();
    let engine = Running::start(plan(&sources), FreshRing::new().unwrap());
    engine.retired();
    for left in [300, 1, 0] {
        engine.send(EngineCommand::Adopt(Box::new(plan(&sources[..left]))));
        let gone = engine.retired();
        let held = |source: &Source| Arc::strong_count(&source.fd) > 2;
        assert_eq!(sources[left..].iter().filter(|source| held(source)).count(), 0);
        drop(gone);
    }
    engine.send(EngineCommand::Stop);
    engine.thread.join().unwrap().unwrap();
}

/// What an engine takes out of a socket it relays and counts, also at its end; the rest waits in
/// the socket for a successor. Only what the full socket drops is missing.
#[test]
fn nothing_is_lost_between_an_engine_and_its_successor() {
    is_continued(|| FreshRing::new().unwrap());
    is_continued(FreshRing::by_poll);
}

fn is_continued(ring: impl Fn() -> FreshRing) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = socket.local_addr().unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let senders: Vec<thread::JoinHandle<u64>> = (0..3)
        .map(|_| {
            let (over, sender) = (is_over.clone(), UdpSocket::bind("127.0.0.1:0").unwrap());
            sender.connect(to).unwrap();
            thread::spawn(move || {
                let mut sent = 0;
                while !over.load(Ordering::Relaxed) {
                    sent += u64::from(sender.send(b"datagram").is_ok());
                }
                sent
            })
        })
        .collect();
    let mut source = source(1);
    let fd: OwnedFd = socket.into();
    source.fd = Arc::new(fd.into());
    let mut received = 0;
    for _ in 0..50 {
        let engine = Running::start(plan(std::slice::from_ref(&source)), ring());
        engine.retired();
        thread::sleep(Duration::from_millis(5));
        engine.send(EngineCommand::Stop);
        received += engine.end().expect("the engine ends well");
    }
    is_over.store(true, Ordering::Relaxed);
    let sent: u64 = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
    let expected = sent - drops(source.fd.as_fd()).unwrap();
    let engine = Running::start(plan(std::slice::from_ref(&source)), ring());
    engine.retired();
    let mut last = Running::received(&engine.page);
    while received + last < expected {
        thread::sleep(Duration::from_millis(20));
        let now = Running::received(&engine.page);
        assert!(now > last, "{} of {expected} were received", received + now);
        last = now;
    }
    engine.send(EngineCommand::Stop);
    assert_eq!(received + engine.end().unwrap(), expected);
}
