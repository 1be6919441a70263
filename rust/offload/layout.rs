//! Keys and values of the maps in the bytes of `bpf/layout.h`. The BPF library compares their
//! lengths with those of the object when it opens a map.

use super::rule::{Endpoint, KernelOutput, MAX_LINKS, Observed, Volume};
use crate::addr::Addr;
use crate::spec::{Choice, Ttl};

/// `PASSES` and `REFUSALS`.
pub(super) const PASSES: u32 = 9;
pub(super) const REFUSALS: u32 = 3;

/// `struct endpoint`.
pub(super) type EndpointKey = [u8; 24];
/// `struct sender`.
pub(super) type SenderKey = [u8; 40];
/// `struct entry`.
pub(super) type EntryBytes = [u8; 16];
/// `struct sender_entry`.
pub(super) type SenderBytes = [u8; 8];
/// `struct slot`.
pub(super) type SlotBytes = [u8; 120];
/// `struct output`.
pub(super) type OutputBytes = [u8; 52];
/// `struct tally`.
pub(super) type TallyBytes = [u8; TALLY_BYTES];
pub(super) const TALLY_BYTES: usize = 16;
/// `struct taken`.
pub(super) type TakenBytes = [u8; TAKEN_BYTES];
pub(super) const TAKEN_BYTES: usize = 64;
/// `struct control`.
pub(super) type ControlBytes = [u8; 8];

/// The flags of `struct output`.
const KEEP_SOURCE: u8 = 1;
const KEEP_SOURCE_PORT: u8 = 2;
const KEEP_TTL: u8 = 4;
const DECREMENT_TTL: u8 = 8;
const KEEP_DSCP: u8 = 16;

/// `enum mode`: how a slot's frames are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Relayed.
    Relay,
    /// Passed and counted until the engine has finished that many
    /// ([`open_gate`](super::KernelTable::open_gate)).
    Gate,
    /// Relayed until the copies of all frames handed to another CPU have left, and passed from then
    /// on.
    Drain,
    /// Taken and lost, as what the queue of another CPU does not accept.
    Shed,
}

/// `struct link`: consecutive outputs on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceOutputs {
    pub(super) ifindex: u32,
    /// The position of the first in the map of outputs.
    pub(super) first: u32,
    pub(super) count: u16,
    /// The number of the device.
    pub(super) device: u16,
}

/// `struct slot`: a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RuleSlot {
    pub(super) generation: u16,
    pub(super) max_bytes: u16,
    pub(super) min_ttl: u8,
    pub(super) mode: Mode,
    pub(super) fan: u32,
    /// The CPU that copies; without one, that which receives.
    pub(super) cpu: Option<u32>,
    /// The count that opens a gate, or the number of a drain.
    pub(super) gate: u64,
    pub(super) links: Vec<DeviceOutputs>,
}

/// Fills a fixed number of bytes from the start; the rest stays zero.
struct FieldWriter<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> FieldWriter<N> {
    fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    fn put<const M: usize>(mut self, field: [u8; M]) -> Self {
        self.bytes[self.len..self.len + M].copy_from_slice(&field);
        self.len += M;
        self
    }
}

/// The key of an endpoint.
pub(super) fn endpoint(endpoint: &Endpoint) -> EndpointKey {
    FieldWriter::new()
        .put(endpoint.ifindex.to_ne_bytes())
        .put(endpoint.port.to_be_bytes())
        .put(endpoint.vlan.to_ne_bytes())
        .put(address(endpoint.group))
        .bytes
}

/// The key of one sender at an endpoint.
pub(super) fn sender(at: &Endpoint, source: Addr) -> SenderKey {
    FieldWriter::new().put(endpoint(at)).put(address(source)).bytes
}

/// The entry of an endpoint, by phase.
pub(super) fn entry(slots: [Option<u32>; 2], has_senders: [bool; 2]) -> EntryBytes {
    FieldWriter::new().put(sender_entry(slots)).put(words(has_senders.map(u32::from))).bytes
}

/// The entry of a sender, by phase.
pub(super) fn sender_entry(slots: [Option<u32>; 2]) -> SenderBytes {
    words(slots.map(|slot| slot.map_or(0, |slot| slot + 1)))
}

/// The state of all rules.
pub(super) fn control(phase: usize, on: bool) -> ControlBytes {
    words([u32::from(phase == 1), u32::from(on)])
}

/// A rule.
pub(super) fn slot(slot: &RuleSlot) -> SlotBytes {
    let links = u16::try_from(slot.links.len()).unwrap_or_default();
    let mode = match slot.mode {
        Mode::Relay => 0,
        Mode::Gate => 1,
        Mode::Drain => 2,
        Mode::Shed => 3,
    };
    let head = FieldWriter::new()
        .put(slot.generation.to_ne_bytes())
        .put(links.to_ne_bytes())
        .put(slot.max_bytes.to_ne_bytes())
        .put([slot.min_ttl, mode])
        .put(slot.fan.to_ne_bytes())
        .put(slot.cpu.map_or(0, |cpu| cpu + 1).to_ne_bytes())
        .put(slot.gate.to_ne_bytes());
    let all = slot.links.iter().take(MAX_LINKS).fold(head, |head, link| {
        head.put(link.ifindex.to_ne_bytes())
            .put(link.first.to_ne_bytes())
            .put(link.count.to_ne_bytes())
            .put(link.device.to_ne_bytes())
    });
    all.bytes
}

/// An output.
pub(super) fn output(output: &KernelOutput) -> OutputBytes {
    let (source, source_flag) = kept(output.source, Addr::from_bits(0), KEEP_SOURCE);
    let (source_port, port_flag) = kept(output.source_port, 0, KEEP_SOURCE_PORT);
    let (ttl, ttl_flag) = match output.ttl {
        Ttl::Keep => (0, KEEP_TTL),
        Ttl::Decrement => (0, DECREMENT_TTL),
        Ttl::Set(ttl) => (ttl, 0),
    };
    let (class, dscp_flag) = output.dscp.map_or((0, KEEP_DSCP), |dscp| (dscp << 2, 0));
    FieldWriter::new()
        .put(address(source))
        .put(address(output.address))
        .put(source_port.to_be_bytes())
        .put(output.port.to_be_bytes())
        .put(output.destination_mac)
        .put(output.source_mac)
        .put([ttl, class, source_flag | port_flag | ttl_flag | dscp_flag, 0])
        .bytes
}

/// The sum of a tally over the CPUs.
pub(super) fn volume<'a>(cpus: impl Iterator<Item = &'a TallyBytes>) -> Volume {
    cpus.fold(Volume::default(), |sum, bytes| {
        let (words, _) = bytes.as_chunks::<8>();
        let [datagrams, bytes] = [words[0], words[1]].map(u64::from_ne_bytes);
        Volume { datagrams: sum.datagrams + datagrams, bytes: sum.bytes + bytes }
    })
}

/// What a rule has taken and seen on all CPUs.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) matched: Volume,
    /// The time of the last datagram in nanoseconds, and its sender.
    pub(super) last_seen_ns: u64,
    pub(super) last_source: Option<Addr>,
    pub(super) observed: Observed,
}

/// The sum of what the CPUs have.
pub(super) fn taken<'a>(cpus: impl Iterator<Item = &'a TakenBytes>) -> Taken {
    let mut all = Taken::default();
    for cpu in cpus {
        let mut reader = FieldReader(cpu);
        all.matched = all.matched.plus(volume([reader.take()].iter()));
        let (seen, source) = (u64::from_ne_bytes(reader.take()), reader.address());
        if seen > all.last_seen_ns {
            (all.last_seen_ns, all.last_source) = (seen, Some(source));
        }
        all.observed.datagrams += u64::from_ne_bytes(reader.take());
        all.observed.repeats += u64::from_ne_bytes(reader.take());
    }
    all
}

/// Takes fixed numbers of bytes from the start; zeros where there are no more.
struct FieldReader<'a>(&'a [u8]);

impl FieldReader<'_> {
    fn take<const M: usize>(&mut self) -> [u8; M] {
        let (field, rest) = self.0.split_first_chunk().unwrap_or((&[0; M], &[]));
        self.0 = rest;
        *field
    }

    fn u16(&mut self) -> u16 {
        u16::from_ne_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.take())
    }

    fn address(&mut self) -> Addr {
        Addr::from_bits(u128::from_be_bytes(self.take()))
    }

    fn endpoint(&mut self) -> Endpoint {
        let (ifindex, port) = (self.u32(), u16::from_be_bytes(self.take()));
        Endpoint { ifindex, port, vlan: self.u16(), group: self.address() }
    }
}

/// The inverse of [`endpoint`].
pub(super) fn read_endpoint(key: &EndpointKey) -> Endpoint {
    FieldReader(key).endpoint()
}

/// The inverse of [`sender`].
pub(super) fn read_sender(key: &SenderKey) -> (Endpoint, Addr) {
    let mut reader = FieldReader(key);
    (reader.endpoint(), reader.address())
}

/// The slot of an entry of either kind in this phase.
pub(super) fn read_slot_number(entry: &[u8], phase: usize) -> Option<u32> {
    FieldReader(&entry[4 * phase..]).u32().checked_sub(1)
}

/// The inverse of [`control`].
pub(super) fn read_control(bytes: &ControlBytes) -> (usize, bool) {
    let mut reader = FieldReader(bytes);
    (usize::from(reader.u32() == 1), reader.u32() != 0)
}

/// The inverse of [`slot()`].
pub(super) fn read_slot(bytes: &SlotBytes) -> RuleSlot {
    let mut reader = FieldReader(bytes);
    let (generation, links, max_bytes) = (reader.u16(), reader.u16(), reader.u16());
    let [min_ttl, mode] = reader.take();
    let mode = match mode {
        0 => Mode::Relay,
        1 => Mode::Gate,
        2 => Mode::Drain,
        _ => Mode::Shed,
    };
    let (fan, cpu) = (reader.u32(), reader.u32().checked_sub(1));
    let gate = u64::from_ne_bytes(reader.take());
    let links = (0..usize::from(links).min(MAX_LINKS)).map(|_| DeviceOutputs {
        ifindex: reader.u32(),
        first: reader.u32(),
        count: reader.u16(),
        device: reader.u16(),
    });
    let links = links.collect();
    RuleSlot { generation, max_bytes, min_ttl, mode, fan, cpu, gate, links }
}

/// A field that copies may keep: its value, and the flag if they do.
fn kept<T>(choice: Choice<T>, none: T, flag: u8) -> (T, u8) {
    match choice {
        Choice::Chosen(value) => (value, 0),
        Choice::Keep | Choice::Kernel => (none, flag),
    }
}

fn address(address: Addr) -> [u8; 16] {
    address.bits().to_be_bytes()
}

fn words(words: [u32; 2]) -> [u8; 8] {
    FieldWriter::new().put(words[0].to_ne_bytes()).put(words[1].to_ne_bytes()).bytes
}
