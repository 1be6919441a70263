//! The provider that opens sockets in this process, in the calling thread's network namespace and
//! with its privileges.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::closer::Closer;
use super::filter::Pin;
use super::joins::Joins;
use super::netlink::netfilter::Direction;
use super::netlink::routes;
use super::output::{self, OutputSocket};
use super::packet::{self, PacketSocket, SpareSockets};
use super::provider::{
    HelperSocket, OutputHandle, PacketSocketHandle, PacketSocketRequest, Socket, SocketProvider,
    UdpInputHandle, XdpLinkHandle, XdpLinkRequest,
};
use super::xdp::hooks::{HookReader, HostHooks};
use super::xdp::link;
use super::xdp::obstacle::XdpObstacle;
use super::{InterfaceRef, gro_helper, igmp_query, udp_input};
use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::spec::OutputSpec;
use crate::sys::packet_ring::PacketRing;

/// The state of the provider besides the sockets that it has handed out.
#[derive(Debug, Default)]
pub struct LocalProvider {
    joins: Mutex<Joins>,
    spares: Mutex<SpareSockets>,
    hooks: Mutex<HookReader>,
    closer: Closer,
}

impl LocalProvider {
    /// Creates a provider without open sockets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Drop for LocalProvider {
    /// Waits until all sockets are closed.
    fn drop(&mut self) {
        self.closer.finish();
    }
}

impl SocketProvider for LocalProvider {
    fn frames(&self, request: &PacketSocketRequest<'_>) -> Result<Vec<PacketSocketHandle>> {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        let group =
            packet::open_group(&request.interface, request.sockets, request.ring, &mut spares)?;
        let map = |socket: PacketSocket| {
            let ring = socket.ring.map(|shape| PacketRing::map(socket.fd.as_fd(), shape));
            let ring = ring.transpose();
            Ok(PacketSocketHandle {
                ring: ring
                    .map_err(|e| Error::os("mapping a packet ring", request.interface.name, e))?,
                socket: Socket::closed_by(socket.fd, self.closer.clone()),
                receive_buffer_bytes: socket.receive_buffer_bytes,
                vnet_hdr: socket.vnet_hdr,
                lost_frames: 0,
            })
        };
        let frames = group.into_iter().map(map).collect::<Result<Vec<_>>>()?;
        for handle in &frames {
            packet::replace_filter(handle.socket.as_fd(), request.blocks)?;
        }
        Ok(frames)
    }

    fn replace_filter(&self, socket: &Socket, blocks: &[(Addr, u8)]) -> Result<()> {
        packet::replace_filter(socket.as_fd(), blocks)
    }

    fn pin(&self, socket: &Socket, pins: &[Pin]) -> Result<()> {
        packet::pin(socket.as_fd(), pins)
    }

    fn take_all_multicast(
        &self,
        socket: &Socket,
        interface: &InterfaceRef<'_>,
        on: bool,
    ) -> Result<()> {
        packet::take_all_multicast(socket.as_fd(), interface, on)
    }

    fn join(&self, interface: &InterfaceRef<'_>, group: Addr, sources: &[Addr]) -> Result<()> {
        let mut joins = self.joins.lock().unwrap_or_else(PoisonError::into_inner);
        joins.join(interface.index, interface.name, group, sources)
    }

    fn leave(&self, ifindex: u32, group: Addr, sources: &[Addr]) {
        let mut joins = self.joins.lock().unwrap_or_else(PoisonError::into_inner);
        // It was joined with the same arguments, so leaving cannot be refused.
        joins.leave(ifindex, group, sources).ok();
    }

    fn announce(&self, interface: &InterfaceRef<'_>) -> Result<()> {
        igmp_query::ask(interface)
    }

    fn gro_helper(
        &self,
        group: Addr,
        port: u16,
        interface: &InterfaceRef<'_>,
    ) -> Result<HelperSocket> {
        gro_helper::open(group, port, interface).map(HelperSocket::from)
    }

    fn gro_helper_anywhere(&self, group: Addr, port: u16) -> Result<HelperSocket> {
        gro_helper::open_anywhere(group, port).map(HelperSocket::from)
    }

    fn gro_helper_for_port(
        &self,
        v4: bool,
        port: u16,
        is_beside_own: bool,
    ) -> Result<Option<HelperSocket>> {
        Ok(gro_helper::open_for_any(v4, port, is_beside_own)?.map(HelperSocket::from))
    }

    fn merge(&self, helper: &HelperSocket, on: bool) -> Result<()> {
        helper.fd().map_or(Ok(()), |fd| gro_helper::merge(fd, on))
    }

    fn port_guard(
        &self,
        address: Addr,
        port: u16,
        interface: &InterfaceRef<'_>,
        is_beside_own: bool,
    ) -> Result<Option<HelperSocket>> {
        Ok(gro_helper::port_guard(address, port, interface.index, is_beside_own)?
            .map(HelperSocket::from))
    }

    fn datagrams(&self, request: &udp_input::UdpInputRequest<'_>) -> Result<UdpInputHandle> {
        let input = udp_input::open(request)?;
        udp_input::enable_marks(input.fd.as_fd(), &request.interface, request.group)?;
        Ok(UdpInputHandle {
            socket: input.fd.into(),
            receive_buffer_bytes: input.receive_buffer_bytes,
        })
    }

    fn join_socket(
        &self,
        socket: &Socket,
        ifindex: u32,
        group: Addr,
        sources: &[Addr],
    ) -> Result<()> {
        udp_input::join(socket.as_fd(), ifindex, group, sources)
    }

    fn leave_socket(&self, socket: &Socket, ifindex: u32, group: Addr, sources: &[Addr]) {
        udp_input::leave(socket.as_fd(), ifindex, group, sources);
    }

    fn narrow_socket(
        &self,
        socket: &Socket,
        ifindex: u32,
        group: Addr,
        sources: &[Addr],
    ) -> Result<()> {
        udp_input::narrow(socket.as_fd(), ifindex, group, sources)
    }

    fn output(&self, _: u64, spec: &OutputSpec) -> Result<OutputHandle> {
        output::open(spec).map(OutputHandle::from)
    }

    fn prepare_output(&self, _: u64, spec: &OutputSpec) -> Result<OutputHandle> {
        output::prepare(spec).map(OutputHandle::from)
    }

    fn reconnect(&self, socket: &Socket, spec: &OutputSpec) -> Result<u16> {
        output::reconnect(socket.as_fd(), spec)
    }

    fn resolve_host(&self, _: &Socket, spec: &OutputSpec) -> Result<()> {
        routes::resolve_host(spec)
    }

    fn hooks(&self, interface: &InterfaceRef<'_>, of: Direction) -> HostHooks {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).read(interface, of)
    }

    fn xdp_link(
        &self,
        request: &XdpLinkRequest<'_>,
    ) -> std::result::Result<XdpLinkHandle, XdpObstacle> {
        let (opened, shape) = link::until_free(|| link::open(&request.interface, request.queue))?;
        let (socket, umem) = (Arc::new(opened.socket.into()), Arc::new(opened.umem));
        Ok(XdpLinkHandle { socket, umem, shape })
    }

    fn keep_spares(&self, count: usize) -> Result<()> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner).fill(count)
    }

    /// Sockets of an in-process relay end with it, so there is nothing to release.
    fn release_unclaimed(&self) -> Result<()> {
        Ok(())
    }
}

impl From<OutputSocket> for OutputHandle {
    fn from(socket: OutputSocket) -> Self {
        Self {
            socket: socket.fd.into(),
            send_buffer_bytes: socket.send_buffer_bytes,
            max_segment: socket.max_segment,
        }
    }
}
