//! The purpose of a socket, as a key.

use super::messages::Request;
use crate::addr::Addr;
use crate::spec::OutputSpec;

/// The purpose of a socket: the same key in every incarnation of a worker.
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
    GroHelper {
        ifindex: u32,
        group: Addr,
        port: u16,
    },
    GroHelperAnywhere {
        group: Addr,
        port: u16,
    },
    GroHelperForPort {
        v4: bool,
        port: u16,
    },
    PortGuard {
        ifindex: u32,
        address: Addr,
        port: u16,
    },
    XdpLink {
        ifindex: u32,
    },
    /// The key of the output, and its specification without the interface's index, which changes.
    Output {
        key: u64,
        spec: OutputSpec,
    },
}

impl SocketKey {
    /// The key of a request for a helper.
    pub(super) fn of_helper(request: &Request) -> Option<Self> {
        Some(match request {
            Request::GroHelper { interface, group, port } => {
                Self::GroHelper { ifindex: interface.index, group: *group, port: *port }
            }
            Request::GroHelperAnywhere { group, port } => {
                Self::GroHelperAnywhere { group: *group, port: *port }
            }
            Request::GroHelperForPort { v4, port, .. } => {
                Self::GroHelperForPort { v4: *v4, port: *port }
            }
            Request::PortGuard { interface, address, port, .. } => {
                Self::PortGuard { ifindex: interface.index, address: *address, port: *port }
            }
            _ => return None,
        })
    }

    /// The interface that the socket depends on permanently.
    pub(super) fn ifindex(&self) -> Option<u32> {
        match *self {
            Self::Frames { ifindex }
            | Self::Datagrams { ifindex, .. }
            | Self::GroHelper { ifindex, .. }
            | Self::PortGuard { ifindex, .. }
            | Self::XdpLink { ifindex } => Some(ifindex),
            // Helpers for any interface depend on none, and an output can be connected again.
            Self::GroHelperAnywhere { .. }
            | Self::GroHelperForPort { .. }
            | Self::Output { .. } => None,
        }
    }
}
