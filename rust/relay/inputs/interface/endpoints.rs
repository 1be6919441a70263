//! The sockets for single addresses and ports of an interface: those from which the engine receives,
//! and helpers that make the kernel merge or keep it from answering with ICMP errors. This module
//! must not depend on rules.

use std::sync::Arc;

use super::{InputInterface, check_buffer, socket_drops};
use crate::addr::Addr;
use crate::engine::buffers::SizeClass;
use crate::engine::ingress::Delivery;
use crate::engine::plan::Source;
use crate::error::Result;
use crate::relay::inputs::gro_ports::{GroRequest, gro_helper, warn_on_error};
use crate::relay::warn_once;
use crate::sockets::provider::{HelperSocket, SocketProvider};
use crate::sockets::{InterfaceRef, udp_input};
use crate::spec::InputSpec;

/// An address and port of an interface.
pub(in crate::relay) struct Endpoint {
    /// The source list of each rule for it; empty for any source.
    pub(in crate::relay) source_lists: Vec<Box<[Addr]>>,
    pub(in crate::relay) socket: EndpointSocket,
    /// Whether the kernel merges its datagrams.
    pub(in crate::relay) merge: GroRequest,
}

pub(in crate::relay) enum EndpointSocket {
    /// With `packet`: a helper that makes the kernel merge (`merges`), or else keeps it from
    /// answering with ICMP errors. Nothing is received from it.
    Helper { socket: Option<HelperSocket>, merges: bool },
    /// With `udp`: the socket from which the engine receives.
    Datagrams { source: Source, worker: u16, helper: Option<HelperSocket> },
}

impl Endpoint {
    /// An endpoint without rules, for which the kernel does not merge.
    pub(in crate::relay) fn new(socket: EndpointSocket) -> Self {
        Self { source_lists: Vec::new(), socket, merge: GroRequest::default() }
    }
}

impl EndpointSocket {
    /// The helper that decides about merging.
    pub(in crate::relay) fn helper(&self) -> Option<&HelperSocket> {
        match self {
            Self::Helper { socket, .. } | Self::Datagrams { helper: socket, .. } => socket.as_ref(),
        }
    }
}

impl InputInterface {
    /// Whether any rule has the address and port, for this interface or for all.
    pub(in crate::relay) fn has_endpoint(&self, address: Addr, port: u16) -> bool {
        [false, true]
            .iter()
            .any(|everywhere| self.endpoints.contains_key(&(address, port, *everywhere)))
    }

    /// Whether any rule has the port on an address of this host.
    pub(in crate::relay) fn has_local_port(&self, v4: bool, port: u16) -> bool {
        self.endpoints.keys().any(|&(address, number, _)| {
            number == port && address.is_v4() == v4 && !address.is_multicast()
        })
    }

    /// With `packet`: opens the helper of an input. Without it the relay is slower or the kernel
    /// answers with ICMP errors, so an error is only a warning.
    pub(in crate::relay) fn open_helper(
        &self,
        input: &InputSpec,
        is_beside_own: bool,
        provider: &dyn SocketProvider,
        warnings: &mut Vec<String>,
    ) -> EndpointSocket {
        let target = InterfaceRef { index: input.ifindex, name: &input.interface };
        let (group, port) = (input.group, input.port);
        let merges = group.is_multicast() || input.broadcast;
        let socket = if !merges {
            let opened = provider.port_guard(group, port, &target, is_beside_own);
            warn_on_error(group, port, opened, warnings).flatten()
        } else if self.gro || self.is_upper {
            gro_helper(input, self.is_upper, provider, warnings)
        } else {
            None
        };
        EndpointSocket::Helper { socket, merges }
    }

    /// With `packet`: opens a socket that receives what arrives for an address of this host on other
    /// interfaces, since frames on its own interface are received by AF_PACKET. Of two sockets the
    /// kernel prefers the one that is bound to the interface: the helper, from which nothing is
    /// received.
    pub(in crate::relay) fn open_everywhere(
        &self,
        input: &InputSpec,
        receiver: (u64, u16),
        is_beside_own: bool,
        provider: &dyn SocketProvider,
        warnings: &mut Vec<String>,
    ) -> EndpointSocket {
        let opened = self.open_datagrams(input, receiver, is_beside_own, provider, warnings);
        let helper = self.open_helper(input, is_beside_own || opened.is_ok(), provider, warnings);
        match (opened, helper) {
            (
                Ok(EndpointSocket::Datagrams { source, worker, .. }),
                EndpointSocket::Helper { socket: Some(helper), .. },
            ) => EndpointSocket::Datagrams { source, worker, helper: Some(helper) },
            (opened, helper) => {
                let why = opened.err().map(|error| format!(": {error}")).unwrap_or_default();
                let InputSpec { group, interface, .. } = input;
                let text = format!(
                    "datagrams for {group} that arrive on other interfaces than {interface} are not \
                     received{why}"
                );
                warn_once(warnings, text);
                helper
            }
        }
    }

    /// Opens the socket from which the engine receives an input.
    ///
    /// # Errors
    /// The kernel's, such as a port that another program uses.
    pub(in crate::relay) fn open_datagrams(
        &self,
        input: &InputSpec,
        (id, worker): (u64, u16),
        is_beside_own: bool,
        provider: &dyn SocketProvider,
        warnings: &mut Vec<String>,
    ) -> Result<EndpointSocket> {
        let opened = provider.datagrams(&udp_input::UdpInputRequest {
            interface: InterfaceRef { index: input.ifindex, name: &input.interface },
            group: input.group,
            is_broadcast: input.broadcast,
            is_everywhere: input.everywhere,
            is_beside_own,
            port: input.port,
        })?;
        check_buffer(opened.receive_buffer_bytes, udp_input::RECEIVE_BUFFER_BYTES, warnings);
        let source = Source {
            id,
            fd: Arc::new(opened.socket),
            kind: Delivery::Datagram { group: input.group, port: input.port },
            ring: None,
            class: SizeClass::Super,
            interface: input.ifindex,
            slot: self.slot.index,
        };
        // The kernel merges on a lower interface, where it ignores the socket itself, which is bound
        // to this one.
        let helper = self.is_upper.then(|| gro_helper(input, true, provider, warnings)).flatten();
        Ok(EndpointSocket::Datagrams { source, worker, helper })
    }

    /// With `udp`: leaves the IPv4 groups and joins them again at once.
    pub(in crate::relay) fn rejoin(&self, provider: &dyn SocketProvider) -> Result<()> {
        for (&(group, ..), endpoint) in &self.endpoints {
            if let EndpointSocket::Datagrams { source, .. } = &endpoint.socket
                && group.is_multicast()
                && group.is_v4()
            {
                provider.leave_socket(&source.fd, self.index, group, &[]);
                for sources in &endpoint.source_lists {
                    provider.join_socket(&source.fd, self.index, group, sources)?;
                }
            }
        }
        Ok(())
    }

    /// Removes a rule's source list from its endpoint, and closes the endpoint with the last one.
    pub(in crate::relay) fn remove_source_list(
        &mut self,
        input: &InputSpec,
        provider: &dyn SocketProvider,
    ) {
        let key = (input.group, input.port, input.everywhere);
        let Some(endpoint) = self.endpoints.get_mut(&key) else { return };
        let position = endpoint.source_lists.iter().position(|sources| *sources == input.sources);
        position.map(|at| endpoint.source_lists.swap_remove(at));
        if let EndpointSocket::Datagrams { source, .. } = &endpoint.socket {
            if endpoint.source_lists.is_empty() {
                self.closed_drops += socket_drops(source);
                if input.group.is_multicast() {
                    // The engine closes the socket later. If the interface is recreated with the same
                    // index, that would end the membership of the next socket.
                    provider.leave_socket(&source.fd, input.ifindex, input.group, &[]);
                }
            } else if input.group.is_multicast() {
                leave_sources(source, input, &endpoint.source_lists, provider);
            }
        }
        if endpoint.source_lists.is_empty() {
            self.endpoints.remove(&key);
        }
    }
}

/// Ends the part of a socket's membership that only this input needed.
fn leave_sources(
    source: &Source,
    input: &InputSpec,
    left: &[Box<[Addr]>],
    provider: &dyn SocketProvider,
) {
    let any_left = left.iter().any(|sources| sources.is_empty());
    if input.sources.is_empty() && !any_left {
        let mut sources: Vec<Addr> = left.iter().flatten().copied().collect();
        sources.sort_unstable();
        sources.dedup();
        // If a limit prevents it, the membership remains for any source, and the engine drops the
        // rest.
        provider.narrow_socket(&source.fd, input.ifindex, input.group, &sources).ok();
    } else if !input.sources.is_empty() {
        let unwanted = |source: &&Addr| !left.iter().any(|sources| sources.contains(source));
        let unwanted: Vec<Addr> = input.sources.iter().filter(unwanted).copied().collect();
        if !unwanted.is_empty() {
            provider.leave_socket(&source.fd, input.ifindex, input.group, &unwanted);
        }
    }
}
