//! A rule resolved for this host: its input and its outputs. It is read from JSON, in the same form
//! for a relay in this process and for a worker in another.

use std::fmt;
use std::hash::Hash;

use serde::{Deserialize, Deserializer};

pub use self::rate::{OutputRate, RateUnit};
pub use self::rule::{InputMerge, RuleSpec, leg_id, rule_of_leg};
pub use self::shaping::{ClassSpec, DEFAULT_CLASS, InterfaceRateSpec, ShapingSpec, is_class_name};
use crate::addr::Addr;
use crate::rules::{InputKey, TableRule};
use crate::stats::sequences::SequenceSpec;

mod rate;
mod rule;
mod shaping;

/// The largest block that a rule joins group by group, as a power of two.
const MAX_JOINED_BITS: u8 = 12;
/// The highest VLAN identifier (IEEE 802.1Q).
const MAX_VLAN: u16 = 4094;

/// The TTL, or hop limit, of copies.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Ttl {
    /// The datagram's.
    Keep,
    /// The datagram's, less 1, as a router does.
    Decrement,
    /// 1 to 255.
    #[serde(untagged)]
    Set(u8),
}

/// The source of copies: its address or its port.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Choice<T> {
    /// The datagram's.
    Keep,
    /// This value.
    #[serde(untagged)]
    Chosen(T),
    /// The kernel's choice, fixed while the output exists; `null` in JSON.
    #[default]
    #[serde(untagged)]
    Kernel,
}

/// An output of a rule. Members with their usual values may be missing in JSON.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// The group or host, or the first of a block.
    pub address: Addr,
    /// The number of low bits of the address that are the datagram's; 0 for a single address.
    #[serde(default)]
    pub address_bits: u8,
    /// The UDP port, or the first of a range.
    pub port: u16,
    /// The last port. If it is above the first, the port follows the datagram's.
    pub last_port: u16,
    /// The interface's index; 0 if routing decides.
    #[serde(default)]
    pub ifindex: u32,
    /// The interface's name; empty if routing decides.
    #[serde(default)]
    pub interface: String,
    /// The TTL or hop limit.
    pub ttl: Ttl,
    /// The DiffServ code point (RFC 2474), 0 to 63; `None` for the datagram's.
    #[serde(default = "no_dscp", deserialize_with = "value_or_keep")]
    pub dscp: Option<u8>,
    /// The source address. A chosen one must be an address of this host.
    #[serde(default)]
    pub source: Choice<Addr>,
    /// The source port.
    #[serde(default)]
    pub source_port: Choice<u16>,
    /// Whether members on this host receive the copies too.
    #[serde(rename = "loop", default = "loops")]
    pub multicast_loop: bool,
    /// The kernel's priority for queueing, 0 to 6.
    #[serde(default)]
    pub priority: Option<u8>,
    /// The most that it sends; `None` for any rate.
    #[serde(default)]
    pub rate: Option<OutputRate>,
}

impl OutputSpec {
    /// Copies to one address and port, by routing, with TTL 1 and DSCP 0.
    #[must_use]
    pub fn to(address: Addr, port: u16) -> Self {
        Self {
            address,
            address_bits: 0,
            port,
            last_port: port,
            ifindex: 0,
            interface: String::new(),
            ttl: Ttl::Set(1),
            dscp: Some(0),
            source: Choice::Kernel,
            source_port: Choice::Kernel,
            multicast_loop: true,
            priority: None,
            rate: None,
        }
    }

    /// Checks the fields without the input or this host. Worker and supervisor both call it, so that
    /// they accept the same outputs.
    ///
    /// # Errors
    /// The fault as a noun: "an output with a TTL of 0".
    pub fn check(&self) -> Result<(), &'static str> {
        /// The highest code point (RFC 2474).
        const MAX_DSCP: u8 = 63;
        /// The highest priority that needs no privilege (socket(7), SO_PRIORITY).
        const MAX_PRIORITY: u8 = 6;
        let has_valid_name = self.interface.is_empty() || is_interface_name(&self.interface);
        let is_v4 = self.address.is_v4();
        let has_other_source =
            matches!(self.source, Choice::Chosen(source) if source.is_v4() != is_v4);
        let faults = [
            (!self.address.is_block(self.address_bits), "an output with an invalid block"),
            (self.port == 0 || self.last_port < self.port, "an output with an invalid port range"),
            (!has_valid_name, "an output with an invalid interface name"),
            (self.ttl == Ttl::Set(0), "an output with a TTL of 0"),
            (self.dscp.is_some_and(|dscp| dscp > MAX_DSCP), "an output with a DSCP above 63"),
            (
                self.priority.is_some_and(|level| level > MAX_PRIORITY),
                "an output with a priority above 6",
            ),
            (
                self.rate.is_some_and(|rate| !rate.is_valid()),
                "an output with an impossible rate, burst or queue",
            ),
            (has_other_source, "an output with a source address of another family"),
            (self.source_port == Choice::Chosen(0), "an output with the source port 0"),
        ];
        first_fault(&faults)
    }

    /// Whether it is the same for any index of its interface.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }

    /// Where copies go: no two outputs of a rule have this in common.
    fn destination(&self) -> impl Hash + PartialEq {
        let Self { address, address_bits, port, last_port, interface, .. } = self;
        (*address, *address_bits, *port, *last_port, interface)
    }

    /// All fields but the index of the interface.
    fn identity(&self) -> impl PartialEq {
        let Self { ttl, dscp, source, source_port, multicast_loop, priority, rate, .. } = self;
        let source = (*source, *source_port);
        (self.destination(), (*ttl, *dscp, source, *multicast_loop, *priority, *rate))
    }

    /// Checks the output against its input: a block or range must have the size of the input's.
    ///
    /// # Errors
    /// The fault as a noun.
    fn check_with_input(&self, input: &InputSpec) -> Result<(), &'static str> {
        let width = |first: u16, last: u16| last - first;
        let ports = width(self.port, self.last_port);
        let has_other_bits = self.address_bits != 0 && self.address_bits != input.group_bits;
        let has_other_ports = ports != 0 && ports != width(input.port, input.last_port);
        let is_other_family = self.address.is_v4() != input.group.is_v4();
        first_fault(&[
            (
                self.interface.is_empty() && self.address.is_multicast(),
                "an output to a group without an interface",
            ),
            (
                has_other_bits || has_other_ports,
                "an output with another number of groups or ports than the input",
            ),
            (
                is_other_family && self.source == Choice::Keep,
                "an output that keeps a source address of another family",
            ),
        ])
    }

    /// Whether the relay writes the headers of copies itself.
    #[must_use]
    pub fn has_own_headers(&self) -> bool {
        self.source_port == Choice::Keep
    }

    /// Whether each send has to name its destination, since the socket is not connected to it. With
    /// a chosen source port, an input may have the same port, for datagrams from the host and port
    /// to which copies go (RFC 4961).
    #[must_use]
    pub fn names_peer(&self) -> bool {
        matches!(self.source_port, Choice::Chosen(_)) && !self.address.is_multicast()
    }

    /// The bytes of each copy's headers on Ethernet, including a VLAN tag.
    #[must_use]
    pub fn frame_headers(&self) -> u16 {
        const ETHERNET: u16 = 14 + 4;
        ETHERNET + self.ip_headers()
    }

    /// The bytes of each copy's IP and UDP headers.
    #[must_use]
    pub fn ip_headers(&self) -> u16 {
        if self.address.is_v4() { 20 + 8 } else { 40 + 8 }
    }

    /// The port for which the kernel looks up a socket when a router reports "packet too big"
    /// (RFC 4443, 3.2), if it does not find the output's own socket, which is connected to another
    /// port. IPv4 copies may be fragmented on their way, so no router reports them.
    #[must_use]
    pub fn mtu_port(&self) -> Option<u16> {
        match self.source_port {
            Choice::Chosen(port) if self.names_peer() && !self.address.is_v4() => Some(port),
            _ => None,
        }
    }
}

/// Returns the first fault whose condition is true as an error.
fn first_fault(faults: &[(bool, &'static str)]) -> Result<(), &'static str> {
    let fault = faults.iter().find_map(|&(applies, fault)| applies.then_some(fault));
    fault.map_or(Ok(()), Err)
}

/// The usual DSCP.
#[expect(clippy::unnecessary_wraps, reason = "the type of the field")]
const fn no_dscp() -> Option<u8> {
    Some(0)
}

/// The usual value of `loop`.
const fn loops() -> bool {
    true
}

/// Reads a value, or `None` for "keep".
fn value_or_keep<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u8>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kept {
        Keep,
        #[serde(untagged)]
        Value(u8),
    }
    Ok(match Kept::deserialize(from)? {
        Kept::Keep => None,
        Kept::Value(value) => Some(value),
    })
}

/// Whether an interface can have this primary or alternative name (dev_valid_name in the kernel).
#[must_use]
pub fn is_interface_name(name: &str) -> bool {
    /// ALTIFNAMSIZ (linux/if.h), without the terminating zero.
    const ALTNAME_BYTES: usize = 127;
    (1..=ALTNAME_BYTES).contains(&name.len()) && !name.contains(['/', '\0'])
}

impl fmt::Display for OutputSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address.is_v4(), self.interface.as_str()) {
            (true, "") => write!(f, "{}:{}", self.address, self.port),
            (false, "") => write!(f, "[{}]:{}", self.address, self.port),
            (_, interface) => write!(f, "{}%{interface}:{}", self.address, self.port),
        }
    }
}

/// How an input receives its groups.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// By a membership of each group.
    Each,
    /// Without memberships: the interface receives all multicast.
    None,
}

/// The input of a rule.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// The group, an address of this host, a broadcast address, or the first group of a block.
    pub group: Addr,
    /// The number of low bits of the group that vary; 0 for a single group.
    pub group_bits: u8,
    /// Whether `group` is a broadcast address.
    pub broadcast: bool,
    /// Whether datagrams to `group`, an address of this host, count on all interfaces, since the
    /// rule names none; `interface` is the one that has the address.
    pub everywhere: bool,
    /// The destination port, or the first of a range.
    pub port: u16,
    /// The last port; the same as the first for a single port.
    pub last_port: u16,
    /// How its groups are received.
    pub join: Join,
    /// The interface's name.
    pub interface: String,
    /// The interface's index. A relay resolves it by the name, at first and after each change.
    pub ifindex: u32,
    /// The accepted source addresses; empty for any.
    pub sources: Box<[Addr]>,
    /// The VLAN ID, 1 to 4094; 0 for untagged frames.
    pub vlan: u16,
    /// What is known of the numbers in its datagrams.
    #[serde(default)]
    pub sequence: SequenceSpec,
}

impl InputSpec {
    /// Checks the fields without this host. The supervisor would end a worker that requests an
    /// invalid input.
    ///
    /// # Errors
    /// The fault as a noun: "an input without an interface".
    pub fn check(&self) -> Result<(), &'static str> {
        let Self { group, interface, sources, .. } = self;
        let has_port_range = self.port != 0 && self.port <= self.last_port;
        let has_valid_name = interface.is_empty() || is_interface_name(interface);
        // An input for an address that no interface has yet waits without an interface.
        let needs_interface = group.is_multicast() || self.broadcast;
        let has_many_groups = self.join == Join::Each && self.group_bits > MAX_JOINED_BITS;
        let has_other_source = sources.iter().any(|source| source.is_v4() != group.is_v4());
        first_fault(&[
            (!has_port_range, "an input with an invalid port range"),
            (!group.is_block(self.group_bits), "an input with an invalid block"),
            (!has_valid_name, "an input with an invalid interface name"),
            (needs_interface && interface.is_empty(), "an input without an interface"),
            (needs_interface && self.everywhere, "a group as an address of this host"),
            (has_many_groups, "too many groups to join one by one"),
            (has_other_source, "a source of another family than its group"),
            (sources.iter().any(|source| source.is_multicast()), "a group as a source"),
            (self.vlan > MAX_VLAN, "a VLAN above 4094"),
            (!self.sequence.is_valid(), "a sequence number of an impossible size"),
        ])
    }

    /// Whether it is the same for any index of its interface.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }

    /// All fields but the index of the interface.
    fn identity(&self) -> impl Hash + PartialEq {
        let Self { group, group_bits, broadcast, everywhere, port, last_port, .. } = self;
        let Self { join, interface, sources, vlan, ifindex: _, .. } = self;
        (
            (*group, *group_bits, *broadcast, *everywhere, *port, *last_port),
            (*join, interface, sources, *vlan),
        )
    }

    /// All groups. Callers that use each of them have at most a few thousand.
    pub(crate) fn groups(&self) -> impl Iterator<Item = Addr> + use<> {
        self.group.each_of(self.group_bits)
    }

    /// Whether it needs a membership of each group.
    pub(crate) fn is_joined(&self) -> bool {
        self.group.is_multicast() && self.join == Join::Each
    }

    /// The input as the compiled table has it.
    #[must_use]
    pub fn table_rule(&self) -> TableRule {
        let Self { group, group_bits, port, last_port, ifindex, vlan, .. } = *self;
        let input = InputKey { interface: ifindex, vlan, group, port };
        TableRule { input, group_bits, last_port, sources: self.sources.clone() }
    }

    /// The same input for one of its groups and ports.
    pub(crate) fn at(&self, group: Addr, port: u16) -> Self {
        Self { group, group_bits: 0, port, last_port: port, ..self.clone() }
    }
}
