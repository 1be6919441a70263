//! A rule and its outputs with their sockets, open or waiting for an interface. Their counter slots
//! do not depend on the sockets. This module must not depend on other rules or on plans in use.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Ingress;
use super::network::blocked::{self, Blocked};
use super::network::link_table::LinkTable;
use super::network::routes::RouteTracker;
use super::network::watch::{Carrier, LinkNews, Watch};
use crate::addr::Addr;
use crate::engine::ingress::OrderCheck;
use crate::engine::plan::{Burst, PlanOutput};
use crate::engine::rewrite::Rewrite;
use crate::error::Result;
use crate::rules::{InputKey, TableRule};
use crate::sockets::netlink::link::Link;
use crate::sockets::netlink::notices::Notices;
use crate::sockets::netlink::routes::Route;
use crate::sockets::output;
use crate::sockets::provider::{OutputHandle, OutputOwner, Socket, SocketProvider};
use crate::spec::{InputSpec, OutputSpec, RuleSpec};
use crate::stats::Slot;

/// The network at one moment, and what opens sockets in it.
pub(super) struct NetworkContext<'a> {
    pub(super) links: &'a LinkTable,
    pub(super) watch: &'a Watch,
    pub(super) routes: &'a RouteTracker,
    /// Which routes, neighbours and queueing disciplines have changed.
    pub(super) changed: Notices,
    pub(super) provider: &'a dyn SocketProvider,
    pub(super) workers: u16,
}

/// The id of a rule.
pub(super) type RuleId = Arc<str>;

/// A rule of the relay.
pub(super) struct LiveRule {
    pub(super) id: RuleId,
    /// Whether it relays. Its sockets are open either way.
    pub(super) enabled: bool,
    /// The interface as the rule names it: by its primary name or an alternative one.
    pub(super) interface_name: String,
    /// As specified, but with the primary name and the index of the interface on which the input
    /// is open; the index is 0 while it waits.
    pub(super) input: InputSpec,
    /// Why the input is not open; `None` while it is.
    pub(super) waiting: Option<Blocked>,
    /// How the order of its datagrams is checked, if the kernel merges them or may soon.
    pub(super) order: OrderCheck,
    /// The number of matched datagrams when that check began; `None` until it is first read.
    pub(super) order_from: Option<u64>,
    pub(super) slot: Slot,
    /// The counters of datagrams of its group that no rule matched.
    pub(super) group: Slot,
    /// The interface name under which these are kept: the primary name once it is known.
    pub(super) group_interface: String,
    pub(super) outputs: Vec<LiveOutput>,
}

impl LiveRule {
    /// Whether it equals `spec`, apart from `enabled` and the indices of interfaces.
    pub(super) fn matches_spec(&self, spec: &RuleSpec) -> bool {
        let input = InputSpec {
            interface: self.interface_name.clone(),
            ifindex: spec.input.ifindex,
            ..self.input.clone()
        };
        let is_same = |(live, other): (&OutputSpec, &OutputSpec)| {
            *other == OutputSpec { ifindex: other.ifindex, ..live.clone() }
        };
        input == spec.input
            && self.outputs.len() == spec.outputs.len()
            && self.output_specs().zip(&spec.outputs).all(is_same)
    }

    /// Whether it relays what it receives.
    pub(super) fn is_active(&self) -> bool {
        self.waiting.is_none() && self.enabled
    }

    /// Why the input cannot receive, in a sentence; `None` if it can.
    pub(super) fn trouble(&self, links: &LinkTable, ingress: Ingress) -> Option<String> {
        let waiting = self.waiting.as_ref().map(|blocked| blocked.text.clone());
        waiting.or_else(|| {
            blocked::open_input_trouble(&self.interface_name, &self.input, links, ingress)
        })
    }

    /// Whether it waits for something of which the kernel does not notify, so that it has to be
    /// tried again.
    pub(super) fn needs_retry(&self) -> bool {
        let outputs = self.outputs.iter().filter_map(|output| output.parked.as_ref());
        self.waiting.iter().chain(outputs).any(|blocked| !blocked.kernel_notifies)
    }

    /// The interface names in it about which the kernel would not notify now.
    pub(super) fn unnotified_names<'a>(
        &'a self,
        links: &'a LinkTable,
    ) -> impl Iterator<Item = &'a str> {
        let outputs = self.outputs.iter().map(|output| &*output.spec.interface);
        outputs.chain([&*self.interface_name]).filter(|name| links.is_unnotified(name))
    }

    pub(super) fn output_specs(&self) -> impl Iterator<Item = &OutputSpec> {
        self.outputs.iter().map(|output| &output.spec)
    }

    pub(super) fn table_rule(&self) -> TableRule {
        let InputSpec { group, port, ifindex, sources, vlan, .. } = &self.input;
        let input = InputKey { interface: *ifindex, vlan: *vlan, group: *group, port: *port };
        let InputSpec { group_bits, last_port, .. } = self.input;
        TableRule { input, group_bits, last_port, sources: sources.clone() }
    }
}

/// An output of a rule.
pub(super) struct LiveOutput {
    /// As specified, but with the index of the interface for which the sockets are set up.
    spec: OutputSpec,
    /// The rule's id and the output's position in it.
    owner: (String, u16),
    /// The first group and port of the rule's input.
    origin: (Addr, u16),
    pub(super) slot: Slot,
    /// One for each worker; unconnected while the output is parked.
    sockets: Box<[Arc<Socket>]>,
    /// The smallest send buffer among the sockets, in bytes.
    pub(super) send_buffer_bytes: usize,
    /// The source address of copies.
    source: Option<Addr>,
    /// The route when the sockets were connected.
    route: Option<Route>,
    /// The MTU of the interface when `max_segment` was read, in bytes.
    mtu: u32,
    /// The largest datagram that the link carries in one piece, in bytes.
    max_segment: u16,
    burst: Option<Burst>,
    carrier: Option<Carrier>,
    /// Which fields of each datagram copies preserve, if any.
    pub(super) rewrite: Option<Arc<Rewrite>>,
    /// Why nothing is sent; `None` while the output sends.
    pub(super) parked: Option<Blocked>,
}

impl LiveOutput {
    /// Opens the sockets, or parks the output until its interface and address exist.
    ///
    /// # Errors
    /// The kernel's, for any other reason.
    pub(super) fn open(
        spec: &OutputSpec,
        owner: OutputOwner<'_>,
        input: &InputSpec,
        slot: Slot,
        context: &NetworkContext<'_>,
    ) -> Result<Self> {
        let mut output = Self {
            spec: spec.clone(),
            owner: (owner.rule.to_owned(), owner.number),
            origin: (input.group, input.port),
            slot,
            sockets: Box::default(),
            send_buffer_bytes: output::SEND_BUFFER_BYTES,
            source: None,
            route: None,
            mtu: 0,
            max_segment: 0,
            burst: None,
            carrier: None,
            rewrite: None,
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
            let prepare =
                |owner: &OutputOwner<'_>, spec: &_| context.provider.prepare_output(owner, spec);
            output.open_sockets(context.workers, prepare)?;
        }
        Ok(output)
    }

    /// Adapts to the interface, its addresses and the routes; returns whether plans have changed.
    pub(super) fn follow(&mut self, context: &NetworkContext<'_>, changes: &LinkNews) -> bool {
        match self.try_follow(context, changes) {
            Ok(has_changed) => has_changed,
            Err(error) => self.park(Blocked::refused_output(&self.spec, &error)),
        }
    }

    /// Why copies cannot be sent, in a sentence; `None` if no reason is known.
    pub(super) fn trouble(&self) -> Option<String> {
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
    pub(super) fn plan(&self, worker: u16, stand_in: &StandIn) -> PlanOutput {
        let fd = self.sockets.get(usize::from(worker)).unwrap_or(&stand_in.fd).clone();
        let carrier =
            if self.parked.is_some() { Some(stand_in.never.clone()) } else { self.carrier.clone() };
        let (rewrite, burst) = (self.rewrite.clone(), self.burst);
        PlanOutput { fd, slot: self.slot, max_segment: self.max_segment, burst, carrier, rewrite }
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
            return Ok(self.follow_burst(context) || has_other_mtu);
        }
        self.spec.ifindex = index;
        // Before connecting: a route that changes in between is found the next time.
        self.route = context.routes.find(&self.spec).unwrap_or(None);
        if self.sockets.is_empty() {
            let open = |owner: &OutputOwner<'_>, spec: &_| context.provider.output(owner, spec);
            self.open_sockets(context.workers, open)?;
        } else {
            for socket in &self.sockets {
                self.max_segment = context.provider.reconnect(socket, &self.spec)?;
            }
        }
        self.source = self.sockets.first().and_then(|socket| output::source(socket.as_fd()));
        self.mtu = self.link(context).map_or(0, |link| link.mtu);
        self.follow_burst(context);
        self.carrier = (index != 0).then(|| context.watch.carrier(index));
        let (group, port) = self.origin;
        let own = self.source.unwrap_or(self.spec.address);
        self.rewrite = Rewrite::of(&self.spec, own, group, port).map(Arc::new);
        self.parked = None;
        self.resolve_host(context, false);
        Ok(true)
    }

    /// Has the next hop resolved if the kernel has forgotten it, and again once its link is back:
    /// without carrier no host could answer.
    fn follow_neighbour(&self, context: &NetworkContext<'_>, changes: &LinkNews) {
        let stands_on =
            |link| self.route.is_some_and(|it| context.links.stands_on(it.ifindex, link));
        let is_back = changes.opened.iter().any(|&link| stands_on(link));
        if context.changed.neighbours || is_back {
            self.resolve_host(context, is_back);
        }
    }

    /// Has the next hop's link-layer address resolved before the first copy needs it.
    fn resolve_host(&self, context: &NetworkContext<'_>, after_failure: bool) {
        if let (Some(route), Some(socket)) = (&self.route, self.sockets.first())
            && context.routes.needs_resolution(route, after_failure)
        {
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
        open: impl Fn(&OutputOwner<'_>, &OutputSpec) -> Result<OutputHandle>,
    ) -> Result<()> {
        let mut sockets = Vec::with_capacity(usize::from(workers));
        let owner = OutputOwner { rule: &self.owner.0, number: self.owner.1 };
        for _ in 0..workers {
            let opened = open(&owner, &self.spec)?;
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
pub(super) struct StandIn {
    fd: Arc<Socket>,
    never: Carrier,
}

impl StandIn {
    /// `fd` may be any descriptor.
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd.into()), never: Carrier::default() }
    }
}
