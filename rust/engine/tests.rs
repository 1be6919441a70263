//! The sockets that an engine holds when its plans change.

use std::net::UdpSocket;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::*;
use crate::addr::Addr;
use crate::engine::buffers::SizeClass;
use crate::engine::ingress::Delivery;
use crate::engine::plan::Source;
use crate::stats;

/// An engine in a thread of its own, and the other ends of its channels.
struct Running {
    commands: Sender<EngineCommand>,
    retired: Receiver<Box<Plan>>,
    wake: Arc<OwnedFd>,
    thread: thread::JoinHandle<io::Result<()>>,
}

impl Running {
    fn start(first: Plan) -> Self {
        let (commands, orders) = mpsc::channel();
        let (retirer, retired) = mpsc::channel();
        let wake: Arc<OwnedFd> =
            Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap().into());
        let links = EngineChannels {
            commands: orders,
            retired: retirer,
            wake: wake.clone(),
            woken: Arc::default(),
            page: stats::create_page().unwrap(),
            buffer_bytes: 1 << 20,
            verify_checksums: true,
            flows: false,
            latency: false,
        };
        let thread = thread::spawn(move || run(Box::new(first), FreshRing::new()?, links));
        Self { commands, retired, wake, thread }
    }

    fn send(&self, command: EngineCommand) {
        self.commands.send(command).unwrap();
        nix::unistd::write(&self.wake, &1_u64.to_ne_bytes()).unwrap();
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
    let engine = Running::start(plan(&sources));
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
