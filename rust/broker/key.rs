//! What a socket is for. It must not know the socket, nor who has it.

use super::messages::Request;
use crate::addr::Addr;
use crate::spec::OutputSpec;

/// What a socket is for: the same words in every incarnation of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum SocketKey {
    Frames {
        ifindex: u32,
    },
    Datagrams {
        ifindex: u32,
        group: Addr,
        port: u16,
        is_broadcast: bool,
        is_everywhere: bool,
    },
    Merger {
        ifindex: u32,
        group: Addr,
        port: u16,
    },
    MergerAnywhere {
        group: Addr,
        port: u16,
    },
    MergerForAny {
        v4: bool,
        port: u16,
    },
    Holder {
        ifindex: u32,
        address: Addr,
        port: u16,
    },
    /// The specification is without the interface's index, which changes.
    Output {
        rule: String,
        number: u16,
        spec: OutputSpec,
    },
}

impl SocketKey {
    /// Of a request for a helper.
    pub(super) fn of_helper(request: &Request) -> Option<Self> {
        Some(match request {
            Request::Merger { interface, group, port } => {
                Self::Merger { ifindex: interface.index, group: *group, port: *port }
            }
            Request::MergerAnywhere { group, port } => {
                Self::MergerAnywhere { group: *group, port: *port }
            }
            Request::MergerForAny { v4, port, .. } => Self::MergerForAny { v4: *v4, port: *port },
            Request::Holder { interface, address, port, .. } => {
                Self::Holder { ifindex: interface.index, address: *address, port: *port }
            }
            _ => return None,
        })
    }

    /// The interface that the socket stands on for good.
    pub(super) fn ifindex(&self) -> Option<u32> {
        match *self {
            Self::Frames { ifindex }
            | Self::Datagrams { ifindex, .. }
            | Self::Merger { ifindex, .. }
            | Self::Holder { ifindex, .. } => Some(ifindex),
            // These stand on none, an output is connected anew.
            Self::MergerAnywhere { .. } | Self::MergerForAny { .. } | Self::Output { .. } => None,
        }
    }
}
