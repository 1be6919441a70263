//! Which of the two kinds of sockets datagrams are taken from. It must not know how either is read.

use super::packet;

/// Where datagrams are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// Frames of an interface, by AF_PACKET; needs CAP_NET_RAW.
    Packet,
    /// Ordinary joined UDP sockets; needs nothing.
    Udp,
}

impl Ingress {
    /// `Packet` where this thread may open such a socket, else `Udp`.
    #[must_use]
    pub fn permitted() -> Self {
        if packet::is_permitted() { Self::Packet } else { Self::Udp }
    }

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Udp => "udp",
        }
    }
}
