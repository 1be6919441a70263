//! The reasons for which an output's copies leave through its socket and not through an XDP link.

use super::hooks::HostHook;

/// Why copies cannot leave through an XDP link: a sentence for the user, about the output's
/// interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XdpObstacle {
    /// The interface was removed.
    #[error("the interface was removed")]
    Removed,
    /// It is a loopback, a tunnel or the like.
    #[error("{0} is not an Ethernet interface")]
    NotEthernet(String),
    /// It is down.
    #[error("{0} is down")]
    Down(String),
    /// It has too few transmit queues: each worker needs one of its own.
    #[error("{interface} has {queues} transmit queues, and this worker needs number {queue}")]
    NoQueue {
        /// The interface.
        interface: String,
        /// The queue's number, counted from 0.
        queue: u32,
        /// The number of queues.
        queues: u32,
    },
    /// Another program has the queue.
    #[error("another program has an AF_XDP socket on transmit queue {0}")]
    QueueInUse(u32),
    /// A queueing discipline that limits a rate, classifies, or is unknown.
    #[error("{interface} has the queueing discipline {kind}, which an XDP link would bypass")]
    Discipline {
        /// The interface.
        interface: String,
        /// The discipline's kind.
        kind: String,
    },
    /// A filter of tc.
    #[error("a filter (tc) inspects what {0} sends")]
    Filter(String),
    /// The same for what an interface receives.
    #[error("a filter (tc) inspects what {0} receives")]
    Filtered(String),
    /// The interface is promiscuous.
    #[error(
        "{0} is promiscuous: a capture, a virtual machine or the like on this host receives all \
         of its frames"
    )]
    Capture(String),
    /// A firewall or the like.
    #[error(transparent)]
    Hook(#[from] HostHook),
    /// A multicast routing daemon.
    #[error("a multicast routing daemon of this host receives what it sends")]
    MulticastRouting,
    /// A program on this host has joined the group on the interface.
    #[error("a program on this host receives the group on {0}")]
    LocalMember(String),
    /// The kernel did not answer, or refused; the text says what.
    #[error("{0}")]
    Refused(String),
}
