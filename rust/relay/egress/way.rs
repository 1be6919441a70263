//! The way of an output's copies, with the reason if it is the socket.

use crate::addr::Addr;
use crate::error::Error;
use crate::sockets::xdp::hooks::HostHook;
use crate::sockets::xdp::obstacle::XdpObstacle;
use crate::spec::OutputSpec;

/// How the copies of an output leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputWay {
    /// Through an AF_XDP socket.
    Xdp,
    /// Through the output's own socket, for a reason with this name: one of
    /// [`SocketReason::NAMES`].
    Socket(&'static str),
}

/// Why the copies of an output leave through its own socket: a sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketReason {
    /// The option `egress`.
    #[error("egress is socket")]
    Chosen,
    /// The datagrams form batches, or are few.
    #[error("its datagrams form batches, or are few")]
    Batches,
    /// Nothing can be sent.
    #[error("it is parked")]
    Parked,
    /// It sends to an address of this host.
    #[error("it sends to this host, which no frame would reach")]
    ThisHost,
    /// It sends to a broadcast address.
    #[error("it sends to a broadcast address, which programs on this host may receive too")]
    Broadcast,
    /// It sends to a block of hosts.
    #[error("it sends to a block of hosts, each with a MAC address of its own")]
    HostBlock,
    /// Routing does more than hand its datagrams to one host.
    #[error("routing {0}, which an XDP link would not do")]
    Route(&'static str),
    /// The MAC address of its next hop is not known, or has to be confirmed.
    #[error("the MAC address of {0} is not known, or has to be confirmed")]
    NoNeighbour(Addr),
    /// It has a priority, for a queueing discipline.
    #[error("it has a priority for a queueing discipline, which an XDP link would bypass")]
    Priority,
    /// What exceeds its rate may wait.
    #[error("what exceeds its rate may wait, for which an XDP link has no place")]
    Queue,
    /// Its interface.
    #[error(transparent)]
    Obstacle(#[from] XdpObstacle),
}

impl SocketReason {
    /// The names of all reasons. Pages of counters contain their positions.
    pub const NAMES: [&str; 22] = [
        "batches",
        "chosen",
        "parked",
        "this_host",
        "broadcast",
        "host_block",
        "route",
        "no_neighbour",
        "priority",
        "queue",
        "removed",
        "not_ethernet",
        "down",
        "no_queue",
        "queue_in_use",
        "discipline",
        "filter",
        "firewall",
        "unknown_firewall",
        "multicast_routing",
        "local_member",
        "refused",
    ];

    /// The name in reports.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Chosen => "chosen",
            Self::Batches => "batches",
            Self::Parked => "parked",
            Self::ThisHost => "this_host",
            Self::Broadcast => "broadcast",
            Self::HostBlock => "host_block",
            Self::Route(_) => "route",
            Self::NoNeighbour(_) => "no_neighbour",
            Self::Priority => "priority",
            Self::Queue => "queue",
            Self::Obstacle(obstacle) => obstacle_name(obstacle),
        }
    }

    /// Whether it ends by itself, so that an output that has to leave through an XDP link may wait.
    pub(in crate::relay) const fn is_passing(&self) -> bool {
        matches!(self, Self::Parked | Self::NoNeighbour(_))
    }

    /// The refusal of an output that has to leave through an XDP link.
    #[must_use]
    pub fn refusal(&self, output: &OutputSpec) -> Error {
        let text = format!(
            "{output} cannot be sent through AF_XDP: {self}; use egress auto (--egress auto), \
             which sends it through a socket"
        );
        match self {
            Self::Obstacle(XdpObstacle::Hook(HostHook::Unreadable(_))) => {
                Error::Permission(text.into())
            }
            _ => Error::Invalid(text),
        }
    }
}

const fn obstacle_name(obstacle: &XdpObstacle) -> &'static str {
    match obstacle {
        XdpObstacle::Removed => "removed",
        XdpObstacle::NotEthernet(_) => "not_ethernet",
        XdpObstacle::Down(_) => "down",
        XdpObstacle::NoQueue { .. } => "no_queue",
        XdpObstacle::QueueInUse(_) => "queue_in_use",
        XdpObstacle::Discipline { .. } => "discipline",
        XdpObstacle::Filter(_) | XdpObstacle::Filtered(_) => "filter",
        XdpObstacle::Hook(HostHook::Unreadable(_)) => "unknown_firewall",
        XdpObstacle::Hook(_) => "firewall",
        XdpObstacle::MulticastRouting => "multicast_routing",
        XdpObstacle::LocalMember(_) => "local_member",
        // A capture on an input is no matter of its outputs.
        XdpObstacle::Refused(_) | XdpObstacle::Capture(_) => "refused",
    }
}

impl OutputWay {
    /// The way as a word of a counters page, which is never 0.
    #[must_use]
    pub fn to_word(self) -> u64 {
        let place = |name| SocketReason::NAMES.iter().position(|each| *each == name);
        match self {
            Self::Xdp => 1,
            Self::Socket(name) => place(name).map_or(0, |place| 2 + place as u64),
        }
    }

    /// The way in a word of a counters page; `None` if the word is 0 or invalid.
    #[must_use]
    pub fn from_word(word: u64) -> Option<Self> {
        match word.checked_sub(2) {
            Some(place) => {
                SocketReason::NAMES.get(usize::try_from(place).ok()?).copied().map(Self::Socket)
            }
            None => (word == 1).then_some(Self::Xdp),
        }
    }

    /// The way to show for several workers: `Xdp` if one of them uses it, else a reason that holds
    /// whatever the traffic.
    #[must_use]
    pub fn of_workers(ways: impl IntoIterator<Item = Self>) -> Option<Self> {
        let rank = |way: &Self| match way {
            Self::Xdp => 2,
            Self::Socket(name) => u8::from(*name != SocketReason::Batches.name()),
        };
        ways.into_iter().reduce(|one, other| if rank(&other) > rank(&one) { other } else { one })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word() {
        let obstacles = [
            XdpObstacle::Removed,
            XdpObstacle::NotEthernet(String::new()),
            XdpObstacle::Down(String::new()),
            XdpObstacle::NoQueue { interface: String::new(), queue: 1, queues: 1 },
            XdpObstacle::QueueInUse(0),
            XdpObstacle::Discipline { interface: String::new(), kind: String::new() },
            XdpObstacle::Filter(String::new()),
            XdpObstacle::Hook(HostHook::Program),
            XdpObstacle::Hook(HostHook::Unreadable(String::new())),
            XdpObstacle::MulticastRouting,
            XdpObstacle::LocalMember(String::new()),
            XdpObstacle::Refused(String::new()),
        ];
        let own = [
            SocketReason::Batches,
            SocketReason::Chosen,
            SocketReason::Parked,
            SocketReason::ThisHost,
            SocketReason::Broadcast,
            SocketReason::HostBlock,
            SocketReason::Route("shares"),
            SocketReason::NoNeighbour(Addr::v4([10, 0, 0, 1])),
            SocketReason::Priority,
            SocketReason::Queue,
        ];
        let all: Vec<&str> = (own.iter().map(SocketReason::name))
            .chain(obstacles.iter().map(obstacle_name))
            .collect();
        assert_eq!(all, SocketReason::NAMES);
        let ways = all.into_iter().map(OutputWay::Socket).chain([OutputWay::Xdp]);
        for way in ways {
            assert_eq!(OutputWay::from_word(way.to_word()), Some(way));
        }
        assert_eq!([0, 2 + 22, u64::MAX].map(OutputWay::from_word), [None; 3]);
    }
}
