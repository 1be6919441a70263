//! How the kernel would send the copies of an output, if it relayed the rule.

use super::{LiveOutput, NetworkContext};
use crate::offload::{Obstacle, OutputPath};
use crate::relay::egress::way::SocketReason;
use crate::relay::offload::drivers::Drivers;
use crate::relay::offload::reason::EngineReason;
use crate::sockets::xdp::obstacle::XdpObstacle;

impl LiveOutput {
    /// The path of the copies at this time.
    ///
    /// # Errors
    /// Why the kernel cannot send them.
    pub(in crate::relay) fn kernel_path(
        &self,
        context: &NetworkContext<'_>,
        drivers: &Drivers<'_>,
    ) -> Result<OutputPath, EngineReason> {
        let is_host = !self.spec.address.is_multicast();
        let ifindex = match self.parked {
            Some(_) => return Err(Obstacle::NoDevice.into()),
            None if is_host => self.host_ifindex(context)?,
            None => self.spec.ifindex,
        };
        let link = context.links.get(ifindex).ok_or(Obstacle::NoDevice)?;
        if !link.carrier {
            return Err(EngineReason::NoCarrier(link.name.clone()));
        }
        let &(source, source_port) = self.endpoints.first().ok_or(Obstacle::NoDevice)?;
        let (mut has_rate, mut has_member) = (false, false);
        match context.egress.check_any_queue(link, &self.spec) {
            Err(XdpObstacle::Discipline { .. }) => has_rate = true,
            Err(XdpObstacle::LocalMember(_)) => has_member = true,
            checked => checked?,
        }
        let headers = u32::from(self.spec.ip_headers());
        Ok(OutputPath {
            ifindex: link.index,
            mtu: link.mtu.min(u32::from(self.max_segment) + headers),
            source_mac: link.mac.ok_or_else(|| XdpObstacle::NotEthernet(link.name.clone()))?,
            next_hop_mac: if is_host { self.next_hop_mac(context) } else { None },
            source,
            source_port,
            sends_xdp: drivers.sends_xdp(link.index),
            has_rate,
            has_member,
        })
    }

    /// The MAC address of the next hop. An unknown one is asked for again: while rules change, no
    /// notifications are read.
    fn next_hop_mac(&self, context: &NetworkContext<'_>) -> Option<[u8; 6]> {
        let known = self.destination_mac(context).ok();
        known.or_else(|| {
            context.routes.refresh_neighbour(self.route.as_ref()?).ok()?;
            self.destination_mac(context).ok()
        })
    }

    /// The interface by which routing hands the copies to a host.
    fn host_ifindex(&self, context: &NetworkContext<'_>) -> Result<u32, EngineReason> {
        self.check_route(context).map_err(|reason| match reason {
            SocketReason::Parked => Obstacle::NoDevice.into(),
            _ => EngineReason::Route(reason.to_string()),
        })
    }
}
