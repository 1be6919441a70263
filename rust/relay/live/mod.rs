//! A rule with its input and outputs, open or waiting for an interface. Their counter slots do not
//! depend on the sockets. This module must not depend on other rules or on plans in use.
//!
//! ```text
//! output  an output and its sockets      egress  whether it can use AF_XDP
//! kernel_path  how the kernel would send its copies
//! ```

mod egress;
#[cfg(feature = "offload")]
mod kernel_path;
mod output;

use std::sync::Arc;

use super::egress::context::EgressContext;
use super::network::blocked::{self, Blocked, InputTrouble};
use super::network::link_table::LinkTable;
use super::network::routes::RouteTracker;
use super::network::watch::Watch;
use super::settings::Home;
use super::{EgressMode, Ingress};
use crate::engine::ingress::OrderCheck;
use crate::merge::MergeSpec;
use crate::sockets::netlink::notices::Notices;
use crate::sockets::provider::SocketProvider;
use crate::spec::{InputSpec, OutputSpec, RuleSpec};
use crate::stats::Slot;
pub(super) use output::{LiveOutput, StandIn};

/// The network at one moment, and what opens sockets in it.
pub(super) struct NetworkContext<'a> {
    pub(super) links: &'a LinkTable,
    pub(super) watch: &'a Watch,
    pub(super) routes: &'a RouteTracker,
    /// Which routes, neighbours and queueing disciplines have changed.
    pub(super) changed: Notices,
    pub(super) provider: &'a dyn SocketProvider,
    pub(super) workers: u16,
    pub(super) egress: EgressContext<'a>,
}

/// The id of a rule.
pub(super) type RuleId = Arc<str>;

/// A rule of the relay.
pub(super) struct LiveRule {
    pub(super) id: RuleId,
    /// Whether it relays. Its sockets are open either way.
    pub(super) enabled: bool,
    /// Whether the engines do without it until what its sockets had queued before is gone: the
    /// kernel relays what arrives since.
    pub(super) is_held: bool,
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
    /// How its input is merged with others, and its number among them, if it is.
    pub(super) merge: Option<(MergeSpec, u8)>,
    /// Which engine receives it, if its input is merged with others.
    pub(super) home: Option<Home>,
    /// The class of its copies; `None` for the default.
    pub(super) class: Option<String>,
}

impl LiveRule {
    /// Whether it equals `spec`, apart from `enabled` and the indices of interfaces.
    pub(super) fn matches_spec(&self, spec: &RuleSpec) -> bool {
        let is_same = |(live, other): (&OutputSpec, &OutputSpec)| live.is_same(other);
        self.has_input(&spec.input)
            && self.merge == spec.merge.as_ref().map(|merge| (merge.by, merge.leg))
            && self.class == spec.class
            && self.outputs.len() == spec.outputs.len()
            && self.output_specs().zip(&spec.outputs).all(is_same)
    }

    /// Its input, as specified but for the index of the interface.
    pub(super) fn input_spec(&self) -> InputSpec {
        InputSpec { interface: self.interface_name.clone(), ..self.input.clone() }
    }

    /// Whether its input is this one, apart from the index of the interface.
    pub(super) fn has_input(&self, input: &InputSpec) -> bool {
        self.input_spec().is_same(input)
    }

    /// Whether it relays what it receives.
    #[cfg(feature = "offload")]
    pub(super) fn is_active(&self) -> bool {
        self.waiting.is_none() && self.enabled
    }

    /// Whether the engines relay what they receive of it.
    pub(super) fn is_in_plans(&self) -> bool {
        // Other inputs may deliver while the first one, which has the outputs, waits.
        let is_head = self.merge.is_some_and(|(_, leg)| leg == 0);
        let is_here = self.home.is_none_or(|home| home.engine.is_some());
        self.enabled && is_here && (self.waiting.is_none() || is_head) && !self.is_held
    }

    /// Why the input cannot receive; `None` if it can.
    pub(super) fn trouble(&self, links: &LinkTable, ingress: Ingress) -> Option<InputTrouble> {
        let waiting = self.waiting.as_ref().map(Blocked::input_trouble);
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

    /// Whether an output may start to use AF_XDP, or have to stop, at any time.
    pub(super) fn may_use_xdp(&self, egress: EgressMode) -> bool {
        self.outputs.iter().any(|output| output.may_use_xdp(egress))
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
}
