//! A rule in the form in which the kernel relays it, and the reasons why one cannot have it.

use std::collections::BTreeMap;
use std::fmt;

use super::fans::Shape;
use crate::addr::Addr;
use crate::spec::{Choice, InputSpec, OutputSpec, RuleSpec, Ttl};

/// The outputs of one rule. Copying one frame delays all others on its CPU.
pub const MAX_OUTPUTS: usize = 64;

/// `MAX_LINKS` of the programs: devices over which the outputs of one rule can be spread.
pub(super) const MAX_LINKS: usize = 8;

/// A group and port on an interface; `vlan` is 0 for untagged frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The interface's index.
    pub ifindex: u32,
    /// The VLAN identifier.
    pub vlan: u16,
    /// The group.
    pub group: Addr,
    /// The UDP port.
    pub port: u16,
}

/// The path of an output's copies, as the host has it at this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputPath {
    /// The index of the device that sends.
    pub ifindex: u32,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its MAC address.
    pub source_mac: [u8; 6],
    /// The next hop's MAC address; of no use for groups, which have their own.
    pub next_hop_mac: Option<[u8; 6]>,
    /// The source address that the kernel would choose.
    pub source: Addr,
    /// The source port that the kernel has chosen for the output.
    pub source_port: u16,
    /// Whether the device's driver sends frames of XDP (NETDEV_XDP_ACT_NDO_XMIT).
    pub sends_xdp: bool,
    /// Whether a queueing discipline limits the device, which such frames would bypass.
    pub has_rate: bool,
    /// Whether a program on this host is a member of the output's group on that device.
    pub has_member: bool,
}

/// One output, ready to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelOutput {
    /// The index of the device that sends.
    pub ifindex: u32,
    /// The group or host.
    pub address: Addr,
    /// The UDP port.
    pub port: u16,
    /// The source address; never [`Choice::Kernel`].
    pub source: Choice<Addr>,
    /// The source port; never [`Choice::Kernel`].
    pub source_port: Choice<u16>,
    /// TTL or hop limit.
    pub ttl: Ttl,
    /// The DiffServ code point; without, the datagram's.
    pub dscp: Option<u8>,
    /// The MAC address of the device.
    pub source_mac: [u8; 6],
    /// The MAC address of the group or next hop.
    pub destination_mac: [u8; 6],
}

/// A rule that the kernel can relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRule {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The senders that it takes datagrams from; empty for any.
    pub sources: Vec<Addr>,
    /// Where copies go: 1 to [`MAX_OUTPUTS`], on at most 8 devices.
    pub outputs: Vec<KernelOutput>,
    /// The longest IP packet that every output carries, in bytes.
    pub max_bytes: u16,
    /// The CPU that makes the copies; without one, that which receives.
    pub cpu: Option<u32>,
}

/// Datagrams and their payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// The number of datagrams or copies.
    pub datagrams: u64,
    /// Their payload in bytes.
    pub bytes: u64,
}

/// How the sizes of a rule's datagrams follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Datagrams of the rule that the kernel can relay, taken or passed.
    pub datagrams: u64,
    /// Those of them that were as long as the one before.
    pub repeats: u64,
}

/// Why a rule stays with the engine: the closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Obstacle {
    /// The input is an address of this host or a broadcast address.
    NotGroup,
    /// The input is a block of groups or a range of ports.
    Pattern,
    /// The rule has no outputs, or more than [`MAX_OUTPUTS`].
    OutputCount,
    /// The outputs are spread over more than 8 devices.
    DeviceCount,
    /// An output is in the other address family.
    Family,
    /// An output has no device at this time: its interface is missing, or there is no route.
    NoDevice,
    /// The next hop's MAC address is not known.
    NoNeighbour,
    /// An output's driver does not send frames of XDP.
    Driver,
    /// A queueing discipline limits an output's device.
    Rate,
    /// An output has a priority for queueing.
    Priority,
    /// A program on this host is to get the copies of an output as well.
    Member,
    /// An output has a rate.
    Limited,
}

impl Obstacle {
    /// Every obstacle.
    pub const ALL: [Self; 12] = [
        Self::NotGroup,
        Self::Pattern,
        Self::OutputCount,
        Self::DeviceCount,
        Self::Family,
        Self::NoDevice,
        Self::NoNeighbour,
        Self::Driver,
        Self::Rate,
        Self::Priority,
        Self::Member,
        Self::Limited,
    ];

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotGroup => "not_group",
            Self::Pattern => "pattern",
            Self::OutputCount => "output_count",
            Self::DeviceCount => "device_count",
            Self::Family => "family",
            Self::NoDevice => "no_device",
            Self::NoNeighbour => "no_neighbour",
            Self::Driver => "driver",
            Self::Rate => "rate",
            Self::Priority => "priority",
            Self::Member => "member",
            Self::Limited => "limited",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotGroup => "the input is not a group",
            Self::Pattern => "the input is a block of groups or a range of ports",
            Self::OutputCount => "the kernel relays to 1 to 64 outputs",
            Self::DeviceCount => "the kernel relays to at most 8 interfaces",
            Self::Family => "an output is in the other address family",
            Self::NoDevice => "an output has no interface or no route",
            Self::NoNeighbour => "the MAC address of an output's next hop is not known",
            Self::Driver => "the driver of an output's interface does not send frames of XDP",
            Self::Rate => "a queueing discipline limits an output's interface",
            Self::Priority => "an output has a priority for queueing",
            Self::Member => "a program on this host receives an output's copies",
            Self::Limited => "an output has a rate",
        })
    }
}

impl KernelRule {
    /// The rule for this specification, whose outputs leave by these paths, in their order.
    ///
    /// # Errors
    /// The first obstacle.
    pub fn of(
        spec: &RuleSpec,
        paths: &[Option<OutputPath>],
        cpu: Option<u32>,
    ) -> Result<Self, Obstacle> {
        let InputSpec { group, port, ref sources, ifindex, vlan, .. } = spec.input;
        if !group.is_multicast() {
            return Err(Obstacle::NotGroup);
        }
        if spec.input.group_bits > 0 || spec.input.last_port > port {
            return Err(Obstacle::Pattern);
        }
        if !(1..=MAX_OUTPUTS).contains(&spec.outputs.len()) || paths.len() != spec.outputs.len() {
            return Err(Obstacle::OutputCount);
        }
        let mut outputs = Vec::with_capacity(paths.len());
        for (output, path) in spec.outputs.iter().zip(paths) {
            outputs.push(KernelOutput::of(output, path.as_ref(), group)?);
        }
        if device_count(&outputs) > MAX_LINKS {
            return Err(Obstacle::DeviceCount);
        }
        let mtu = paths.iter().flatten().map(|path| path.mtu).min().unwrap_or_default();
        Ok(Self {
            endpoint: Endpoint { ifindex, vlan, group, port },
            sources: sources.to_vec(),
            outputs,
            max_bytes: u16::try_from(mtu).unwrap_or(u16::MAX),
            cpu,
        })
    }

    /// The devices of its outputs, each with their number.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let mut counts = BTreeMap::new();
        for output in &self.outputs {
            *counts.entry(output.ifindex).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    /// The smallest TTL that every output can pass on.
    pub(super) fn min_ttl(&self) -> u8 {
        let needs = |output: &KernelOutput| match output.ttl {
            Ttl::Set(_) => 0,
            Ttl::Keep => 1,
            Ttl::Decrement => 2,
        };
        self.outputs.iter().map(needs).max().unwrap_or_default()
    }
}

impl KernelOutput {
    fn of(spec: &OutputSpec, path: Option<&OutputPath>, group: Addr) -> Result<Self, Obstacle> {
        if spec.address_bits > 0 || spec.last_port > spec.port {
            return Err(Obstacle::Pattern);
        }
        if spec.address.is_v4() != group.is_v4() {
            return Err(Obstacle::Family);
        }
        let path = path.ok_or(Obstacle::NoDevice)?;
        if !path.sends_xdp {
            return Err(Obstacle::Driver);
        }
        if path.has_rate {
            return Err(Obstacle::Rate);
        }
        if spec.priority.is_some() {
            return Err(Obstacle::Priority);
        }
        if spec.rate.is_some() {
            return Err(Obstacle::Limited);
        }
        if spec.multicast_loop && path.has_member {
            return Err(Obstacle::Member);
        }
        let destination_mac = group_mac(spec.address).or(path.next_hop_mac);
        Ok(Self {
            ifindex: path.ifindex,
            address: spec.address,
            port: spec.port,
            source: chosen(spec.source, path.source),
            source_port: chosen(spec.source_port, path.source_port),
            ttl: spec.ttl,
            dscp: spec.dscp,
            source_mac: path.source_mac,
            destination_mac: destination_mac.ok_or(Obstacle::NoNeighbour)?,
        })
    }
}

/// The number of devices of these outputs.
pub(super) fn device_count(outputs: &[KernelOutput]) -> usize {
    let mut devices: Vec<u32> = outputs.iter().map(|output| output.ifindex).collect();
    devices.sort_unstable();
    devices.dedup();
    devices.len()
}

/// The MAC address of a group (RFC 1112, 6.4; RFC 2464, 7).
fn group_mac(address: Addr) -> Option<[u8; 6]> {
    let [.., a, b, c, d] = address.bits().to_be_bytes();
    match (address.is_multicast(), address.is_v4()) {
        (true, true) => Some([1, 0, 0x5e, b & 0x7f, c, d]),
        (true, false) => Some([0x33, 0x33, a, b, c, d]),
        (false, _) => None,
    }
}

/// What the kernel would choose becomes a value.
fn chosen<T>(choice: Choice<T>, kernel: T) -> Choice<T> {
    match choice {
        Choice::Kernel => Choice::Chosen(kernel),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Join;
    use crate::stats::sequences::SequenceSpec;

    const GROUP: Addr = Addr::v4([239, 1, 1, 1]);

    fn spec() -> RuleSpec {
        let input = InputSpec {
            group: GROUP,
            group_bits: 0,
            broadcast: false,
            everywhere: false,
            port: 5001,
            last_port: 5001,
            join: Join::Each,
            interface: "in0".into(),
            ifindex: 7,
            sources: Box::new([Addr::v4([192, 0, 2, 1])]),
            vlan: 5,
            sequence: SequenceSpec::Auto,
        };
        let to_host = OutputSpec::to(Addr::v4([192, 0, 2, 9]), 7000);
        let to_group =
            OutputSpec { dscp: None, ..OutputSpec::to(Addr::v4([239, 129, 2, 3]), 6001) };
        RuleSpec {
            id: "a".into(),
            enabled: true,
            input,
            merge: None,
            class: None,
            outputs: vec![to_group, to_host],
        }
    }

    fn path() -> OutputPath {
        OutputPath {
            ifindex: 8,
            mtu: 1500,
            source_mac: [2, 0, 0, 0, 0, 8],
            next_hop_mac: Some([2, 0, 0, 0, 0, 9]),
            source: Addr::v4([10, 0, 0, 1]),
            source_port: 41_000,
            sends_xdp: true,
            has_rate: false,
            has_member: false,
        }
    }

    #[test]
    fn a_rule_has_what_the_host_decides() {
        let paths = [Some(path()), Some(OutputPath { ifindex: 9, mtu: 1400, ..path() })];
        let rule = KernelRule::of(&spec(), &paths, Some(3)).unwrap();
        assert_eq!(rule.endpoint, Endpoint { ifindex: 7, vlan: 5, group: GROUP, port: 5001 });
        assert_eq!((rule.max_bytes, rule.cpu, rule.sources.len()), (1400, Some(3), 1));
        let [to_group, to_host] = &rule.outputs[..] else { panic!("{rule:?}") };
        assert_eq!(to_group.destination_mac, [1, 0, 0x5e, 1, 2, 3]);
        assert_eq!((to_group.ttl, to_group.dscp), (Ttl::Set(1), None));
        assert_eq!(to_group.source, Choice::Chosen(Addr::v4([10, 0, 0, 1])));
        assert_eq!(to_group.source_port, Choice::Chosen(41_000));
        assert_eq!(to_host.destination_mac, [2, 0, 0, 0, 0, 9]);
        assert_eq!((to_host.ifindex, to_host.port), (9, 7000));
    }

    #[test]
    fn the_group_of_ipv6_is_in_its_mac_address() {
        let group = Addr::v6([0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(group_mac(group), Some([0x33, 0x33, 1, 2, 3, 4]));
    }

    #[test]
    fn each_obstacle_is_found() {
        type Change = fn(&mut RuleSpec, &mut Vec<Option<OutputPath>>);
        fn last(paths: &mut [Option<OutputPath>]) -> &mut OutputPath {
            paths.last_mut().unwrap().as_mut().unwrap()
        }
        let cases: [(Obstacle, Change); 12] = [
            (Obstacle::NotGroup, |spec, _| spec.input.group = Addr::v4([10, 0, 0, 1])),
            (Obstacle::Pattern, |spec, _| spec.input.last_port += 1),
            (Obstacle::OutputCount, |spec, paths| {
                spec.outputs.clear();
                paths.clear();
            }),
            (Obstacle::DeviceCount, |spec, paths| {
                spec.outputs = vec![spec.outputs[0].clone(); 9];
                *paths = (1..=9).map(|ifindex| Some(OutputPath { ifindex, ..path() })).collect();
            }),
            (Obstacle::Family, |spec, _| spec.outputs[1].address = Addr::v6([0xff; 16])),
            (Obstacle::NoDevice, |_, paths| paths[1] = None),
            (Obstacle::NoNeighbour, |_, paths| last(paths).next_hop_mac = None),
            (Obstacle::Driver, |_, paths| last(paths).sends_xdp = false),
            (Obstacle::Rate, |_, paths| last(paths).has_rate = true),
            (Obstacle::Priority, |spec, _| spec.outputs[1].priority = Some(3)),
            (Obstacle::Member, |_, paths| last(paths).has_member = true),
            (Obstacle::Limited, |spec, _| {
                let unit = crate::spec::RateUnit::Datagrams;
                spec.outputs[1].rate = Some(crate::spec::OutputRate {
                    unit,
                    per_s: 1,
                    burst: 1,
                    queue_us: 0,
                    paced: false,
                });
            }),
        ];
        assert_eq!(cases.map(|(obstacle, _)| obstacle), Obstacle::ALL);
        for (obstacle, change) in cases {
            let (mut spec, mut paths) = (spec(), vec![Some(path()); 2]);
            change(&mut spec, &mut paths);
            assert_eq!(KernelRule::of(&spec, &paths, None), Err(obstacle));
        }
    }

    #[test]
    fn the_smallest_ttl_is_that_of_the_most_demanding_output() {
        let with = |ttls: [Ttl; 2]| {
            let mut spec = spec();
            for (output, ttl) in spec.outputs.iter_mut().zip(ttls) {
                output.ttl = ttl;
            }
            KernelRule::of(&spec, &[Some(path()); 2], None).unwrap().min_ttl()
        };
        assert_eq!(with([Ttl::Set(1), Ttl::Set(9)]), 0);
        assert_eq!(with([Ttl::Set(1), Ttl::Keep]), 1);
        assert_eq!(with([Ttl::Decrement, Ttl::Keep]), 2);
    }
}
