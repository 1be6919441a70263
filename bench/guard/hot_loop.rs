//! An engine with a fixed amount of work, to be run where instructions are counted.
//!
//! usage: `hot_loop OUTPUTS DATAGRAMS steady|rising|mixed [flows|latency]`
//!
//! The frames lie in the input's socket and the order to stop is given before the engine starts,
//! so that it finds everything in its first turn and ends, whatever the machine does meanwhile.
//! The input is one end of a pair of Unix sockets, from which frames are read as from AF_PACKET,
//! the outputs are UDP on loopback: no rights are needed. Ends with an error unless every copy
//! was sent.

use std::env;
use std::error::Error;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, mpsc};

use _native::addr::Addr;
use _native::engine::buffers::SizeClass;
use _native::engine::ingress::Delivery;
use _native::engine::plan::{Plan, PlanOutput, PlanRule, Source};
use _native::engine::{self, EngineChannels, EngineCommand, FreshRing};
use _native::packet::LinkType;
use _native::rules::{InputKey, Table, TableRule};
use _native::stats::{self, Grant, Slot, SlotOwner, output};
use nix::sys::eventfd::{EfdFlags, EventFd};

const INTERFACE: u32 = 1;
const SOURCE: [u8; 4] = [10, 0, 0, 5];
const GROUP: [u8; 4] = [239, 1, 1, 1];
const PORT: u16 = 5001;
const BUFFER_BYTES: usize = 32 << 20;
/// The payload of the largest datagram; in a rising run each is one byte smaller than the next,
/// so that every copy is a send of its own.
const MOST_BYTES: usize = 1400;
/// A mixed run: this many flows, each to a group and by a rule of its own, follow each other with
/// sizes as market data has them.
const MIXED_FLOWS: u8 = 20;
const MIXED_BYTES: std::ops::Range<usize> = 60..401;
const MAX_SEGMENT: u16 = 1472;
/// Datagrams in one socket: io_uring takes this many without a pause (MULTISHOT_MAX_RETRY), and
/// no host's limits are in the way.
const IN_ONE_SOCKET: usize = 24;
/// Sockets, always as many, so that to open them costs the same with and without datagrams.
const SOCKETS: u64 = 8;
/// Slots: the interface, the group, the rules, then the outputs.
const FIRST_RULE: u32 = 2;
const FIRST_OUTPUT: u32 = FIRST_RULE + MIXED_FLOWS as u32;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let ([outputs, datagrams, sizes] | [outputs, datagrams, sizes, _]) = words.as_slice() else {
        return Err("usage: hot_loop OUTPUTS DATAGRAMS steady|rising|mixed [flows|latency]".into());
    };
    let (outputs, datagrams): (u32, usize) = (outputs.parse()?, datagrams.parse()?);
    let groups = groups(if sizes == "mixed" { MIXED_FLOWS } else { 1 });
    let traffic = traffic(datagrams, sizes, &groups);
    let (inputs, senders) = inputs()?;
    for (at, (group, length)) in traffic.into_iter().enumerate() {
        let sender = senders.get(at / IN_ONE_SOCKET).ok_or("too many datagrams")?;
        sender.send(&frame(group, length, at / groups.len())?)?;
    }
    let listener = UdpSocket::bind("127.0.0.1:0")?;
    let outputs: Vec<PlanOutput> =
        (0..outputs).map(|at| output_to(&listener, at)).collect::<Outcome<_>>()?;
    let slots: Vec<Slot> = outputs.iter().map(|output| output.slot).collect();

    let observed = words.get(3).map(String::as_str);
    let page = stats::create_page()?;
    let (commands, command_receiver) = mpsc::channel();
    let (retired_sender, _retired) = mpsc::channel();
    // Set before the engine starts.
    let wake = EventFd::from_value_and_flags(1, EfdFlags::EFD_CLOEXEC)?;
    commands.send(EngineCommand::Stop)?;
    let links = EngineChannels {
        commands: command_receiver,
        retired: retired_sender,
        wake: Arc::new(wake.into()),
        woken: Arc::default(),
        page: page.clone(),
        buffer_bytes: BUFFER_BYTES,
        verify_checksums: true,
        flows: observed == Some("flows"),
        latency: observed == Some("latency"),
    };
    engine::run(Box::new(plan(inputs, &groups, outputs)), FreshRing::new()?, links)?;
    for slot in slots {
        let words = stats::read(page.view(), slot).ok_or("the counters cannot be read")?;
        let sent = usize::try_from(words[output::SENT])?;
        if sent != datagrams {
            return Err(format!("sent {sent} of {datagrams}: {words:?}").into());
        }
    }
    Ok(())
}

/// The group and length of each datagram.
fn traffic(datagrams: usize, sizes: &str, groups: &[[u8; 4]]) -> Vec<([u8; 4], usize)> {
    match sizes {
        "rising" => (MOST_BYTES - datagrams..MOST_BYTES).map(|length| (GROUP, length)).collect(),
        "mixed" => {
            let mut random = 1_u32;
            let lengths = std::iter::repeat_with(|| {
                // Numerical Recipes, 7.1: the same datagrams in every run.
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                MIXED_BYTES.start + (random >> 16) as usize % MIXED_BYTES.len()
            });
            groups.iter().copied().cycle().zip(lengths).take(datagrams).collect()
        }
        _ => vec![(GROUP, MOST_BYTES); datagrams],
    }
}

/// The groups of so many flows.
fn groups(flows: u8) -> Vec<[u8; 4]> {
    let [a, b, c, first] = GROUP;
    (first..first + flows).map(|last| [a, b, c, last]).collect()
}

/// The inputs, and what sends to each.
fn inputs() -> Outcome<(Vec<Source>, Vec<UnixDatagram>)> {
    let (mut sources, mut senders) = (Vec::new(), Vec::new());
    for id in 0..SOCKETS {
        let (near, far) = UnixDatagram::pair()?;
        sources.push(Source {
            id,
            fd: Arc::new(OwnedFd::from(near).into()),
            kind: Delivery::Frame { vnet_hdr: true, link: LinkType::Ethernet },
            ring: None,
            class: SizeClass::Standard,
            interface: INTERFACE,
            slot: 0,
        });
        senders.push(far);
    }
    Ok((sources, senders))
}

/// What its owner does not read is dropped by the kernel, without a word to the sender.
fn output_to(listener: &UdpSocket, at: u32) -> Outcome<PlanOutput> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(listener.local_addr()?)?;
    Ok(PlanOutput {
        buckets: None,
        fd: Arc::new(OwnedFd::from(socket).into()),
        slot: Slot { index: FIRST_OUTPUT + at, generation: 1 },
        is_group: false,
        max_segment: MAX_SEGMENT,
        burst: None,
        carrier: None,
        rewrite: None,
        xdp: None,
    })
}

/// A rule for each group, all with the same outputs.
fn plan(sources: Vec<Source>, groups: &[[u8; 4]], outputs: Vec<PlanOutput>) -> Plan {
    let rules: Vec<TableRule> = groups
        .iter()
        .map(|&group| {
            let group = Addr::v4(group);
            let input = InputKey { interface: INTERFACE, vlan: 0, group, port: PORT };
            TableRule { input, group_bits: 0, last_port: PORT, sources: Box::default() }
        })
        .collect();
    let ends = u32::try_from(outputs.len()).unwrap_or(u32::MAX);
    let fixed = (0..FIRST_OUTPUT).map(|index| Slot { index, generation: 1 });
    let grant = |slot| Grant { slot, owner: SlotOwner::rule(""), is_continued: false };
    Plan {
        has_limits: false,
        has_merges: false,
        mergers: Vec::new(),
        sources: sources.into(),
        table: Table::compile(&rules),
        rules: (FIRST_RULE..)
            .take(rules.len())
            .map(|slot| PlanRule { slot, outputs: 0..ends, ..PlanRule::default() })
            .collect(),
        groups: vec![1; rules.len()].into(),
        grants: fixed.chain(outputs.iter().map(|output| output.slot)).map(grant).collect(),
        released: Vec::new(),
        outputs: [outputs.into()].into(),
        links: Box::default(),
        taps: None,
    }
}

/// What the kernel would deliver: a virtio header that vouches for the checksum, and a frame.
/// Its content is an RTP packet with this number.
fn frame(group: [u8; 4], length: usize, number: usize) -> Outcome<Vec<u8>> {
    const DATA_VALID: u8 = 2;
    let be = |bytes: usize| u16::try_from(bytes).map(u16::to_be_bytes);
    let mut ip = [&[0x45, 0][..], &be(28 + length)?, &[0, 1, 0x40, 0, 9, 17, 0, 0]].concat();
    ip.extend([SOURCE, group].concat());
    let words = ip.as_chunks().0.iter().map(|word| u32::from(u16::from_be_bytes(*word)));
    let sum: u32 = words.sum();
    let field = !u16::try_from(sum % 0xffff)?;
    ip[10..12].copy_from_slice(&field.to_be_bytes());
    let ethernet = [1, 0, 0x5e, group[1], group[2], group[3], 2, 0, 0, 0, 0, 1, 8, 0];
    let udp = [&[0x9c, 0x40][..], &PORT.to_be_bytes(), &be(8 + length)?, &[0, 0]].concat();
    let virtio = [DATA_VALID, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let rtp = [&[0x80, 33][..], &be(number)?, &[0; 8]].concat();
    let content = vec![0x5a; length - rtp.len()];
    Ok([&virtio[..], &ethernet, &ip, &udp, &rtp, &content].concat())
}
