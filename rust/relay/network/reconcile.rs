//! Adapts open sockets to the interfaces: closes those of removed interfaces, opens inputs and
//! outputs that wait, and touches nothing else. An error becomes the reason why its rule or output
//! waits, and never affects another one. This module must not depend on the engines' threads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::blocked::{self, Blocked};
use super::link_table::LinkTable;
use super::watch::LinkNews;
use crate::engine::ingress::OrderCheck;
use crate::relay::inputs::Inputs;
use crate::relay::live::{LiveRule, NetworkContext, RuleId};
use crate::relay::state::State;
use crate::sockets::InterfaceRef;
use crate::spec::InputSpec;

impl State {
    /// Opens, closes and reconnects the sockets that the changes affect; returns whether the engines
    /// need new plans.
    pub(in crate::relay) fn follow(
        &mut self,
        context: &NetworkContext<'_>,
        changes: &LinkNews,
    ) -> bool {
        let mut has_changed = std::mem::take(&mut self.has_stale_plans);
        let lost = self.lost_memberships(context, changes);
        let is_closed = |id: &RuleId, ifindex| changes.gone.contains(&ifindex) || lost.contains(id);
        if self.detach(context.links, is_closed) {
            has_changed = true;
            // First, lest a socket on the old interface be taken for one on the new interface.
            self.apply_inputs();
        }
        has_changed |= self.shaping.follow(context.links);
        has_changed |= self.inputs.follow_mtu_and_gro(|index| changes.touched.contains(&index));
        has_changed |= self.inputs.abandon_stuck_rings();
        has_changed |= self.attach_waiting(context.links);
        self.update_attached();
        has_changed |= self.announce(context, changes);
        has_changed |= self.follow_outputs(context, changes);
        has_changed |= self.follow_egress(context, changes);
        #[cfg(feature = "offload")]
        self.follow_offload(context, changes);
        has_changed
    }

    /// Closes the inputs whose interface is not the one any more on which they were opened; returns
    /// whether there were any. `is_lost` says for the others, by the rule's id and the interface's
    /// index, whether they have to be reopened, since the interface was recreated with the same
    /// index.
    pub(in crate::relay) fn detach(
        &mut self,
        links: &LinkTable,
        is_lost: impl Fn(&RuleId, u32) -> bool,
    ) -> bool {
        let mut has_changed = false;
        for (id, rule) in self.rules.iter_mut().filter(|(_, rule)| rule.waiting.is_none()) {
            let now = links.find(&rule.interface_name).map(|link| (link.index, &*link.name));
            let open = (rule.input.ifindex, &*rule.input.interface);
            if now == Some(open) && !is_lost(id, rule.input.ifindex) {
                continue;
            }
            close_input(&mut self.inputs, rule, Blocked::recreated());
            self.touched.insert(id.clone());
            has_changed = true;
        }
        has_changed
    }

    /// Whether something has to be tried or checked again without a notification by the kernel.
    pub(in crate::relay) fn needs_retry(&self) -> bool {
        let is_followed = |rule: &LiveRule| {
            rule.needs_retry()
                || rule.order != OrderCheck::Nothing
                || rule.may_use_xdp(self.egress())
        };
        self.is_offload_followed()
            || self.inputs.has_rings()
            || self.announcements.has_pending()
            || self.rules.values().any(is_followed)
    }

    /// Whether rules may move between the engines and the kernel without a notification.
    fn is_offload_followed(&self) -> bool {
        #[cfg(feature = "offload")]
        return self.kernel.is_wanted() && !self.rules.is_empty();
        #[cfg(not(feature = "offload"))]
        false
    }

    /// The interface names in rules about which the kernel would not notify now.
    pub(in crate::relay) fn unnotified_names(&self, links: &LinkTable) -> BTreeSet<String> {
        self.rules
            .values()
            .flat_map(|rule| rule.unnotified_names(links))
            .map(str::to_owned)
            .collect()
    }

    /// The rules on changed links whose groups the kernel has left. It leaves all groups of an
    /// interface while the MTU is too small for IP, and does not notify the sockets.
    fn lost_memberships(
        &self,
        context: &NetworkContext<'_>,
        changes: &LinkNews,
    ) -> BTreeSet<RuleId> {
        let is_exposed = |input: &InputSpec| {
            input.ifindex != 0 && input.is_joined() && changes.touched.contains(&input.ifindex)
        };
        let inputs = self.rules.iter().map(|(id, rule)| (id, &rule.input));
        let exposed: Vec<_> = inputs.filter(|(_, input)| is_exposed(input)).collect();
        let listed = [false, true].map(|is_v4| {
            let is_asked = exposed.iter().any(|(_, input)| input.group.is_v4() == is_v4);
            is_asked.then(|| context.watch.groups(is_v4, 0)).flatten()
        });
        let is_lost = |input: &InputSpec| {
            let link = context.links.find(&input.interface);
            let listed = listed[usize::from(input.group.is_v4())].as_ref();
            let is_member =
                |group| listed.is_none_or(|groups| groups.contains(&(input.ifindex, group)));
            link.is_some_and(|link| blocked::lacks_ip(input, link))
                || !input.groups().all(is_member)
        };
        exposed.into_iter().filter(|(_, input)| is_lost(input)).map(|(id, _)| id.clone()).collect()
    }

    /// Reports the IPv4 memberships to networks that may not know them; returns whether an input was
    /// closed or reopened for it. The kernel itself reports those of IPv6.
    fn announce(&mut self, context: &NetworkContext<'_>, changes: &LinkNews) -> bool {
        let now = Instant::now();
        let mut is_on: BTreeMap<u32, Vec<RuleId>> = BTreeMap::new();
        for (id, LiveRule { input, .. }) in &self.rules {
            if input.ifindex != 0 && input.is_joined() && input.group.is_v4() {
                is_on.entry(input.ifindex).or_default().push(id.clone());
            }
        }
        for &ifindex in is_on.keys() {
            if changes.opened.iter().any(|&link| context.links.stands_on(ifindex, link)) {
                self.announcements.start(ifindex, now);
            }
        }
        let mut has_changed = false;
        for ifindex in self.announcements.take_due_interfaces(now) {
            let ids = is_on.get(&ifindex).map(Vec::as_slice).unwrap_or_default();
            has_changed |= self.announce_rules(context, ifindex, ids);
        }
        has_changed
    }

    /// Reports the memberships on one interface; without the necessary privilege, leaves the groups
    /// and joins them again.
    fn announce_rules(
        &mut self,
        context: &NetworkContext<'_>,
        ifindex: u32,
        ids: &[RuleId],
    ) -> bool {
        let rules = || ids.iter().filter_map(|id| self.rules.get(id));
        let Some(first) = rules().next() else { return false };
        let interface = InterfaceRef { index: ifindex, name: &first.input.interface };
        if context.provider.announce(&interface).is_ok() {
            return false;
        }
        let inputs: Vec<InputSpec> = rules().map(|rule| rule.input.clone()).collect();
        let Err(error) = self.inputs.rejoin(&inputs) else { return false };
        for id in ids {
            if let Some(rule) = self.rules.get_mut(id) {
                self.touched.insert(id.clone());
                let why = Blocked::refused(&error);
                close_input(&mut self.inputs, rule, why);
            }
        }
        true
    }

    fn attach_waiting(&mut self, links: &LinkTable) -> bool {
        let mut has_changed = false;
        let waiting = self.rules.iter().filter(|(_, rule)| rule.waiting.is_some());
        let ids: Vec<RuleId> = waiting.map(|(id, _)| id.clone()).collect();
        for id in ids {
            let Some(mut rule) = self.rules.remove(&id) else { continue };
            if let Err(error) = self.attach(&mut rule, links) {
                rule.waiting = Some(Blocked::refused_input(&rule.input, &error));
            }
            self.touched.insert(id.clone());
            has_changed |= rule.waiting.is_none();
            self.rules.insert(id, rule);
        }
        has_changed
    }

    /// Opens the AF_PACKET sockets; rules wait if those of their interface cannot be opened.
    fn update_attached(&mut self) {
        for (name, error) in self.inputs.update_each_interface() {
            if self.inputs.has_frames(&name) {
                crate::relay::warn_once(&mut self.inputs.warnings, error.to_string());
                continue;
            }
            let on_it = |rule: &LiveRule| rule.input.interface == name;
            for (id, rule) in self.rules.iter_mut().filter(|(_, rule)| on_it(rule)) {
                if rule.waiting.is_none() {
                    self.touched.insert(id.clone());
                    let why = Blocked::refused(&error);
                    close_input(&mut self.inputs, rule, why);
                }
            }
        }
    }

    fn follow_outputs(&mut self, context: &NetworkContext<'_>, changes: &LinkNews) -> bool {
        let mut has_changed = false;
        let mut smallest = usize::MAX;
        for (id, rule) in &mut self.rules {
            for output in &mut rule.outputs {
                if output.follow(context, changes) {
                    self.touched.insert(id.clone());
                    has_changed = true;
                    smallest = smallest.min(output.send_buffer_bytes);
                }
            }
        }
        context.routes.forget_unused_neighbours();
        self.check_buffer(smallest);
        has_changed
    }
}

/// Closes a rule's input, so that the rule waits.
fn close_input(inputs: &mut Inputs, rule: &mut LiveRule, why: Blocked) {
    inputs.remove(&rule.input, rule.home);
    rule.input.ifindex = 0;
    rule.waiting = Some(why);
}
