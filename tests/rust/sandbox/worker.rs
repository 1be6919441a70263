//! What such a process can do and cannot, from inside.

use std::fs::{self, File};
use std::io::{self, Write, stdin, stdout};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use _native::addr::Addr;
use _native::relay::{Ingress, Relay, Settings};
use _native::sandbox::{
    Capability, FileAccess, Role, apply_landlock, apply_seccomp, drop_privileges,
    limit_capabilities,
};
use _native::sockets::InterfaceRef;
use _native::sockets::local::LocalProvider;
use _native::sockets::packet::{self, SpareSockets};
use _native::sockets::provider::{SocketProvider, XdpLinkHandle, XdpLinkRequest};
use _native::spec::{InputSpec, Join, OutputSpec, RuleSpec};
use _native::stats::sequences::SequenceSpec;
use _native::sys::ring::{Ring, RingKind};
use _native::sys::xdp_socket::{self, XdpSender};
use _native::sys::{sockaddr, sockopt};
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{Pid, Uid, dup2_stdin, dup3, execv, geteuid, getppid, setresuid, write};
use socket2::SockRef;

use crate::checks::NOBODY;

const FIRST_FOREIGN: u16 = 32;
const PATIENCE: Duration = Duration::from_secs(10);
const GROUP: [u8; 4] = [239, 1, 1, 1];
const PORT: u16 = 5001;
const DATAGRAMS: u64 = 100;

pub(crate) fn play(role: &str, arguments: &[String]) {
    match (role, arguments) {
        ("worker", [ingress, sibling]) => work(ingress, sibling.parse().unwrap()),
        ("culprit", [how]) => offend(how),
        ("supervisor", []) => supervise(),
        ("orphan", []) => {
            confine_at_once();
            tell("confined");
            hear();
        }
        ("plain", []) => {
            let user = Uid::from_raw(NOBODY);
            if geteuid().is_root() {
                setresuid(user, user, user).unwrap();
            }
            drop_privileges(None, Some(getppid().as_raw())).unwrap();
            tell("left");
            hear();
        }
        ("hidden", [directory]) => hide(Path::new(directory)),
        ("sleeper", []) => drop(hear()),
        ("keeper", []) => keep(),
        ("refusals", []) => refuse(),
        _ => panic!("there is no role {role} {arguments:?}"),
    }
}

fn tell(line: &str) {
    writeln!(stdout(), "{line}").unwrap();
}

fn hear() -> String {
    let mut line = String::new();
    stdin().read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Nobody, where that can be chosen.
fn user() -> Option<(u32, u32)> {
    geteuid().is_root().then_some((NOBODY, NOBODY))
}

fn confine_at_once() {
    drop_privileges(user(), Some(getppid().as_raw())).unwrap();
    apply_landlock(&FileAccess::default()).unwrap();
    apply_seccomp(Role::Worker {
        first_foreign_fd: FIRST_FOREIGN,
        channel_fd: 9,
        uses_maps: false,
        ring: RingKind::Uring,
    })
    .unwrap();
}

fn offend(how: &str) {
    confine_at_once();
    tell("confined");
    match how {
        "program" => drop(execv(c"/bin/true", &[c"true"])),
        "namespace" => drop(unshare(CloneFlags::CLONE_NEWNET)),
        "memory" => {
            let (mut here, there) = ([0; 8], nix::sys::uio::RemoteIoVec { base: 4096, len: 8 });
            let mut here = [io::IoSliceMut::new(&mut here)];
            nix::sys::uio::process_vm_readv(getppid(), &mut here, &[there]).ok();
        }
        "ring" => drop(Ring::new()),
        _ => panic!("there is no offence {how}"),
    }
}

fn supervise() {
    // Who dies signals with the rights it has then: the child is another user's.
    limit_capabilities(&[
        Capability::CAP_SETUID,
        Capability::CAP_SETGID,
        Capability::CAP_SETPCAP,
        Capability::CAP_KILL,
    ])
    .unwrap();
    let program = std::env::current_exe().unwrap();
    Command::new(program).arg("role:orphan").spawn().unwrap().wait().unwrap();
}

fn keep() {
    limit_capabilities(&[Capability::CAP_NET_RAW, Capability::CAP_KILL]).unwrap();
    tell("shrunk");
    hear();
    socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
    tell("opened");
}

/// What landlock does by itself, before any call is filtered.
fn hide(directory: &Path) {
    drop_privileges(user(), Some(getppid().as_raw())).unwrap();
    let [readable, removable] = ["readable", "removable"].map(|name| [directory.join(name)]);
    let reach = FileAccess { readable: &readable, removable: &removable, resolves: false };
    let hidden = apply_landlock(&reach).unwrap();
    tell(&hidden);
    if hidden != crate::checks::ALL_HIDDEN {
        return;
    }
    assert_eq!(fs::read_to_string(&readable[0]).unwrap(), "text");
    fs::remove_file(&removable[0]).unwrap();
    for refused in [
        File::open("/proc/self/status"),
        File::open("/dev/null"),
        File::open(directory),
        File::create(&readable[0]),
        File::create(directory.join("new")),
    ] {
        assert_refused(refused, "a file");
    }
    assert_refused(fs::create_dir(directory.join("new")), "making a directory");
    assert_refused(TcpListener::bind("127.0.0.1:0"), "a TCP port");
    assert_refused(TcpStream::connect("127.0.0.1:53"), "a TCP connection");
    assert_refused(kill(getppid(), None), "signalling");
    tell("done");
}

fn refuse() {
    let me = std::process::id().cast_signed();
    let text = drop_privileges(None, Some(me)).unwrap_err().to_string();
    assert_eq!(text, format!("the supervisor (process {me}) is not the parent any more"));
    if !geteuid().is_root() {
        let text = drop_privileges(Some((0, 0)), Some(getppid().as_raw())).unwrap_err().to_string();
        assert!(text.starts_with("cannot become the user 0 and the group 0"), "{text}");
    }
    let other = thread::spawn(|| {
        for text in [drop_privileges(None, Some(1)), limit_capabilities(&[])]
            .map(|result| result.unwrap_err().to_string())
        {
            assert!(text.contains("once a process has several threads"), "{text}");
        }
    });
    other.join().unwrap();
    tell("done");
}

/// A relay with its sockets, traffic for it, and a packet socket that came from elsewhere.
struct Bench {
    relay: Relay,
    sender: UdpSocket,
    receiver: UdpSocket,
    foreign: OwnedFd,
    link: XdpLinkHandle,
    channel: OwnedFd,
    other: OwnedFd,
}

fn work(ingress: &str, sibling: i32) {
    let mut bench = Bench::new(ingress);
    drop_privileges(user(), Some(getppid().as_raw())).unwrap();
    apply_landlock(&FileAccess::default()).unwrap();
    bench.relay.start().unwrap();
    let channel_fd = u16::try_from(bench.channel.as_raw_fd()).unwrap();
    apply_seccomp(Role::Worker {
        first_foreign_fd: FIRST_FOREIGN,
        channel_fd,
        uses_maps: false,
        ring: RingKind::Uring,
    })
    .unwrap();
    tell("confined");
    loop {
        match hear().as_str() {
            "try" => {
                bench.try_everything(sibling);
                tell("refused everything");
            }
            "relay" => {
                bench.send_all();
                tell("relayed");
                bench.await_trouble(true);
                tell("waits");
                // It then joins again, for which a worker of a daemon has the broker.
                bench.await_trouble(false);
                tell("goes on");
            }
            _ => break,
        }
    }
    bench.relay.stop();
    let report = bench.relay.report();
    let output = &report.rules[0].outputs[0];
    assert_eq!((output.wanted, output.sent, output.pending), (DATAGRAMS, DATAGRAMS, 0));
    tell("balanced");
    // Nothing is closed one by one: it may not be.
    std::process::exit(0);
}

impl Bench {
    fn new(ingress: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for command in [
            "link set lo up",
            "link add near0 type veth peer name far0",
            "address add 10.9.0.1/24 dev near0",
            "address add 10.9.0.2/24 dev far0",
            "link set near0 up",
            "link set far0 up",
        ] {
            assert!(Command::new("ip").args(command.split(' ')).status().unwrap().success());
        }
        // Both ends of the cable are this host's.
        for (name, value) in
            [("all/rp_filter", "0"), ("far0/rp_filter", "0"), ("far0/accept_local", "1")]
        {
            fs::write(format!("/proc/sys/net/ipv4/conf/{name}"), value).unwrap();
        }
        let sender = UdpSocket::bind("10.9.0.1:0").unwrap();
        SockRef::from(&sender).set_multicast_if_v4(&Ipv4Addr::new(10, 9, 0, 1)).unwrap();
        sender.connect((Ipv4Addr::from(GROUP), PORT)).unwrap();
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let [channel, other] = [(); 2].map(|()| File::open("/dev/null").unwrap().into());
        let (foreign, link) = (foreign(), link());
        let kind = if ingress == "packet" { Ingress::Packet } else { Ingress::Udp };
        let relay = Relay::new(Settings::new(kind, 4 << 20)).unwrap();
        let port = receiver.local_addr().unwrap().port();
        relay.change(&[], &[rule(port)]).unwrap();
        Self { relay, sender, receiver, foreign, link, channel, other }
    }

    /// Sends and receives one after the other.
    fn send_all(&self) {
        let mut bytes = [0; 64];
        for number in 0..DATAGRAMS {
            self.sender.send(&number.to_ne_bytes()).unwrap();
            let len = self.receiver.recv(&mut bytes).unwrap();
            assert_eq!(bytes[..len], number.to_ne_bytes());
        }
    }

    fn await_trouble(&self, is_there: bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.relay.report().rules[0].trouble.is_some() != is_there {
            assert!(Instant::now() < deadline, "the relay does not follow");
            thread::yield_now();
        }
    }

    /// Frames leave by a link that was handed over; nothing else does, and it stays as it is.
    fn use_link(&self) {
        let XdpLinkHandle { socket, umem, shape } = &self.link;
        let socket = socket.as_fd();
        let mut sender = XdpSender::map(socket, umem.as_fd(), *shape).unwrap();
        for number in 0..DATAGRAMS {
            let write = |place: &mut [u8]| {
                place.get_mut(..60)?.fill(0xff);
                Some(60)
            };
            assert!(sender.push(number, write));
        }
        let mut taken = 0;
        sender.flush(socket, |_, _| taken += 1).unwrap();
        assert_eq!(taken, DATAGRAMS);
        assert_refused(SockRef::from(&socket).send(&[7; 60]), "sending by a link");
        assert_refused(write(socket, &[7; 60]), "writing to a link");
        let one = 64_u32;
        let ring = sockopt::set(socket, libc::SOL_XDP, libc::XDP_RX_RING, one);
        assert_refused(ring, "receiving by a link");
        let bound = sockopt::set(socket, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, 1_u32);
        assert_refused(bound, "binding a link");
        assert_refused(sockaddr::bind_link_layer(socket, 1), "binding a link");
        assert_refused(xdp_socket::open(1, 0, *shape), "another link");
    }

    /// What an attacker would, with the rights that are left.
    fn try_everything(&mut self, sibling: i32) {
        self.use_link();
        let foreign = self.foreign.as_fd();
        self.open_sockets();
        reconfigure(foreign);
        assert_refused(SockRef::from(&foreign).send(&[7; 60]), "sending by a packet socket");
        assert_refused(write(foreign, &[7; 60]), "writing to a packet socket");
        for process in [getppid(), Pid::from_raw(sibling), Pid::from_raw(-1)] {
            for signal in [None, Some(Signal::SIGKILL)] {
                assert_refused(kill(process, signal), "signalling");
            }
        }
        assert_refused(File::open("/etc/hostname"), "opening a file");
        assert_refused(File::open("/proc/self/mem"), "opening its own memory");
        assert_refused(fs::write("/tmp/mcr-confine-test", b""), "making a file");
        assert_refused(Command::new("/bin/true").spawn(), "starting a program");
        assert_refused(thread::Builder::new().spawn(|| {}), "starting a thread");
        assert_refused(foreign.try_clone_to_owned(), "a second descriptor");
        assert_refused(dup2_stdin(foreign), "a low number");
        self.take_another_channel();
    }

    fn open_sockets(&self) {
        for (family, kind) in [
            (AddressFamily::Packet, SockType::Raw),
            (AddressFamily::Inet, SockType::Datagram),
            (AddressFamily::Inet6, SockType::Stream),
            (AddressFamily::Unix, SockType::Stream),
            (AddressFamily::Netlink, SockType::Raw),
        ] {
            let opened = socket(family, kind, SockFlag::empty(), None);
            assert_refused(opened, "opening a socket");
        }
        let place = SocketAddr::from(([10, 9, 0, 1], 7)).into();
        assert_refused(SockRef::from(&self.sender).bind(&place), "binding");
        assert_refused(self.sender.connect("127.0.0.1:7"), "connecting");
    }

    /// The one number that may be given anew. It can be had for a packet socket, which then can
    /// be written to; nothing leaves by it all the same.
    fn take_another_channel(&mut self) {
        dup3(&self.foreign, &mut self.channel, OFlag::O_CLOEXEC).unwrap();
        assert_eq!(write(&self.channel, &[7; 60]), Ok(0));
        assert_refused(dup3(&self.foreign, &mut self.other, OFlag::O_CLOEXEC), "another number");
    }
}

/// What could turn the socket into another one.
fn reconfigure(foreign: BorrowedFd<'_>) {
    let index = 1;
    assert_refused(sockaddr::bind_link_layer(foreign, index), "binding elsewhere");
    let all = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: u32::MAX }];
    assert_refused(sockopt::attach_filter(foreign, &all), "another filter");
    let promiscuous = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: u16::try_from(libc::PACKET_MR_PROMISC).unwrap(),
        mr_alen: 0,
        mr_address: [0; 8],
    };
    let call = libc::PACKET_ADD_MEMBERSHIP;
    let made = sockopt::set(foreign, libc::SOL_PACKET, call, promiscuous);
    assert_refused(made, "taking all frames");
    let none =
        libc::tpacket_req { tp_block_size: 0, tp_block_nr: 0, tp_frame_size: 0, tp_frame_nr: 0 };
    let freed = sockopt::set(foreign, libc::SOL_PACKET, libc::PACKET_TX_RING, none);
    assert_refused(freed, "giving the sending back");
}

fn assert_refused<T, E: Into<io::Error>>(result: Result<T, E>, what: &str) {
    let Err(error) = result.map_err(Into::into) else { panic!("{what} is possible") };
    let number = error.raw_os_error();
    assert!(matches!(number, Some(libc::EPERM | libc::EACCES)), "{what}: {error}");
}

/// A packet socket whose number is beyond those of the process's own.
fn foreign() -> OwnedFd {
    let below: Vec<_> = (0..FIRST_FOREIGN).map(|_| File::open("/dev/null").unwrap()).collect();
    let index = nix::net::if_::if_nametoindex("near0").unwrap();
    let near = InterfaceRef { index, name: "near0" };
    let mut sockets = packet::open_group(&near, 1, None, &mut SpareSockets::default()).unwrap();
    let socket = sockets.remove(0);
    drop(below);
    socket.fd
}

/// An XDP link, of descriptors like that.
fn link() -> XdpLinkHandle {
    let below: Vec<_> = (0..FIRST_FOREIGN).map(|_| File::open("/dev/null").unwrap()).collect();
    let index = nix::net::if_::if_nametoindex("far0").unwrap();
    let interface = InterfaceRef { index, name: "far0" };
    let request = XdpLinkRequest { interface, queue: 0 };
    let link = LocalProvider::new().xdp_link(&request).unwrap();
    drop(below);
    link
}

fn rule(port: u16) -> RuleSpec {
    let input = InputSpec {
        group: Addr::v4(GROUP),
        group_bits: 0,
        broadcast: false,
        everywhere: false,
        port: PORT,
        last_port: PORT,
        join: Join::Each,
        interface: "far0".to_owned(),
        ifindex: nix::net::if_::if_nametoindex("far0").unwrap(),
        sources: Box::default(),
        vlan: 0,
        sequence: SequenceSpec::Auto,
    };
    let output = OutputSpec::to(Addr::v4([127, 0, 0, 1]), port);
    RuleSpec {
        id: "a".to_owned(),
        enabled: true,
        input,
        outputs: vec![output],
        merge: None,
        class: None,
    }
}
