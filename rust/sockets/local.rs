//! Opens sockets in this process, in the calling thread's network namespace and with its rights.
//! It must not know what they are for.

use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use super::closer::Closer;
use super::joins::Joins;
use super::netlink::routes;
use super::output::{self, OutputSocket};
use super::packet::{self, PacketSocket, Spares};
use super::provider::{Datagrams, Frames, FramesWish, Helper, Opener, Output, Owner, Socket};
use super::{InterfaceRef, gro_helper, igmp_query, udp_input};
use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::spec::OutputSpec;
use crate::sys::packet_ring::PacketRing;

/// What is open beside the sockets that were handed out.
#[derive(Debug, Default)]
pub struct Local {
    joins: Mutex<Joins>,
    spares: Mutex<Spares>,
    closer: Closer,
}

impl Local {
    /// Nothing is open yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Drop for Local {
    /// Nothing stays open behind it.
    fn drop(&mut self) {
        self.closer.finish();
    }
}

impl Opener for Local {
    fn frames(&self, wish: &FramesWish<'_>) -> Result<Vec<Frames>> {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        let group = packet::open_group(&wish.interface, wish.sockets, wish.ring, &mut spares)?;
        let mapped = |socket: PacketSocket| {
            let ring = socket.ring.map(|shape| PacketRing::map(socket.fd.as_fd(), shape));
            let ring = ring.transpose();
            Ok(Frames {
                ring: ring
                    .map_err(|e| Error::os("mapping a packet ring", wish.interface.name, e))?,
                socket: Socket::closed_by(socket.fd, self.closer.clone()),
                receive_buffer_bytes: socket.receive_buffer_bytes,
                vnet_hdr: socket.vnet_hdr,
                lost_frames: 0,
            })
        };
        let frames = group.into_iter().map(mapped).collect::<Result<Vec<_>>>()?;
        for each in &frames {
            packet::replace_filter(each.socket.as_fd(), wish.blocks)?;
        }
        Ok(frames)
    }

    fn replace_filter(&self, socket: &Socket, blocks: &[(Addr, u8)]) -> Result<()> {
        packet::replace_filter(socket.as_fd(), blocks)
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
        // It was joined in the same way, so there is nothing to refuse.
        joins.leave(ifindex, group, sources).ok();
    }

    fn announce(&self, interface: &InterfaceRef<'_>) -> Result<()> {
        igmp_query::ask(interface)
    }

    fn merger(&self, group: Addr, port: u16, interface: &InterfaceRef<'_>) -> Result<Helper> {
        gro_helper::open(group, port, interface).map(Helper::from)
    }

    fn merger_anywhere(&self, group: Addr, port: u16) -> Result<Helper> {
        gro_helper::open_anywhere(group, port).map(Helper::from)
    }

    fn merger_for_any(&self, v4: bool, port: u16, is_beside_own: bool) -> Result<Option<Helper>> {
        Ok(gro_helper::open_for_any(v4, port, is_beside_own)?.map(Helper::from))
    }

    fn merge(&self, helper: &Helper, on: bool) -> Result<()> {
        helper.fd().map_or(Ok(()), |fd| gro_helper::merge(fd, on))
    }

    fn holder(
        &self,
        address: Addr,
        port: u16,
        interface: &InterfaceRef<'_>,
        is_beside_own: bool,
    ) -> Result<Option<Helper>> {
        Ok(gro_helper::holder(address, port, interface.index, is_beside_own)?.map(Helper::from))
    }

    fn datagrams(&self, wish: &udp_input::Wish<'_>) -> Result<Datagrams> {
        let input = udp_input::open(wish)?;
        udp_input::tell_marks(input.fd.as_fd(), &wish.interface, wish.group)?;
        Ok(Datagrams { socket: input.fd.into(), receive_buffer_bytes: input.receive_buffer_bytes })
    }

    fn join_by(&self, socket: &Socket, ifindex: u32, group: Addr, sources: &[Addr]) -> Result<()> {
        udp_input::join(socket.as_fd(), ifindex, group, sources)
    }

    fn leave_by(&self, socket: &Socket, ifindex: u32, group: Addr, sources: &[Addr]) {
        udp_input::leave(socket.as_fd(), ifindex, group, sources);
    }

    fn narrow_by(
        &self,
        socket: &Socket,
        ifindex: u32,
        group: Addr,
        sources: &[Addr],
    ) -> Result<()> {
        udp_input::narrow(socket.as_fd(), ifindex, group, sources)
    }

    fn output(&self, _: &Owner<'_>, spec: &OutputSpec) -> Result<Output> {
        output::open(spec).map(Output::from)
    }

    fn prepare_output(&self, _: &Owner<'_>, spec: &OutputSpec) -> Result<Output> {
        output::prepare(spec).map(Output::from)
    }

    fn reconnect(&self, socket: &Socket, spec: &OutputSpec) -> Result<u16> {
        output::reconnect(socket.as_fd(), spec)
    }

    fn seek_host(&self, _: &Socket, spec: &OutputSpec) -> Result<()> {
        routes::seek_host(spec)
    }

    fn keep_spares(&self, count: usize) -> Result<()> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner).fill(count)
    }

    /// No relay was before: what one has in its own process ends with it.
    fn settled(&self) -> Result<()> {
        Ok(())
    }
}

impl From<OutputSocket> for Output {
    fn from(socket: OutputSocket) -> Self {
        Self {
            socket: socket.fd.into(),
            send_buffer_bytes: socket.send_buffer_bytes,
            max_segment: socket.max_segment,
        }
    }
}
