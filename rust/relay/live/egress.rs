//! Whether an output can use AF_XDP, and the frames that it sends there.

use std::os::fd::AsFd;

use super::{LiveOutput, NetworkContext};
use crate::engine::plan::XdpLink;
use crate::error::Result;
use crate::packet::{EthernetHeader, Headers, group_mac};
use crate::relay::EgressMode;
use crate::relay::egress::frames::FrameFields;
use crate::relay::egress::links::XdpLinks;
use crate::relay::egress::way::{OutputWay, SocketReason};
use crate::sockets::InterfaceRef;
use crate::sockets::netlink::link::Link;
use crate::sockets::netlink::neighbours::NeighbourState;
use crate::sockets::netlink::routes::{Route, RoutePath};
use crate::sockets::output;
use crate::sockets::xdp::obstacle::XdpObstacle;
use crate::spec::Ttl;

/// Bytes of an Ethernet header.
const ETHERNET: u32 = 14;

impl LiveOutput {
    /// The way of the copies now.
    pub(in crate::relay) fn way(&self) -> OutputWay {
        self.frames.way()
    }

    /// The index of the interface with the links that it uses.
    pub(in crate::relay) fn link_ifindex(&self) -> Option<u32> {
        self.frames.link().map(|(ifindex, _)| ifindex)
    }

    /// Whether the kernel may allow or forbid AF_XDP at any time, for some causes without a
    /// notification.
    pub(in crate::relay) fn may_use_xdp(&self, egress: EgressMode) -> bool {
        let is_routed = || self.route.is_some_and(|route| route.is_to_a_host);
        self.check_spec(egress).is_ok() && (self.spec.address.is_multicast() || is_routed())
    }

    /// Lets the engines send frames, or has them return to the socket; returns whether that takes
    /// new plans.
    pub(in crate::relay) fn follow_egress(
        &mut self,
        context: &NetworkContext<'_>,
        links: &mut XdpLinks,
    ) -> bool {
        let opened = self.find_link(context).and_then(|link| {
            let interface = InterfaceRef { index: link.index, name: &link.name };
            let queues = context.egress.queues.clone();
            let open = links.open(interface, queues, context.provider)?;
            let neighbour = self.destination_mac(context);
            let fields = self.frame_fields(open, link, &neighbour, context.egress.choice)?;
            Ok((link.index, fields, neighbour.err()))
        });
        match opened {
            Ok((ifindex, fields, None)) => self.frames.open(ifindex, fields),
            Ok((ifindex, fields, Some(reason))) => self.frames.wait(ifindex, fields, reason),
            // The link stays until the reason has ended: without rights there is no other.
            Err(reason) if self.frames.link().is_some_and(|(index, id)| links.has(index, id)) => {
                self.frames.close(reason);
                false
            }
            Err(reason) => self.frames.remove(reason),
        }
    }

    /// Checks that the output can use AF_XDP if it has to. A parked one may wait.
    ///
    /// # Errors
    /// Why it cannot, with a remedy.
    pub(in crate::relay) fn check_egress(&self, egress: EgressMode) -> Result<()> {
        match self.frames.reason() {
            None => Ok(()),
            Some(reason) if reason.is_passing() => Ok(()),
            Some(reason) if egress == EgressMode::Xdp => Err(reason.refusal(&self.spec)),
            Some(_) => Ok(()),
        }
    }

    /// The interface, if copies may leave it as frames.
    fn find_link<'a>(
        &self,
        context: &NetworkContext<'a>,
    ) -> std::result::Result<&'a Link, SocketReason> {
        self.check_spec(context.egress.choice)?;
        if self.parked.is_some() {
            return Err(SocketReason::Parked);
        }
        let ifindex = if self.spec.address.is_multicast() {
            self.spec.ifindex
        } else {
            self.check_route(context)?
        };
        let link = context.links.get(ifindex).ok_or(SocketReason::Parked)?;
        context.egress.check(link, &self.spec)?;
        Ok(link)
    }

    /// What the rule itself decides.
    fn check_spec(&self, egress: EgressMode) -> std::result::Result<(), SocketReason> {
        if egress == EgressMode::Socket {
            return Err(SocketReason::Chosen);
        }
        if !self.spec.address.is_multicast() && self.spec.address_bits != 0 {
            return Err(SocketReason::HostBlock);
        }
        if self.spec.priority.is_some() {
            return Err(SocketReason::Priority);
        }
        let may_wait = self.spec.rate.is_some_and(|rate| rate.queue_us > 0);
        if may_wait { Err(SocketReason::Queue) } else { Ok(()) }
    }

    /// The interface by which routing hands the copies to a host, if it does no more than that.
    pub(super) fn check_route(
        &self,
        context: &NetworkContext<'_>,
    ) -> std::result::Result<u32, SocketReason> {
        let Some(route) = self.route else { return Err(SocketReason::Parked) };
        if !route.is_to_a_host {
            let is_local = context.links.is_local(self.spec.address);
            return Err(if is_local { SocketReason::ThisHost } else { SocketReason::Broadcast });
        }
        match route.path {
            RoutePath::Several => Err(SocketReason::Route("has several next hops for it")),
            RoutePath::Encapsulated => Err(SocketReason::Route("encapsulates its datagrams")),
            // As with a VRF.
            RoutePath::Single if ![0, route.ifindex].contains(&self.spec.ifindex) => {
                Err(SocketReason::Route("leads through two interfaces"))
            }
            RoutePath::Single => Ok(route.ifindex),
        }
    }

    /// The MAC address that copies are sent to.
    ///
    /// A frame that passes the network stack by does not make the kernel confirm the address, as a
    /// datagram would. So it is asked to once the entry is stale; where that is not permitted, the
    /// copies take the socket until one of them has done it.
    pub(super) fn destination_mac(
        &self,
        context: &NetworkContext<'_>,
    ) -> std::result::Result<[u8; 6], SocketReason> {
        let Some(route) = self.route.filter(|_| !self.spec.address.is_multicast()) else {
            return Ok(group_mac(self.spec.address));
        };
        let unknown = || SocketReason::NoNeighbour(route.next_hop);
        let mut neighbour = context.routes.neighbour(&route).map_err(|_| unknown())?;
        if neighbour.state == NeighbourState::Stale {
            if let Some(socket) = self.sockets.first() {
                context.provider.resolve_host(socket, &self.spec).ok();
            }
            neighbour = context.routes.refresh_neighbour(&route).map_err(|_| unknown())?;
        }
        let is_known = neighbour.state == NeighbourState::Known;
        neighbour.mac.filter(|_| is_known).ok_or_else(unknown)
    }

    /// The frames on the link of each engine, with the source of the engine's socket.
    fn frame_fields(
        &self,
        links: &[XdpLink],
        link: &Link,
        neighbour: &std::result::Result<[u8; 6], SocketReason>,
        egress: EgressMode,
    ) -> std::result::Result<Vec<FrameFields>, SocketReason> {
        let (spec, destination) = (&self.spec, self.spec.address);
        let source = link.mac.ok_or_else(|| XdpObstacle::NotEthernet(link.name.clone()))?;
        // Frames without a known destination are not used.
        let ethernet =
            EthernetHeader { destination: *neighbour.as_ref().unwrap_or(&[0; 6]), source };
        let ttl = match spec.ttl {
            Ttl::Set(ttl) => ttl,
            // A rewrite has it from the datagram.
            Ttl::Keep | Ttl::Decrement => 1,
        };
        let longest = self.longest_payload();
        let (port, dscp, forced) = (spec.port, spec.dscp.unwrap_or(0), egress == EgressMode::Xdp);
        let fields = links.iter().zip(&self.endpoints).map(|(link, &(source, source_port))| {
            let headers = Headers { source, destination, source_port, port, ttl, dscp };
            let room = link.shape.frame_bytes - ETHERNET - u32::from(spec.ip_headers());
            let max_payload = u16::try_from(room).unwrap_or(u16::MAX).min(longest);
            FrameFields { link: link.id, ethernet, headers, max_payload, forced }
        });
        let fields: Vec<FrameFields> = fields.collect();
        // A socket that is connected to nothing has no source.
        if fields.len() == links.len() { Ok(fields) } else { Err(SocketReason::Parked) }
    }

    /// The largest payload in bytes that fits a frame all along the path. Routers report to the
    /// socket that an IPv6 datagram is too big, also if it left as a frame; those of IPv4 divide it.
    fn longest_payload(&self) -> u16 {
        let is_reported = |route: &Route| !self.spec.address.is_v4() && route.is_to_a_host;
        let socket = self.sockets.first().filter(|_| self.route.as_ref().is_some_and(is_reported));
        let path = socket.and_then(|it| output::path_segment(it.as_fd(), &self.spec).ok());
        path.unwrap_or(self.max_segment).min(self.max_segment)
    }
}
