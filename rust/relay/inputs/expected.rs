//! The calls by which an input will be opened.

use super::{Home, Ingress, InputSpec, Inputs, LinkTable, endpoints};
use crate::sockets::netlink::link::Link;
use crate::sockets::provider::ExpectedCall;

impl Inputs {
    /// The memberships that adding an input will request.
    pub(in crate::relay) fn expected_joins(
        &self,
        input: &InputSpec,
    ) -> impl Iterator<Item = ExpectedCall> {
        let joined = self.joins_groups(input).then(|| input.groups());
        joined.into_iter().flatten().map(|group| ExpectedCall::Join {
            interface: (input.ifindex, input.interface.clone()),
            group,
            sources: input.sources.clone(),
        })
    }

    /// Whether inputs on the link have helpers of their own.
    pub(in crate::relay) fn helps(&self, link: &Link, links: &LinkTable) -> bool {
        self.ingress == Ingress::Packet && !links.is_upper(link.index) && self.merges(&link.name)
    }

    /// The sockets that adding an input will request, if no other rule has them; `is_helped` says
    /// what [`Inputs::helps`] does of its link.
    pub(in crate::relay) fn expected_endpoints(
        &self,
        (input, home): (&InputSpec, Option<Home>),
        is_helped: bool,
    ) -> Vec<ExpectedCall> {
        if !input.group.is_multicast() || self.ingress == Ingress::Packet && !is_helped {
            return Vec::new();
        }
        let opened = endpoints::list(input, home, self.ingress, &self.share).into_iter();
        let opened = opened.filter(|&InputSpec { group, port, everywhere, .. }| {
            let known = self.interfaces.get(&input.interface);
            !known.is_some_and(|it| it.endpoints.contains_key(&(group, port, everywhere)))
        });
        let interface = || (input.ifindex, input.interface.clone());
        let call = |endpoint: InputSpec| match self.ingress {
            Ingress::Packet => ExpectedCall::GroHelper {
                interface: interface(),
                group: endpoint.group,
                port: endpoint.port,
            },
            Ingress::Udp => ExpectedCall::Datagrams {
                interface: interface(),
                group: endpoint.group,
                port: endpoint.port,
            },
        };
        opened.map(call).collect()
    }
}
