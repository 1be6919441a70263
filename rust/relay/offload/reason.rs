//! Why the engine relays a rule: the closed list.

use std::fmt;

use super::way::RuleWay;
use crate::addr::Addr;
use crate::error::{Error, MissingRight};
use crate::offload::Obstacle;
use crate::sockets::xdp::hooks::HostHook;
use crate::sockets::xdp::obstacle::XdpObstacle;

/// Why the engine relays a rule, in a sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::relay) enum EngineReason {
    /// It is disabled.
    #[error("the rule is disabled")]
    Disabled,
    /// Its input is not open.
    #[error("its input waits for an interface")]
    Waiting,
    /// The engine may still have datagrams of it, which others must not overtake.
    #[error("it is waiting for a pause of the stream")]
    Pause,
    /// A capture or a trace is to see its datagrams.
    #[error("a capture or a trace records its datagrams, which the kernel would not")]
    Tap,
    /// The engine is faster.
    #[error("its datagrams have equal sizes, which the engine sends faster, in batches")]
    Batches,
    /// The rule itself, or the way of its outputs.
    #[error("{0}")]
    Rule(Obstacle),
    /// The route to an output's host.
    #[error("{0}")]
    Route(String),
    /// An output's interface has no carrier.
    #[error("{0} has no carrier")]
    NoCarrier(String),
    /// Something on the way of an output's copies that frames of XDP would miss.
    #[error(transparent)]
    Bypass(#[from] XdpObstacle),
    /// Another rule has the same group and port.
    #[error(
        "another rule for the same group and port receives the same datagrams, or cannot be \
         relayed in the kernel"
    )]
    SharedInput,
    /// Something above the input's interface is to get the same frames.
    #[error("{0} receives for {1}, which would get nothing any more")]
    Upper(String, String),
    /// Another program on this host is a member of the input's group.
    #[error("another program on this host receives {0} on {1}, and would get nothing any more")]
    Listener(Addr, String),
    /// Several processes relay.
    #[error("several worker processes share the rules (--workers)")]
    Processes,
    /// The input's interface.
    #[error("{0}")]
    Hook(String),
    /// Rights are missing.
    #[error("{0}")]
    Rights(MissingRight),
    /// The kernel refused something else.
    #[error("{0}")]
    Refused(String),
}

impl From<Obstacle> for EngineReason {
    fn from(obstacle: Obstacle) -> Self {
        Self::Rule(obstacle)
    }
}

impl EngineReason {
    /// The name in reports.
    pub(in crate::relay) const fn name(&self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Waiting => "waiting",
            Self::Pause => "pause",
            Self::Tap => "tap",
            Self::Batches => "batches",
            Self::Rule(obstacle) => obstacle.name(),
            Self::Route(_) => "route",
            Self::NoCarrier(_) => "no_carrier",
            Self::Bypass(obstacle) => bypass_name(obstacle),
            Self::SharedInput => "shared_input",
            Self::Upper(..) => "upper",
            Self::Listener(..) => "listener",
            Self::Processes => "processes",
            Self::Hook(_) => "hook",
            Self::Rights(_) => "rights",
            Self::Refused(_) => "refused",
        }
    }

    /// The way that it stands for.
    pub(in crate::relay) const fn way(&self) -> RuleWay {
        RuleWay::Engine(self.name())
    }

    /// Whether it ends by itself, so that a rule which has to be relayed in the kernel is accepted.
    pub(in crate::relay) const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Disabled
                | Self::Waiting
                | Self::Pause
                | Self::Tap
                | Self::Batches
                | Self::NoCarrier(_)
                | Self::Rule(Obstacle::NoDevice | Obstacle::NoNeighbour)
                | Self::Bypass(XdpObstacle::Down(_) | XdpObstacle::Removed)
        )
    }

    /// The refusal of a rule that has to be relayed in the kernel.
    pub(in crate::relay) fn refusal(&self) -> Error {
        const INSTEAD: &str = "use offload auto (--offload auto), with which the engine relays it";
        let refused = |why: &dyn fmt::Display| format!("it cannot be relayed in the kernel: {why}");
        match self {
            Self::Rights(right) => Error::Permission(MissingRight {
                sentence: refused(&right.sentence),
                alternative: Some(INSTEAD.into()),
                ..right.clone()
            }),
            Self::Bypass(XdpObstacle::Hook(HostHook::Unreadable(_))) => {
                Error::Permission(format!("{}; {INSTEAD}", refused(self)).into())
            }
            _ => Error::Invalid(format!("{}; {INSTEAD}", refused(self))),
        }
    }
}

const fn bypass_name(obstacle: &XdpObstacle) -> &'static str {
    match obstacle {
        XdpObstacle::Removed => "no_device",
        XdpObstacle::NotEthernet(_) => "not_ethernet",
        XdpObstacle::Down(_) => "down",
        XdpObstacle::Discipline { .. } => "rate",
        XdpObstacle::Filter(_) | XdpObstacle::Filtered(_) => "filter",
        XdpObstacle::Capture(_) => "capture",
        XdpObstacle::Hook(HostHook::Unreadable(_)) => "unknown_firewall",
        XdpObstacle::Hook(_) => "firewall",
        XdpObstacle::MulticastRouting => "multicast_routing",
        XdpObstacle::LocalMember(_) => "member",
        XdpObstacle::NoQueue { .. } | XdpObstacle::QueueInUse(_) | XdpObstacle::Refused(_) => {
            "refused"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own_list() {
        let text = String::new;
        let bypassed = [
            XdpObstacle::Removed,
            XdpObstacle::NotEthernet(text()),
            XdpObstacle::Down(text()),
            XdpObstacle::Discipline { interface: text(), kind: text() },
            XdpObstacle::Filter(text()),
            XdpObstacle::Hook(HostHook::Policy),
            XdpObstacle::Hook(HostHook::Unreadable(text())),
            XdpObstacle::MulticastRouting,
            XdpObstacle::LocalMember(text()),
            XdpObstacle::Refused(text()),
            XdpObstacle::Filtered(text()),
            XdpObstacle::Capture(text()),
        ];
        let own = [
            EngineReason::Disabled,
            EngineReason::Waiting,
            EngineReason::Pause,
            EngineReason::Tap,
            EngineReason::Batches,
            EngineReason::Route(text()),
            EngineReason::NoCarrier(text()),
            EngineReason::SharedInput,
            EngineReason::Upper(text(), text()),
            EngineReason::Listener(Addr::v4([239, 1, 1, 1]), text()),
            EngineReason::Processes,
            EngineReason::Hook(text()),
            EngineReason::Rights(text().into()),
            EngineReason::Refused(text()),
        ];
        let all = own.into_iter().chain(bypassed.map(EngineReason::Bypass));
        let all = all.chain(Obstacle::ALL.map(EngineReason::Rule));
        let names = all.map(|reason| reason.name()).chain(["off"]);
        let names: BTreeSet<&str> = names.collect();
        assert_eq!(names, BTreeSet::from(RuleWay::REASONS));
        for way in names.into_iter().map(RuleWay::Engine).chain([RuleWay::Kernel]) {
            assert_eq!(RuleWay::from_word(way.to_word()), Some(way));
        }
        assert_eq!([0, 2 + 34, u64::MAX].map(RuleWay::from_word), [None; 3]);
    }
}
