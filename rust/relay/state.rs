//! The rules of a relay with their open sockets, and how a change opens and closes these. This
//! module must not depend on the engines' threads.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::counters::groups::{self, GroupSlots};
use super::counters::slots::SlotAllocator;
use super::counters::slots::SlotChanges;
use super::egress::links::XdpLinks;
use super::expected;
use super::home::Homes;
use super::inputs::Inputs;
use super::inputs::fd_budget;
use super::kept_outputs::KeptOutputs;
use super::live::{LiveOutput, LiveRule, NetworkContext, RuleId, StandIn};
use super::network::announcements::Announcements;
use super::network::blocked::{self, Blocked};
use super::network::link_table::LinkTable;
use super::offload::RuleWay;
#[cfg(feature = "offload")]
use super::offload::kernel_relay::KernelRelay;
use super::rule_change::Difference;
use super::settings::Home;
use super::shaping::LiveShaping;
use super::taps::LiveTaps;
use super::{ChangeError, EgressMode, Ingress, Settings, warn_once};
use crate::engine::ingress::OrderCheck;
use crate::error::Result;
use crate::sockets::nofile::Descriptors;
use crate::sockets::output;
use crate::sockets::provider::SocketProvider;
use crate::spec::{InputSpec, OutputSpec, RuleSpec};
use crate::stats::{self, Grant, Slot};

/// The rules, sockets and counter slots of a relay.
pub(super) struct State {
    pub(super) rules: BTreeMap<RuleId, LiveRule>,
    pub(super) inputs: Inputs,
    pub(super) slots: SlotAllocator,
    pub(super) output_warnings: Vec<String>,
    pub(super) stand_in: StandIn,
    pub(super) xdp_links: XdpLinks,
    /// The rules that the kernel relays.
    #[cfg(feature = "offload")]
    pub(super) kernel: KernelRelay,
    /// The rules that were added, removed or changed since the last plans.
    pub(super) touched: BTreeSet<RuleId>,
    pub(super) announcements: Announcements,
    /// Whether the plans contain a socket that was closed.
    pub(super) has_stale_plans: bool,
    /// Whether all rules are checked each second.
    pub(super) is_polling: bool,
    /// The links at the last change: while they are unchanged, no input has lost its interface.
    pub(super) checked_links: Arc<LinkTable>,
    /// The links to which all sockets were last adapted.
    pub(super) followed_links: Arc<LinkTable>,
    settings: Settings,
    groups: GroupSlots,
    /// Slots of groups that were granted or released since the last plans.
    slot_changes: SlotChanges,
    descriptors: Descriptors,
    /// What engines record for programs that watch.
    pub(super) taps: LiveTaps,
    /// The rates of interfaces, and the classes that share them.
    pub(super) shaping: LiveShaping,
}

/// The rules that a change has opened and their slots; no engine uses them yet.
#[derive(Default)]
pub(super) struct Opened {
    pub(super) rules: Vec<LiveRule>,
    pub(super) slots: Vec<Grant>,
}

impl State {
    /// Creates a state without rules. Plans contain `any` in place of sockets that do not exist.
    ///
    /// # Errors
    /// No free descriptor.
    pub(super) fn new(
        settings: &Settings,
        any: OwnedFd,
        provider: Arc<dyn SocketProvider>,
        slots: SlotAllocator,
    ) -> Result<Self> {
        Ok(Self {
            rules: BTreeMap::new(),
            inputs: Inputs::new(settings, provider)?,
            slots,
            output_warnings: Vec::new(),
            stand_in: StandIn::new(any),
            xdp_links: XdpLinks::default(),
            #[cfg(feature = "offload")]
            kernel: KernelRelay::new(settings)?,
            touched: BTreeSet::new(),
            announcements: Announcements::default(),
            has_stale_plans: false,
            is_polling: false,
            checked_links: Arc::default(),
            followed_links: Arc::default(),
            settings: settings.clone(),
            groups: GroupSlots::default(),
            slot_changes: SlotChanges::default(),
            descriptors: Descriptors::default(),
            taps: LiveTaps::default(),
            shaping: LiveShaping::new(settings.share),
        })
    }

    /// How the outputs may send.
    pub(super) fn egress(&self) -> EgressMode {
        self.settings.egress
    }

    /// How the inputs receive.
    pub(super) fn ingress(&self) -> Ingress {
        self.settings.ingress
    }

    /// Who relays a rule.
    pub(super) fn rule_way(&self, _id: &RuleId) -> RuleWay {
        #[cfg(feature = "offload")]
        return self.kernel.way(_id);
        #[cfg(not(feature = "offload"))]
        RuleWay::OFF
    }

    /// Why the engine relays a rule and not the kernel, in a sentence, if there is something to say.
    pub(super) fn engine_sentence(&self, _id: &RuleId) -> Option<String> {
        #[cfg(feature = "offload")]
        return self.kernel.engine_sentence(_id);
        #[cfg(not(feature = "offload"))]
        None
    }

    /// Raises the limit of open files if the new rules need it.
    ///
    /// # Errors
    /// The limit cannot be raised far enough.
    pub(super) fn reserve(&mut self, add: &[Cow<'_, RuleSpec>]) -> Result<()> {
        match add {
            [] => Ok(()),
            _ => {
                let merges = |name: &str| self.inputs.merges(name);
                let needed = fd_budget::descriptors(add, &self.settings, merges);
                self.descriptors.reserve(needed)
            }
        }
    }

    /// Opens spare sockets for interfaces that appear after the privileges were given up.
    ///
    /// # Errors
    /// A missing privilege, a limit.
    pub(super) fn open_spares(&mut self) -> Result<()> {
        self.descriptors.reserve(self.inputs.spares())?;
        self.inputs.open_spares()
    }

    /// Opens all sockets that new rules need, but for the outputs that they have from removed rules.
    /// After an error nothing has changed.
    pub(super) fn open(
        &mut self,
        difference: &Difference<'_>,
        context: &NetworkContext<'_>,
    ) -> std::result::Result<Opened, ChangeError> {
        let add = &*difference.add;
        let mut kept = self.kept_outputs(difference);
        let homes = Homes::of(difference, &self.rules, &self.settings)?;
        let mut opened = Opened { rules: Vec::with_capacity(add.len()), slots: Vec::new() };
        expected::announce(add, (&self.inputs, &homes, &kept), context);
        // For all rules first: another process may already have opened an output of a later one.
        add.iter().for_each(|spec| self.inputs.add_source_ports(spec.outputs.iter()));
        let result = add.iter().try_for_each(|spec| {
            let refused = |error| ChangeError { rule: Some(spec.id.clone()), error };
            let home = homes.find(spec);
            self.open_rule((spec, home), context, &mut kept, &mut opened).map_err(refused)
        });
        let result = result.and_then(|()| Ok(self.inputs.update_packet_sockets()?));
        context.provider.forget_expected();
        if let Err(refusal) = result {
            let missing = &add[opened.rules.len()..];
            missing.iter().for_each(|spec| self.inputs.remove_source_ports(spec.outputs.iter()));
            self.undo(opened);
            return Err(refusal);
        }
        Ok(opened)
    }

    /// Closes what an abandoned change has opened.
    pub(super) fn undo(&mut self, opened: Opened) {
        for rule in &opened.rules {
            self.release_rule(rule);
        }
        self.apply_inputs();
        self.close_unused_links();
        for grant in opened.slots.into_iter().chain(self.inputs.forget_new()) {
            self.slots.return_grant(grant);
        }
    }

    /// Adds opened rules; returns their ids.
    pub(super) fn insert_rules(&mut self, rules: Vec<LiveRule>) -> Vec<RuleId> {
        let ids: Vec<RuleId> = rules.iter().map(|rule| rule.id.clone()).collect();
        self.touched.extend(ids.iter().cloned());
        self.rules.extend(rules.into_iter().map(|rule| (rule.id.clone(), rule)));
        ids
    }

    /// Removes rules and closes their inputs; returns the rules. Their slots are added to `freed`
    /// and may be reused once no plan contains them.
    pub(super) fn remove_rules(&mut self, ids: &[RuleId], freed: &mut Vec<Slot>) -> Vec<LiveRule> {
        let mut removed = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(rule) = self.rules.remove(id) {
                self.touched.insert(id.clone());
                freed.extend(self.release_rule(&rule));
                freed.push(rule.slot);
                freed.extend(rule.outputs.iter().map(|output| output.slot));
                removed.push(rule);
            }
        }
        removed
    }

    /// Enables or disables rules; returns the previous values.
    pub(super) fn set_enabled(&mut self, wanted: &[(RuleId, bool)]) -> Vec<(RuleId, bool)> {
        let mut before = Vec::with_capacity(wanted.len());
        for (id, enabled) in wanted {
            if let Some(rule) = self.rules.get_mut(id) {
                self.touched.insert(id.clone());
                before.push((id.clone(), std::mem::replace(&mut rule.enabled, *enabled)));
            }
        }
        before
    }

    /// Writes the number of frames that the kernel lost on each interface to the counter pages.
    pub(super) fn publish_kernel_drops(&self) {
        for interface in self.inputs.interfaces() {
            self.slots.set_kernel_drops(interface.slot, interface.kernel_drops());
        }
    }

    /// Publishes the way of each output for readers of the pages.
    pub(super) fn publish_ways(&self) {
        for output in self.rules.values().flat_map(|rule| &rule.outputs) {
            self.slots.set_way(output.slot, output.way());
        }
    }

    /// Narrows filters and closes sockets that no rule needs any more. An error leaves a filter
    /// wider than necessary, which costs time but loses nothing, so it is only a warning.
    pub(super) fn apply_inputs(&mut self) {
        if let Err(error) = self.inputs.update_packet_sockets() {
            warn_once(&mut self.inputs.warnings, error.to_string());
        }
    }

    /// The outputs of removed rules, for the added ones; none where the kernel may relay them.
    fn kept_outputs(&self, difference: &Difference<'_>) -> KeptOutputs {
        #[cfg(feature = "offload")]
        if self.kernel.is_wanted() {
            return KeptOutputs::default();
        }
        KeptOutputs::of(difference, &self.rules)
    }

    fn open_rule(
        &mut self,
        (spec, home): (&RuleSpec, Option<Home>),
        context: &NetworkContext<'_>,
        kept: &mut KeptOutputs,
        opened: &mut Opened,
    ) -> Result<()> {
        let outputs = self.open_outputs(spec, context, kept, opened)?;
        let slot = match kept.rule_slot(spec, &self.rules) {
            Some(slot) => slot,
            None => self.allocate(stats::SlotOwner::rule(&spec.id), opened)?.slot,
        };
        let RuleSpec { id, enabled, input, merge, class, .. } = spec.clone();
        let merge = merge.map(|merge| (merge.by, merge.leg));
        let interface_name = input.interface.clone();
        let group_interface =
            context.links.find(&interface_name).map_or(&interface_name, |link| &link.name).clone();
        let (group, granted) = self.groups.add(&group_interface, &input, &mut self.slots)?;
        self.slots.set_group(slot, groups::owner(&group_interface, &input));
        opened.slots.extend(granted);
        let mut rule = LiveRule {
            id: id.into(),
            enabled,
            is_held: false,
            interface_name,
            input,
            waiting: None,
            order: OrderCheck::Nothing,
            order_from: None,
            slot,
            group,
            group_interface,
            outputs,
            merge,
            home,
            class,
        };
        if let Err(error) = self.attach(&mut rule, context.links) {
            if !blocked::is_transient(&error) {
                self.groups.remove(&rule.group_interface, &rule.input);
                return Err(error);
            }
            rule.waiting = Some(Blocked::refused_input(&rule.input, &error));
        }
        opened.rules.push(rule);
        Ok(())
    }

    fn open_outputs(
        &mut self,
        spec: &RuleSpec,
        context: &NetworkContext<'_>,
        kept: &mut KeptOutputs,
        opened: &mut Opened,
    ) -> Result<Vec<LiveOutput>> {
        let mut outputs = Vec::with_capacity(spec.outputs.len());
        for (key, output) in spec.output_keys().zip(&spec.outputs) {
            let (slot, is_continued) = match kept.take(key, &self.rules) {
                Some(live) if live.spec().is_same(output) => {
                    outputs.push(live.clone());
                    continue;
                }
                Some(live) => (live.slot, false),
                None => {
                    let grant = self.allocate(stats::SlotOwner::output(key), opened)?;
                    (grant.slot, grant.is_continued)
                }
            };
            let output = self.open_output(output, key, &spec.input, context, slot)?;
            // What an earlier process has relayed continues, whatever has changed since.
            if !is_continued {
                output.check_egress(context.egress.choice)?;
            }
            outputs.push(output);
        }
        Ok(outputs)
    }

    /// Opens a rule's input, or records in `rule.waiting` why it cannot be opened yet.
    ///
    /// # Errors
    /// The kernel's; the input is not open then.
    pub(super) fn attach(&mut self, rule: &mut LiveRule, links: &LinkTable) -> Result<()> {
        rule.input.ifindex = 0;
        rule.waiting = None;
        match blocked::input_link(&rule.interface_name, &rule.input, links) {
            Err(blocked) => rule.waiting = Some(blocked),
            Ok(link) => {
                self.move_group_counters(rule, &link.name)?;
                rule.input.interface.clone_from(&link.name);
                rule.input.ifindex = link.index;
                self.inputs.add((&rule.input, rule.home), links, &mut self.slots)?;
                (rule.order, rule.order_from) = (self.inputs.order_check(&rule.input), None);
            }
        }
        Ok(())
    }

    /// Moves the counters of a rule's group to the primary name of its interface, so that all rules
    /// for this group and interface share them, whichever alternative name they use.
    fn move_group_counters(&mut self, rule: &mut LiveRule, name: &str) -> Result<()> {
        if rule.group_interface == name {
            return Ok(());
        }
        let (slot, granted) = self.groups.add(name, &rule.input, &mut self.slots)?;
        self.slots.set_group(rule.slot, groups::owner(name, &rule.input));
        self.slot_changes.granted.extend(granted);
        self.slot_changes.released.extend(self.groups.remove(&rule.group_interface, &rule.input));
        rule.group = slot;
        name.clone_into(&mut rule.group_interface);
        Ok(())
    }

    /// The slots whose owners differ from the plans for another reason than a change of the rules.
    pub(super) fn take_slot_changes(&mut self) -> SlotChanges {
        let mut changes = std::mem::take(&mut self.slot_changes);
        changes.granted.extend(self.inputs.take_new_slots());
        changes
    }

    fn open_output(
        &mut self,
        spec: &OutputSpec,
        key: u64,
        input: &InputSpec,
        context: &NetworkContext<'_>,
        slot: Slot,
    ) -> Result<LiveOutput> {
        let mut output = LiveOutput::open(spec, key, input, slot, context)?;
        output.follow_egress(context, &mut self.xdp_links);
        self.check_buffer(output.send_buffer_bytes);
        if output.parked.is_none() && output.trouble().is_some() {
            let text = "has no carrier: until it has, copies to it are dropped as no_carrier";
            warn_once(&mut self.output_warnings, format!("{} {text}", spec.interface));
        }
        Ok(output)
    }

    pub(super) fn check_buffer(&mut self, bytes: usize) {
        if bytes < output::SEND_BUFFER_BYTES {
            warn_once(
                &mut self.output_warnings,
                format!(
                    "the send buffer is {} KiB instead of {}: raise net.core.wmem_max or start as root",
                    bytes / 1024,
                    output::SEND_BUFFER_BYTES / 1024,
                ),
            );
        }
    }

    fn allocate(&mut self, owner: stats::SlotOwner, opened: &mut Opened) -> Result<Grant> {
        let grant = self.slots.allocate(owner)?;
        opened.slots.push(grant);
        Ok(grant)
    }

    /// Closes a rule's input; returns the slot of its group if no other rule uses that.
    fn release_rule(&mut self, rule: &LiveRule) -> Option<Slot> {
        if rule.waiting.is_none() {
            self.inputs.remove(&rule.input, rule.home);
        }
        self.inputs.remove_source_ports(rule.output_specs());
        self.groups.remove(&rule.group_interface, &rule.input)
    }
}
