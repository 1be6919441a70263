//! The two ways to receive datagrams: AF_PACKET or UDP sockets.

use super::packet;

/// The kind of socket that datagrams are received from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// Frames of an interface, through AF_PACKET; needs CAP_NET_RAW.
    Packet,
    /// Ordinary UDP sockets with memberships; needs no privilege.
    Udp,
}

impl Ingress {
    /// `Packet` if this thread may open such a socket, else `Udp`.
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
