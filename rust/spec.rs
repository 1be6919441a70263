//! A rule, resolved for this host: where it listens, where copies go, and how.

use std::fmt;

use crate::addr::Addr;

/// The TTL, or hop limit, of the copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ttl {
    /// 1 to 255.
    Set(u8),
    /// The datagram's.
    Keep,
    /// One less than the datagram's, as a router does.
    Decrement,
}

/// One side of where the copies come from: the address or the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice<T> {
    /// As the kernel chooses, once for the output's life.
    Kernel,
    /// As the user chooses.
    Chosen(T),
    /// As the datagram came.
    Keep,
}

/// Where copies go, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    pub dscp: Option<u8>,
    /// The source address; a chosen one is this host's.
    pub source: Choice<Addr>,
    /// The source port.
    pub source_port: Choice<u16>,
    /// Whether members on this host get the copies too.
    pub multicast_loop: bool,
    /// The kernel's priority for queueing, 0 to 6.
    pub priority: Option<u8>,
}

impl OutputSpec {
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
        let fault = faults.into_iter().find_map(|(is_there, fault)| is_there.then_some(fault));
        fault.map_or(Ok(()), Err)
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// By a membership of each group.
    Each,
    /// Not at all: the interface takes all multicast that comes along.
    None,
}

/// Where a rule listens, resolved for this host.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug)]
pub struct RuleSpec {
    /// What its counters are found by again in a page that outlives the relay; unique in it.
    pub id: String,
    /// Whether it takes nothing for now: all is open for it, and its counters stay.
    pub paused: bool,
    /// Where it listens.
    pub input: InputSpec,
    /// Where each datagram goes.
    pub outputs: Vec<OutputSpec>,
}

impl RuleSpec {
    /// The names that it has for interfaces; "" where it has none.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = &String> {
        self.outputs.iter().map(|output| &output.interface).chain([&self.input.interface])
    }

    /// Whether both say the same of what is taken and where it goes. Interfaces go by their names.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let unindexed = |spec: &Self| {
            let input = InputSpec { ifindex: 0, ..spec.input.clone() };
            let outputs = spec.outputs.iter().cloned();
            let outputs: Vec<_> = outputs.map(|one| OutputSpec { ifindex: 0, ..one }).collect();
            (input, outputs)
        };
        self.id == other.id && unindexed(self) == unindexed(other)
    }
}
