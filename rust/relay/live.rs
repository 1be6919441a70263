//! A rule and its outputs as they are now: what is open, and what waits for an interface. Their
//! counters stay whatever becomes of the sockets. It must not know other rules, or plans in use.

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

/// What there is to open sockets on, and for whom.
pub(super) struct NetworkContext<'a> {
    pub(super) links: &'a LinkTable,
    pub(super) watch: &'a Watch,
    pub(super) routes: &'a RouteTracker,
    /// What is to be looked at beside the interfaces.
    pub(super) changed: Notices,
    pub(super) provider: &'a dyn SocketProvider,
    pub(super) workers: u16,
}

/// The id of a rule, shared by all that speak of it.
pub(super) type RuleId = Arc<str>;

/// A rule of the relay.
pub(super) struct LiveRule {
    pub(super) id: RuleId,
    /// Whether it takes what comes. All is open for it either way.
    pub(super) enabled: bool,
    /// The interface as the rule names it: by its name or an alternative one.
    pub(super) interface_name: String,
    /// As wanted, but with the own name and the index of the interface it is open on; the index is
    /// 0 while it waits.
    pub(super) input: InputSpec,
    /// Why the input is not open.
    pub(super) waiting: Option<Blocked>,
    /// How its datagrams are looked at, as the kernel merges them or may soon.
    pub(super) order: OrderCheck,
    /// What it had matched when that began; `None` until somebody reads it.
    pub(super) order_from: Option<u64>,
    pub(super) slot: Slot,
    /// The counters of what was seen of its group that no rule took.
    pub(super) group: Slot,
    /// The name of the interface under which these are kept: its own as soon as it is known.
    pub(super) group_interface: String,
    pub(super) outputs: Vec<LiveOutput>,
}

impl LiveRule {
    /// Whether it is the rule that `spec` asks for, enabled or not. Interfaces go by their names.
    pub(super) fn matches_spec(&self, spec: &RuleSpec) -> bool {
        let input = InputSpec {
            interface: self.interface_name.clone(),
            ifindex: spec.input.ifindex,
            ..self.input.clone()
        };
        let is_same = |(live, wanted): (&OutputSpec, &OutputSpec)| {
            *wanted == OutputSpec { ifindex: wanted.ifindex, ..live.clone() }
        };
        input == spec.input
            && self.outputs.len() == spec.outputs.len()
            && self.output_specs().zip(&spec.outputs).all(is_same)
    }

    /// Whether it takes what comes.
    pub(super) fn is_active(&self) -> bool {
        self.waiting.is_none() && self.enabled
    }

    /// What the user should know of the input, if datagrams cannot come.
    pub(super) fn trouble(&self, links: &LinkTable, ingress: Ingress) -> Option<String> {
        let waiting = self.waiting.as_ref().map(|blocked| blocked.text.clone());
        waiting.or_else(|| {
            blocked::open_input_trouble(&self.interface_name, &self.input, links, ingress)
        })
    }

    /// Whether something of it is to be tried again, since the kernel will not tell when.
    pub(super) fn needs_retry(&self) -> bool {
        let outputs = self.outputs.iter().filter_map(|output| output.parked.as_ref());
        self.waiting.iter().chain(outputs).any(|blocked| !blocked.kernel_notifies)
    }

    /// The names that it has for interfaces of which the kernel would not tell now.
    pub(super) fn unnotified_names<'a>(
        &'a self,
        links: &'a LinkTable,
    ) -> impl Iterator<Item = &'a str> {
        let outputs = self.outputs.iter().map(|output| &*output.spec.interface);
        outputs.chain([&*self.interface_name]).filter(|name| links.is_unnotified(name))
    }

    /// Where its copies go, and how.
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
    /// As wanted; its index is that of the interface the sockets are set up for.
    spec: OutputSpec,
    /// The rule's id, and which of its outputs this is.
    owner: (String, u16),
    /// The first group and port of the rule's input.
    origin: (Addr, u16),
    pub(super) slot: Slot,
    /// One for each worker; connected to nobody while it is parked.
    sockets: Box<[Arc<Socket>]>,
    /// The smallest that a socket got.
    pub(super) send_buffer_bytes: usize,
    /// The address that copies carry.
    source: Option<Addr>,
    /// The way that routing chose when the sockets were connected.
    route: Option<Route>,
    /// The interface's, when `max_segment` was read.
    mtu: u32,
    max_segment: u16,
    burst: Option<Burst>,
    carrier: Option<Carrier>,
    /// What copies take over of each datagram, if anything.
    pub(super) rewrite: Option<Arc<Rewrite>>,
    /// Why nothing is sent.
    pub(super) parked: Option<Blocked>,
}

impl LiveOutput {
    /// Opens the sockets, or parks the output until its interface and address are there.
    ///
    /// # Errors
    /// What the kernel refuses for another reason.
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
            // What takes a right is done now: it may have been given up when the interface comes.
            let prepare =
                |owner: &OutputOwner<'_>, spec: &_| context.provider.prepare_output(owner, spec);
            output.open_sockets(context.workers, prepare)?;
        }
        Ok(output)
    }

    /// Follows the interface, its addresses and the routes; whether plans have to.
    pub(super) fn follow(&mut self, context: &NetworkContext<'_>, changes: &LinkNews) -> bool {
        match self.try_follow(context, changes) {
            Ok(has_changed) => has_changed,
            Err(error) => self.park(Blocked::refused_output(&self.spec, &error)),
        }
    }

    /// Why copies do not leave, as far as is known.
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

    /// What a worker sends by. A parked output has the flag that never rises, and so its
    /// descriptor, which may be the one that stands in for none, is never sent to.
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
        // A connected socket keeps its source address, also one that is taken away, or that is
        // another interface's than the one that copies leave by now.
        let has_source = self.source.is_none_or(|source| context.links.is_local(source));
        if is_set_up && is_same && has_source && !self.is_rerouted(context) {
            self.follow_neighbour(context, changes);
            let has_other_mtu = self.follow_mtu(context)?;
            return Ok(self.follow_burst(context) || has_other_mtu);
        }
        self.spec.ifindex = index;
        // Before connecting: a route that changes in between is found at the next look.
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

    /// Looks for the next hop when the kernel has forgotten it, and once more when its link comes
    /// back: while there was no carrier nobody could answer.
    fn follow_neighbour(&self, context: &NetworkContext<'_>, changes: &LinkNews) {
        let stands_on =
            |link| self.route.is_some_and(|it| context.links.stands_on(it.ifindex, link));
        let is_back = changes.opened.iter().any(|&link| stands_on(link));
        if context.changed.neighbours || is_back {
            self.resolve_host(context, is_back);
        }
    }

    /// Has the next hop's link-layer address found before the first copy needs it.
    fn resolve_host(&self, context: &NetworkContext<'_>, after_failure: bool) {
        if let (Some(route), Some(socket)) = (&self.route, self.sockets.first())
            && context.routes.needs_resolution(route, after_failure)
        {
            // Refused is as good as never asked: the first copy asks.
            context.provider.resolve_host(socket, &self.spec).ok();
        }
    }

    /// Whether routing would choose otherwise now: the interface, the next hop or the source.
    fn is_rerouted(&self, context: &NetworkContext<'_>) -> bool {
        // Who gets no answer is not to lose the way that there is.
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

    /// Whether that is news for the engines.
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

    /// Whether that is news for the engines.
    fn follow_burst(&mut self, context: &NetworkContext<'_>) -> bool {
        let link = self.link(context);
        let bytes = link.and_then(|link| context.routes.burst(|| context.links.path(link.index)));
        let headers = self.spec.frame_headers();
        let burst = bytes.map(|bytes| Burst { bytes, headers });
        std::mem::replace(&mut self.burst, burst) != burst
    }

    /// The link that copies leave by, as far as it is known.
    fn link<'a>(&self, context: &NetworkContext<'a>) -> Option<&'a Link> {
        let index = self.route.map_or(self.spec.ifindex, |route| route.ifindex);
        context.links.get(index)
    }

    /// Whether that is news for the engines.
    fn park(&mut self, blocked: Blocked) -> bool {
        self.parked.replace(blocked).is_none()
    }
}

/// What a plan holds in the place of an output that is parked.
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
