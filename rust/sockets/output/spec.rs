//! Where copies go, and how: the words for it, and what follows from them for the socket.

use std::fmt;

use super::options;
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
        ETHERNET + options::of(self.address).headers
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

impl fmt::Display for OutputSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address.is_v4(), self.interface.as_str()) {
            (true, "") => write!(f, "{}:{}", self.address, self.port),
            (false, "") => write!(f, "[{}]:{}", self.address, self.port),
            (_, interface) => write!(f, "{}%{interface}:{}", self.address, self.port),
        }
    }
}
