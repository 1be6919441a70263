//! Whether an output can use AF_XDP, and the frames that it sends there.

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
        self.check_spec(egress).is_ok()
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
            Ok((link.index, self.frame_fields(open, link, context.egress.choice)?))
        });
        match opened {
            Ok((ifindex, fields)) => self.frames.open(ifindex, fields),
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
            None | Some(SocketReason::Parked) => Ok(()),
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
        let link = context.links.get(self.spec.ifindex).filter(|_| self.parked.is_none());
        let link = link.ok_or(SocketReason::Parked)?;
        context.egress.check(link, &self.spec)?;
        Ok(link)
    }

    /// What the rule itself decides.
    fn check_spec(&self, egress: EgressMode) -> std::result::Result<(), SocketReason> {
        if egress == EgressMode::Socket {
            return Err(SocketReason::Chosen);
        }
        if !self.spec.address.is_multicast() {
            return Err(SocketReason::NoGroup);
        }
        if self.spec.priority.is_some() { Err(SocketReason::Priority) } else { Ok(()) }
    }

    /// The frames on the link of each engine, with the source of the engine's socket.
    fn frame_fields(
        &self,
        links: &[XdpLink],
        link: &Link,
        egress: EgressMode,
    ) -> std::result::Result<Vec<FrameFields>, SocketReason> {
        let (spec, destination) = (&self.spec, self.spec.address);
        let source = link.mac.ok_or_else(|| XdpObstacle::NotEthernet(link.name.clone()))?;
        let ethernet = EthernetHeader { destination: group_mac(destination), source };
        let ttl = match spec.ttl {
            Ttl::Set(ttl) => ttl,
            // A rewrite has it from the datagram.
            Ttl::Keep | Ttl::Decrement => 1,
        };
        let (port, dscp, forced) = (spec.port, spec.dscp.unwrap_or(0), egress == EgressMode::Xdp);
        let fields = links.iter().zip(&self.endpoints).map(|(link, &(source, source_port))| {
            let headers = Headers { source, destination, source_port, port, ttl, dscp };
            let room = link.shape.frame_bytes - ETHERNET - u32::from(spec.ip_headers());
            let max_payload = u16::try_from(room).unwrap_or(u16::MAX).min(self.max_segment);
            FrameFields { link: link.id, ethernet, headers, max_payload, forced }
        });
        let fields: Vec<FrameFields> = fields.collect();
        // A socket that is connected to nothing has no source.
        if fields.len() == links.len() { Ok(fields) } else { Err(SocketReason::Parked) }
    }
}
