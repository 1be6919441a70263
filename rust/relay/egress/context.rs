//! What decides on the way of outputs beside the outputs themselves.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::readings::EgressReadings;
#[cfg(feature = "offload")]
use crate::relay::Ingress;
use crate::relay::network::watch::Watch;
use crate::relay::{EgressMode, Settings};
use crate::sockets::InterfaceRef;
use crate::sockets::netlink::link::Link;
use crate::sockets::netlink::netfilter::Direction;
use crate::sockets::provider::SocketProvider;
use crate::sockets::xdp::obstacle::XdpObstacle;
use crate::sockets::xdp::survey::XdpSurvey;
use crate::spec::OutputSpec;

/// How old a reading may be: the time after which all outputs are checked again.
const RECENT: Duration = Duration::from_secs(1);

/// One look at the interfaces of outputs.
pub(in crate::relay) struct EgressContext<'a> {
    /// The user's choice.
    pub(in crate::relay) choice: EgressMode,
    /// The transmit queue of each engine of this process.
    pub(in crate::relay) queues: Range<u32>,
    /// The last queue that an engine needs, in whatever process it is.
    last_queue: u32,
    #[cfg(feature = "offload")]
    ingress: Ingress,
    provider: &'a dyn SocketProvider,
    watch: &'a Watch,
    survey: &'a XdpSurvey,
    readings: &'a EgressReadings,
    start: Instant,
}

impl<'a> EgressContext<'a> {
    pub(in crate::relay) fn new(
        settings: &Settings,
        provider: &'a dyn SocketProvider,
        watch: &'a Watch,
        survey: &'a XdpSurvey,
        readings: &'a EgressReadings,
    ) -> Self {
        let engines = u32::from(settings.workers);
        let first = u32::from(settings.share.number) * engines;
        Self {
            choice: settings.egress,
            queues: first..first + engines,
            last_queue: u32::from(settings.share.of) * engines - 1,
            #[cfg(feature = "offload")]
            ingress: settings.ingress,
            provider,
            watch,
            survey,
            readings,
            start: Instant::now(),
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
        self.check_recent(link, spec, self.last_queue, self.choice == EgressMode::Xdp)
    }

    /// The same for frames that the driver puts into any queue.
    ///
    /// # Errors
    /// What they would miss.
    #[cfg(feature = "offload")]
    pub(in crate::relay) fn check_any_queue(
        &self,
        link: &Link,
        spec: &OutputSpec,
    ) -> Result<(), XdpObstacle> {
        self.check_recent(link, spec, 0, true)
    }

    /// What looks at the datagrams that an interface receives, and would miss those that the kernel
    /// relays.
    ///
    /// # Errors
    /// The first such thing.
    #[cfg(feature = "offload")]
    pub(in crate::relay) fn check_received(
        &self,
        link: &Link,
        is_v4: bool,
    ) -> Result<(), XdpObstacle> {
        let of = Direction::Received { to_sockets: self.ingress == Ingress::Udp };
        let read = || {
            let interface = InterfaceRef { index: link.index, name: &link.name };
            let hooks = self.provider.hooks(&interface, of);
            self.survey.input_obstacle(link, is_v4, &hooks)
        };
        let key = (link.index, is_v4, 0);
        let since = self.start.checked_sub(RECENT).unwrap_or(self.start);
        let found = self.readings.input(key, since, read);
        // A change is not refused for what has ended meanwhile.
        let found = found.and_then(|_| self.readings.input(key, self.start, read));
        found.map_or(Ok(()), Err)
    }

    /// The same by recent readings, and where `confirms`, by new ones before an error.
    fn check_recent(
        &self,
        link: &Link,
        spec: &OutputSpec,
        last_queue: u32,
        confirms: bool,
    ) -> Result<(), XdpObstacle> {
        let since = self.start.checked_sub(RECENT).unwrap_or(self.start);
        match self.check_since(link, spec, last_queue, since) {
            // A change is not refused for what has ended meanwhile.
            Err(_) if confirms => self.check_since(link, spec, last_queue, self.start),
            checked => checked,
        }
    }

    /// The same by readings that are not older than `since`.
    fn check_since(
        &self,
        link: &Link,
        spec: &OutputSpec,
        last_queue: u32,
        since: Instant,
    ) -> Result<(), XdpObstacle> {
        let is_v4 = spec.address.is_v4();
        let read = || {
            let interface = InterfaceRef { index: link.index, name: &link.name };
            let hooks = self.provider.hooks(&interface, Direction::Sent);
            self.survey.obstacle(link, last_queue, is_v4, &hooks)
        };
        if let Some(obstacle) = self.readings.obstacle((link.index, is_v4, last_queue), since, read)
        {
            return Err(obstacle);
        }
        let is_looped = spec.multicast_loop && spec.address.is_multicast();
        if is_looped { self.check_members(link, spec, since) } else { Ok(()) }
    }

    /// Members on this host get no frame that passes the network stack by.
    fn check_members(
        &self,
        link: &Link,
        spec: &OutputSpec,
        since: Instant,
    ) -> Result<(), XdpObstacle> {
        let is_v4 = spec.address.is_v4();
        let read = || self.watch.groups(is_v4, link.index);
        let has_member = self.readings.groups((link.index, is_v4, 0), since, read, |groups| {
            groups.map(|groups| match spec.address_bits {
                0 => groups.contains(&(link.index, spec.address)),
                bits => groups.iter().any(|(index, group)| {
                    *index == link.index && group.block(bits) == spec.address.block(bits)
                }),
            })
        });
        match has_member {
            Some(false) => Ok(()),
            Some(true) => Err(XdpObstacle::LocalMember(link.name.clone())),
            None => {
                let text = "the kernel does not list the groups that this host receives";
                Err(XdpObstacle::Refused(text.to_owned()))
            }
        }
    }
}
