//! What decides on the way of outputs beside the outputs themselves. Each look at all outputs reads
//! it once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::relay::network::watch::Watch;
use crate::relay::{EgressMode, Settings};
use crate::sockets::InterfaceRef;
use crate::sockets::netlink::groups::InterfaceGroups;
use crate::sockets::netlink::link::Link;
use crate::sockets::provider::SocketProvider;
use crate::sockets::xdp::obstacle::XdpObstacle;
use crate::sockets::xdp::survey::XdpSurvey;
use crate::spec::OutputSpec;

/// One look at the interfaces of outputs.
pub(in crate::relay) struct EgressContext<'a> {
    /// The user's choice.
    pub(in crate::relay) choice: EgressMode,
    /// The transmit queue of each engine of this process.
    pub(in crate::relay) queues: Range<u32>,
    /// The last queue that an engine needs, in whatever process it is.
    last_queue: u32,
    provider: &'a dyn SocketProvider,
    watch: &'a Watch,
    survey: &'a XdpSurvey,
    /// By interface and IP version: why no output can use it.
    obstacles: RefCell<BTreeMap<(u32, bool), Option<XdpObstacle>>>,
    /// By interface and IP version: the groups that this host is a member of.
    groups: RefCell<BTreeMap<(u32, bool), Option<InterfaceGroups>>>,
}

impl<'a> EgressContext<'a> {
    pub(in crate::relay) fn new(
        settings: &Settings,
        provider: &'a dyn SocketProvider,
        watch: &'a Watch,
        survey: &'a XdpSurvey,
    ) -> Self {
        let engines = u32::from(settings.workers);
        let first = u32::from(settings.share.number) * engines;
        Self {
            choice: settings.egress,
            queues: first..first + engines,
            last_queue: u32::from(settings.share.of) * engines - 1,
            provider,
            watch,
            survey,
            obstacles: RefCell::default(),
            groups: RefCell::default(),
        }
    }

    /// Checks that frames which pass the network stack by miss nothing there.
    ///
    /// # Errors
    /// What they would miss.
    pub(in crate::relay) fn check(
        &self,
        link: &Link,
        spec: &OutputSpec,
    ) -> Result<(), XdpObstacle> {
        let is_v4 = spec.address.is_v4();
        let mut obstacles = self.obstacles.borrow_mut();
        let obstacle = obstacles.entry((link.index, is_v4)).or_insert_with(|| {
            let interface = InterfaceRef { index: link.index, name: &link.name };
            let hooks = self.provider.egress_hooks(&interface);
            self.survey.obstacle(link, self.last_queue, is_v4, &hooks)
        });
        if let Some(obstacle) = obstacle {
            return Err(obstacle.clone());
        }
        let is_looped = spec.multicast_loop && spec.address.is_multicast();
        if is_looped { self.check_members(link, spec) } else { Ok(()) }
    }

    /// Members on this host get no frame that passes the network stack by.
    fn check_members(&self, link: &Link, spec: &OutputSpec) -> Result<(), XdpObstacle> {
        let is_v4 = spec.address.is_v4();
        let mut groups = self.groups.borrow_mut();
        let asked = groups.entry((link.index, is_v4));
        let Some(groups) = asked.or_insert_with(|| self.watch.groups(is_v4, link.index)) else {
            let text = "the kernel does not list the groups that this host receives";
            return Err(XdpObstacle::Refused(text.to_owned()));
        };
        let has_member = match spec.address_bits {
            0 => groups.contains(&(link.index, spec.address)),
            bits => groups.iter().any(|(index, group)| {
                *index == link.index && group.block(bits) == spec.address.block(bits)
            }),
        };
        if has_member { Err(XdpObstacle::LocalMember(link.name.clone())) } else { Ok(()) }
    }
}
