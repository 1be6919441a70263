//! A rule, resolved for this host: where it listens, where copies go, and how. It comes as JSON,
//! in one form for a relay in this process and for a worker in another.

use std::fmt;

use serde::{Deserialize, Deserializer};

use crate::addr::Addr;

/// Groups that a rule joins one by one, as a power of two.
const MAX_JOINED_BITS: u8 = 12;
/// The highest VLAN identifier (IEEE 802.1Q).
const MAX_VLAN: u16 = 4094;

/// The TTL, or hop limit, of the copies.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Ttl {
    /// The datagram's.
    Keep,
    /// One less than the datagram's, as a router does.
    Decrement,
    /// 1 to 255.
    #[serde(untagged)]
    Set(u8),
}

/// One side of where the copies come from: the address or the port.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Choice<T> {
    /// As the datagram came.
    Keep,
    /// As the user chooses.
    #[serde(untagged)]
    Chosen(T),
    /// As the kernel chooses, once for the output's life; `null` in JSON.
    #[serde(untagged)]
    Kernel,
}

/// Where copies go, and how.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// The group or host, or the first of them.
    pub address: Addr,
    /// How many low bits of the address follow the datagram's; 0 for one address.
    pub address_bits: u8,
    /// The UDP port, or the first of them.
    pub port: u16,
    /// The last port; above the first, the port follows the datagram's.
    pub last_port: u16,
    /// The interface's index; 0 for a host that is reached by routing.
    pub ifindex: u32,
    /// The interface's name, for messages; empty by routing.
    pub interface: String,
    /// TTL or hop limit.
    pub ttl: Ttl,
    /// The DiffServ code point (RFC 2474), 0 to 63; without, the datagram's.
    #[serde(deserialize_with = "value_or_keep")]
    pub dscp: Option<u8>,
    /// The source address; a chosen one is this host's.
    pub source: Choice<Addr>,
    /// The source port.
    pub source_port: Choice<u16>,
    /// Whether members on this host get the copies too.
    #[serde(rename = "loop")]
    pub multicast_loop: bool,
    /// The kernel's priority for queueing, 0 to 6.
    pub priority: Option<u8>,
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
        }
    }

    /// Checks the fields that say by themselves that there can be no such output. The worker and
    /// the supervisor both call it: what one takes, the other takes.
    ///
    /// # Errors
    /// What is wrong, as a noun: "an output with a TTL of 0".
    pub fn check(&self) -> Result<(), &'static str> {
        /// The highest code point (RFC 2474).
        const MAX_DSCP: u8 = 63;
        /// The highest priority that takes no right (socket(7), SO_PRIORITY).
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
            (has_other_source, "an output with a source address of another family"),
            (self.source_port == Choice::Chosen(0), "an output with the source port 0"),
        ];
        first_fault(&faults)
    }

    /// An output that follows the datagram's group or port follows all of the input's.
    fn check_beside(&self, input: &InputSpec) -> Result<(), &'static str> {
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

    /// Whether the headers of the copies are ours to write.
    #[must_use]
    pub fn has_own_headers(&self) -> bool {
        self.source_port == Choice::Keep
    }

    /// Whether each send has to name where it goes. The source port is chosen, and an input may
    /// have it too, for datagrams of the very host and port that copies go to (RFC 4961).
    #[must_use]
    pub fn names_peer(&self) -> bool {
        matches!(self.source_port, Choice::Chosen(_)) && !self.address.is_multicast()
    }

    /// Bytes of the headers that each copy has on Ethernet, a VLAN tag included.
    #[must_use]
    pub fn frame_headers(&self) -> u16 {
        const ETHERNET: u16 = 14 + 4;
        ETHERNET + self.ip_headers()
    }

    /// Bytes of the IP and UDP headers of each copy.
    #[must_use]
    pub fn ip_headers(&self) -> u16 {
        if self.address.is_v4() { 20 + 8 } else { 40 + 8 }
    }

    /// The port that the kernel looks for when a router says "packet too big" (RFC 4443, 3.2), where
    /// the socket is not found, as it is connected to another port. IPv4 copies may be cut on
    /// their way, and so have no such answers.
    #[must_use]
    pub fn mtu_port(&self) -> Option<u16> {
        match self.source_port {
            Choice::Chosen(port) if self.names_peer() && !self.address.is_v4() => Some(port),
            _ => None,
        }
    }
}

/// The first of these faults that is there, each with whether it is.
fn first_fault(faults: &[(bool, &'static str)]) -> Result<(), &'static str> {
    let fault = faults.iter().find_map(|&(is_there, fault)| is_there.then_some(fault));
    fault.map_or(Ok(()), Err)
}

/// A value, or `None` for "keep".
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

/// Whether an interface can have this name or alternative name (dev_valid_name in the kernel).
#[must_use]
pub fn is_interface_name(name: &str) -> bool {
    /// ALTIFNAMSIZ (linux/if.h), without the zero.
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

/// How the network is asked for an input's groups.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// By a membership of each group.
    Each,
    /// Not at all: the interface takes all multicast that comes along.
    None,
}

/// Where a rule listens, resolved for this host.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// The group, or an address of this host, or a broadcast address; of a block of groups the first.
    pub group: Addr,
    /// How many low bits of the group vary; 0 for one group.
    pub group_bits: u8,
    /// Whether `group` is a broadcast address.
    pub broadcast: bool,
    /// Whether datagrams to `group`, an address of this host, count wherever they arrive: nobody has
    /// named the interface, which is the one that has the address.
    pub everywhere: bool,
    /// The destination port; of several the first.
    pub port: u16,
    /// The last port; the same as the first for one.
    pub last_port: u16,
    /// How its groups are asked for.
    pub join: Join,
    /// The interface's name.
    pub interface: String,
    /// The interface's index. A relay looks it up by the name, now and whenever it changes.
    pub ifindex: u32,
    /// The senders to take datagrams from; empty for any.
    pub sources: Box<[Addr]>,
    /// The VLAN identifier; 0 for untagged frames.
    pub vlan: u16,
}

impl InputSpec {
    /// Checks the fields that say by themselves that there can be no such input. The supervisor
    /// would end a worker that asks for one.
    ///
    /// # Errors
    /// What is wrong, as a noun: "an input without an interface".
    pub fn check(&self) -> Result<(), &'static str> {
        let Self { group, interface, sources, .. } = self;
        let has_port_range = self.port != 0 && self.port <= self.last_port;
        let has_valid_name = interface.is_empty() || is_interface_name(interface);
        // An address that no interface has yet is waited for without one.
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
        ])
    }

    /// The groups, which are a handful wherever each of them counts.
    pub(crate) fn groups(&self) -> impl Iterator<Item = Addr> + use<> {
        self.group.each_of(self.group_bits)
    }

    /// Whether it takes a membership of each of them.
    pub(crate) fn is_joined(&self) -> bool {
        self.group.is_multicast() && self.join == Join::Each
    }

    /// The same input for one of its groups and ports.
    pub(crate) fn at(&self, group: Addr, port: u16) -> Self {
        Self { group, group_bits: 0, port, last_port: port, ..self.clone() }
    }
}

/// A rule, resolved for this host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// What its counters are found by again in a page that outlives the relay; unique in it.
    pub id: String,
    /// Whether it takes what comes. Disabled, its sockets stay open and its counters stay.
    pub enabled: bool,
    /// Where it listens.
    pub input: InputSpec,
    /// Where each datagram goes.
    pub outputs: Vec<OutputSpec>,
}

impl RuleSpec {
    /// Checks what can be wrong with a rule without a look at the host.
    ///
    /// # Errors
    /// What is wrong, as a noun.
    pub fn check(&self) -> Result<(), &'static str> {
        self.input.check()?;
        self.outputs.iter().try_for_each(|output| {
            output.check()?;
            output.check_beside(&self.input)
        })
    }

    /// The names that it has for interfaces; "" where it has none.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = &String> {
        self.outputs.iter().map(|output| &output.interface).chain([&self.input.interface])
    }
}
