//! An output and its sockets, connected or waiting for an interface.

#[cfg(feature = "offload")]
use std::os::fd::BorrowedFd;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::NetworkContext;
use crate::addr::Addr;
use crate::engine::interface_limiter::ClassShare;
use crate::engine::limiter::RateLimiter;
use crate::engine::plan::{Burst, OutputBuckets, PlanOutput};
use crate::engine::rewrite::Rewrite;
use crate::error::Result;
use crate::relay::egress::frames::OutputFrames;
use crate::relay::network::blocked::{self, Blocked};
use crate::relay::network::watch::{Carrier, LinkNews};
use crate::sockets::netlink::link::Link;
use crate::sockets::netlink::neighbours::{Neighbour, NeighbourState};
use crate::sockets::netlink::routes::Route;
use crate::sockets::output;
use crate::sockets::provider::{OutputHandle, Socket};
use crate::spec::{InputSpec, OutputSpec};
use crate::stats::Slot;

/// An output of a rule. A clone shares its sockets.
#[derive(Clone)]
pub(in crate::relay) struct LiveOutput {
    /// As specified, but with the index of the interface for which the sockets are set up.
    pub(super) spec: OutputSpec,
    /// [`crate::spec::RuleSpec::output_keys`].
    pub(in crate::relay) key: u64,
    /// The first group and port of the rule's input.
    origin: (Addr, u16),
    pub(in crate::relay) slot: Slot,
    /// One for each worker; unconnected while the output is parked.
    pub(super) sockets: Box<[Arc<Socket>]>,
    /// The source address and port of each.
    pub(in crate::relay) endpoints: Box<[(Addr, u16)]>,
    /// What it sends through AF_XDP sockets instead.
    pub(in crate::relay) frames: OutputFrames,
    /// The smallest send buffer among the sockets, in bytes.
    pub(in crate::relay) send_buffer_bytes: usize,
    /// The source address of copies.
    source: Option<Addr>,
    /// The route when the sockets were connected.
    pub(super) route: Option<Route>,
    /// The MTU of the interface when `max_segment` was read, in bytes.
    mtu: u32,
    /// The largest datagram that the link carries in one piece, in bytes.
    pub(super) max_segment: u16,
    burst: Option<Burst>,
    /// The name of the interface by which copies leave; empty while it is not known.
    pub(in crate::relay) interface: String,
    carrier: Option<Carrier>,
    /// Which fields of each datagram copies preserve, if any.
    pub(in crate::relay) rewrite: Option<Arc<Rewrite>>,
    /// Its token bucket, if it has a rate.
    limiter: Option<Arc<RateLimiter>>,
    /// Why nothing is sent; `None` while the output sends.
    pub(in crate::relay) parked: Option<Blocked>,
}

impl LiveOutput {
    /// Opens the sockets, or parks the output until its interface and address exist.
    ///
    /// # Errors
    /// The kernel's, for any other reason.
    pub(in crate::relay) fn open(
        spec: &OutputSpec,
        key: u64,
        input: &InputSpec,
        slot: Slot,
        context: &NetworkContext<'_>,
    ) -> Result<Self> {
        let mut output = Self {
            spec: spec.clone(),
            key,
            origin: (input.group, input.port),
            slot,
            sockets: Box::default(),
            endpoints: Box::default(),
            frames: OutputFrames::none(),
            send_buffer_bytes: output::SEND_BUFFER_BYTES,
            source: None,
            route: None,
            mtu: 0,
            max_segment: 0,
            burst: None,
            interface: String::new(),
            carrier: None,
            rewrite: None,
            limiter: spec.rate.map(|rate| Arc::new(RateLimiter::new(rate))),
            parked: None,
        };
        match output.try_follow(context, &LinkNews::default()) {
            Err(error) if blocked::is_transient(&error) => {
                output.park(Blocked::refused_output(spec, &error));
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        if output.sockets.is_empty() {
            // What needs a privilege is done now: it may be given up before the interface appears.
            let prepare = |key, spec: &_| context.provider.prepare_output(key, spec);
            output.open_sockets(context.workers, prepare)?;
        }
        Ok(output)
    }

    /// As specified, but for the index of the interface.
    pub(in crate::relay) fn spec(&self) -> &OutputSpec {
        &self.spec
    }

    /// Adapts to the interface, its addresses and the routes; returns whether plans have changed.
    pub(in crate::relay) fn follow(
        &mut self,
        context: &NetworkContext<'_>,
        changes: &LinkNews,
    ) -> bool {
        match self.try_follow(context, changes) {
            Ok(has_changed) => has_changed,
            Err(error) => self.park(Blocked::refused_output(&self.spec, &error)),
        }
    }

    /// The sockets of all workers.
    #[cfg(feature = "offload")]
    pub(in crate::relay) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|socket| socket.as_fd())
    }

    /// Why copies cannot be sent, in a sentence; `None` if no reason is known.
    pub(in crate::relay) fn trouble(&self) -> Option<String> {
        let has_none = |carrier: &Carrier| !carrier.load(Ordering::Relaxed);
        match &self.parked {
            Some(blocked) => Some(blocked.text.clone()),
            None if self.carrier.as_ref().is_some_and(has_none) => {
                Some(format!("{} has no carrier", self.spec.interface))
            }
            None => None,
        }
    }

    /// The output in the plan of one worker. A parked output has the carrier flag that is never
    /// set, so that the engine never uses its descriptor, which may be a stand-in.
    pub(in crate::relay) fn plan(
        &self,
        worker: u16,
        stand_in: &StandIn,
        class: Option<ClassShare>,
    ) -> PlanOutput {
        let fd = self.sockets.get(usize::from(worker)).unwrap_or(&stand_in.fd).clone();
        let carrier =
            if self.parked.is_some() { Some(stand_in.never.clone()) } else { self.carrier.clone() };
        let (rewrite, burst) = (self.rewrite.clone(), self.burst);
        let (slot, max_segment) = (self.slot, self.max_segment);
        let xdp = self.frames.of_worker(worker);
        let is_group = self.spec.address.is_multicast();
        let buckets = OutputBuckets::of(self.limiter.clone(), class);
        PlanOutput { fd, slot, is_group, max_segment, burst, carrier, rewrite, xdp, buckets }
    }

    fn try_follow(&mut self, context: &NetworkContext<'_>, changes: &LinkNews) -> Result<bool> {
        let index = match blocked::output_ifindex(&self.spec, context.links) {
            Ok(index) => index,
            Err(blocked) => return Ok(self.park(blocked)),
        };
        let is_set_up = !self.sockets.is_empty() && self.parked.is_none();
        let is_same = index == self.spec.ifindex && !changes.gone.contains(&index);
        // A connected socket keeps its source address, also when that is removed, or belongs to
        // another interface than the current one.
        let has_source = self.source.is_none_or(|source| context.links.is_local(source));
        if is_set_up && is_same && has_source && !self.is_rerouted(context) {
            self.follow_neighbour(context, changes);
            let has_other_mtu = self.follow_mtu(context)?;
            let has_other_name = self.follow_name(context);
            return Ok(self.follow_burst(context) || has_other_mtu || has_other_name);
        }
        self.spec.ifindex = index;
        // Before connecting: a route that changes in between is found the next time.
        self.route = context.routes.find(&self.spec).unwrap_or(None);
        if self.sockets.is_empty() {
            let open = |key, spec: &_| context.provider.output(key, spec);
            self.open_sockets(context.workers, open)?;
        } else {
            for socket in &self.sockets {
                self.max_segment = context.provider.reconnect(socket, &self.spec)?;
            }
        }
        let endpoints = self.sockets.iter().map(|it| output::local_endpoint(it.as_fd()));
        self.endpoints = endpoints.collect::<Option<_>>().unwrap_or_default();
        self.source = self.endpoints.first().map(|(source, _)| *source);
        self.mtu = self.link(context).map_or(0, |link| link.mtu);
        self.follow_burst(context);
        self.follow_name(context);
        self.carrier = (index != 0).then(|| context.watch.carrier(index));
        let (group, port) = self.origin;
        let own = self.source.unwrap_or(self.spec.address);
        self.rewrite = Rewrite::of(&self.spec, own, group, port).map(Arc::new);
        self.parked = None;
        if let Some(route) = self.route.filter(|route| route.is_to_a_host)
            && context.routes.neighbour(&route).is_ok_and(|it| it.state == NeighbourState::Unknown)
        {
            self.resolve_host(context);
        }
        Ok(true)
    }

    /// Has the next hop resolved if the kernel has forgotten it, and again once its link is back:
    /// without carrier no host could answer.
    fn follow_neighbour(&self, context: &NetworkContext<'_>, changes: &LinkNews) {
        let Some(route) = self.route.as_ref().filter(|route| route.is_to_a_host) else { return };
        let is_back =
            changes.opened.iter().any(|&link| context.links.stands_on(route.ifindex, link));
        // Asked for in any case, so that it stays followed.
        let Ok(Neighbour { state, .. }) = context.routes.neighbour(route) else { return };
        let is_forgotten = state == NeighbourState::Unknown && context.changed.neighbours;
        let is_sought = matches!(state, NeighbourState::Unknown | NeighbourState::Failed);
        if is_forgotten || is_back && is_sought {
            self.resolve_host(context);
        }
    }

    /// Has the next hop's link-layer address resolved before the first copy needs it.
    fn resolve_host(&self, context: &NetworkContext<'_>) {
        if let Some(socket) = self.sockets.first() {
            // An error is harmless: the first copy makes the kernel resolve it.
            context.provider.resolve_host(socket, &self.spec).ok();
        }
    }

    /// Whether routing would now choose another interface, next hop or source.
    fn is_rerouted(&self, context: &NetworkContext<'_>) -> bool {
        // Without an answer the output keeps its route.
        let is_other = |route| route != self.route;
        context.changed.routes && context.routes.find(&self.spec).is_ok_and(is_other)
    }

    fn open_sockets(
        &mut self,
        workers: u16,
        open: impl Fn(u64, &OutputSpec) -> Result<OutputHandle>,
    ) -> Result<()> {
        let mut sockets = Vec::with_capacity(usize::from(workers));
        for _ in 0..workers {
            let opened = open(self.key, &self.spec)?;
            self.send_buffer_bytes = self.send_buffer_bytes.min(opened.send_buffer_bytes);
            self.max_segment = opened.max_segment;
            sockets.push(Arc::new(opened.socket));
        }
        self.sockets = sockets.into();
        Ok(())
    }

    /// Reads `max_segment` again if the MTU has changed; returns whether plans have changed.
    fn follow_mtu(&mut self, context: &NetworkContext<'_>) -> Result<bool> {
        let Some(mtu) = self.link(context).map(|link| link.mtu) else { return Ok(false) };
        if mtu == self.mtu {
            return Ok(false);
        }
        self.mtu = mtu;
        let Some(socket) = self.sockets.first() else { return Ok(false) };
        let before = self.max_segment;
        self.max_segment = output::path_segment(socket.as_fd(), &self.spec)?;
        Ok(self.max_segment != before)
    }

    /// Updates the limit of batches; returns whether plans have changed.
    fn follow_burst(&mut self, context: &NetworkContext<'_>) -> bool {
        let link = self.link(context);
        let bytes = link.and_then(|link| context.routes.burst(|| context.links.path(link.index)));
        let headers = self.spec.frame_headers();
        let burst = bytes.map(|bytes| Burst { bytes, headers });
        std::mem::replace(&mut self.burst, burst) != burst
    }

    /// Updates the name of the interface; returns whether plans have changed.
    fn follow_name(&mut self, context: &NetworkContext<'_>) -> bool {
        let name = self.link(context).map_or("", |link| &link.name);
        if name == self.interface {
            return false;
        }
        name.clone_into(&mut self.interface);
        true
    }

    /// The link by which copies leave, if it is known.
    fn link<'a>(&self, context: &NetworkContext<'a>) -> Option<&'a Link> {
        let index = self.route.map_or(self.spec.ifindex, |route| route.ifindex);
        context.links.get(index)
    }

    /// Stops sending; returns whether plans have changed.
    fn park(&mut self, blocked: Blocked) -> bool {
        self.parked.replace(blocked).is_none()
    }
}

/// What plans contain in place of a parked output's socket and carrier.
pub(in crate::relay) struct StandIn {
    fd: Arc<Socket>,
    never: Carrier,
}

impl StandIn {
    /// `fd` may be any descriptor.
    pub(in crate::relay) fn new(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd.into()), never: Carrier::default() }
    }
}
