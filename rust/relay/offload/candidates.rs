//! Which rules the kernel can relay. A datagram belongs to the most specific rule, so of the rules
//! for one group and port it relays all or none.

use std::collections::{BTreeMap, BTreeSet};

use super::drivers::Drivers;
use super::input_users::InputUsers;
use super::reason::EngineReason;
use crate::addr::Addr;
use crate::offload::{KernelRule, Obstacle};
use crate::relay::live::{LiveRule, NetworkContext, RuleId};
use crate::relay::shaping::LiveShaping;
use crate::relay::taps::LiveTaps;
use crate::spec::{InputSpec, RuleSpec};

/// For each rule its form in the kernel, or why the engine relays it.
pub(in crate::relay) type Decisions = BTreeMap<RuleId, Result<KernelRule, EngineReason>>;

/// A rule, and whether it is to be enabled.
#[derive(Clone, Copy)]
pub(in crate::relay) struct Candidate<'a> {
    pub(in crate::relay) rule: &'a LiveRule,
    pub(in crate::relay) enabled: bool,
}

impl<'a> From<&'a LiveRule> for Candidate<'a> {
    fn from(rule: &'a LiveRule) -> Self {
        Self { rule, enabled: rule.enabled }
    }
}

/// Decides on all rules of a relay, apart from attaching to their inputs. `kept` says what the
/// kernel leaves to the engines.
pub(super) fn decide(
    rules: &[Candidate<'_>],
    context: &NetworkContext<'_>,
    (drivers, users): (&Drivers<'_>, &InputUsers<'_>),
    kept: (&LiveTaps, &LiveShaping),
) -> Decisions {
    let uppers = uppers(rules, context);
    let each = rules.iter().map(|candidate| {
        let upper = uppers.iter().find(|upper| takes_from(upper, &candidate.rule.input, context));
        let decision = match upper {
            Some(upper) => Err(upper_reason(upper, &candidate.rule.input)),
            None => kernel_rule(candidate, context, (drivers, users), kept),
        };
        (candidate.rule.id.clone(), decision)
    });
    let mut decisions: Decisions = each.collect();
    for group in same_inputs(rules).into_values().filter(|group| group.len() > 1) {
        let are_ready = group.iter().all(|rule| matches!(decisions.get(&rule.id), Some(Ok(_))));
        if are_ready && are_apart(&group) {
            continue;
        }
        for rule in group {
            if let Some(decision @ Ok(_)) = decisions.get_mut(&rule.id) {
                *decision = Err(EngineReason::SharedInput);
            }
        }
    }
    decisions
}

/// Whether an input covers the group and port of another one on its interface.
pub(super) fn covers(wide: &InputSpec, one: &InputSpec) -> bool {
    wide.ifindex == one.ifindex
        && wide.vlan == one.vlan
        && wide.group.is_v4() == one.group.is_v4()
        && wide.group.block(wide.group_bits) == one.group.block(wide.group_bits)
        && (wide.port..=wide.last_port).contains(&one.port)
}

fn kernel_rule(
    candidate: &Candidate<'_>,
    context: &NetworkContext<'_>,
    (drivers, users): (&Drivers<'_>, &InputUsers<'_>),
    (taps, shaping): (&LiveTaps, &LiveShaping),
) -> Result<KernelRule, EngineReason> {
    let Candidate { rule, enabled } = *candidate;
    if !enabled {
        return Err(EngineReason::Disabled);
    }
    let spec = RuleSpec {
        merge: None,
        class: None,
        id: String::new(),
        enabled,
        input: rule.input.clone(),
        outputs: rule.output_specs().cloned().collect(),
    };
    // What the rule itself decides is told first, also while it waits.
    if let Err(obstacle @ (Obstacle::NotGroup | Obstacle::Pattern)) =
        KernelRule::of(&spec, &[], None)
    {
        return Err(obstacle.into());
    }
    if rule.waiting.is_some() {
        return Err(EngineReason::Waiting);
    }
    if taps.take(&rule.id) {
        return Err(EngineReason::Tap);
    }
    if rule.outputs.iter().any(|output| shaping.limits(&output.interface)) {
        return Err(Obstacle::Limited.into());
    }
    users.check(&rule.input, context)?;
    let mut refused = None;
    let paths: Vec<_> = (rule.outputs.iter())
        .map(|output| match output.kernel_path(context, drivers) {
            Ok(path) => Some(path),
            Err(reason) => {
                refused.get_or_insert(reason);
                None
            }
        })
        .collect();
    match (KernelRule::of(&spec, &paths, None), refused) {
        (Err(Obstacle::NoDevice), Some(reason)) => Err(reason),
        (decided, _) => Ok(decided?),
    }
}

/// The rules on interfaces that receive what arrives at an input of another rule.
fn uppers<'a>(rules: &[Candidate<'a>], context: &NetworkContext<'_>) -> Vec<&'a InputSpec> {
    let open = rules.iter().map(|candidate| &candidate.rule.input);
    let open: Vec<&InputSpec> = open.filter(|input| input.ifindex != 0).collect();
    let interfaces: BTreeSet<u32> = open.iter().map(|input| input.ifindex).collect();
    let stands = |upper: u32| {
        let below = interfaces.iter().filter(|lower| **lower != upper);
        below.into_iter().any(|&lower| context.links.stands_on(upper, lower))
    };
    let upper: BTreeSet<u32> = interfaces.iter().copied().filter(|index| stands(*index)).collect();
    open.into_iter().filter(|input| upper.contains(&input.ifindex)).collect()
}

/// Whether a rule on an upper interface is to get datagrams of an input below it.
fn takes_from(upper: &InputSpec, input: &InputSpec, context: &NetworkContext<'_>) -> bool {
    let here = InputSpec { ifindex: input.ifindex, vlan: input.vlan, ..upper.clone() };
    upper.ifindex != input.ifindex
        && covers(&here, input)
        && context.links.stands_on(upper.ifindex, input.ifindex)
}

fn upper_reason(upper: &InputSpec, input: &InputSpec) -> EngineReason {
    EngineReason::Upper(upper.interface.clone(), input.interface.clone())
}

type SameInput = (u32, u16, Addr, u16);

/// The active rules for one group and port, by their input.
fn same_inputs<'a>(rules: &[Candidate<'a>]) -> BTreeMap<SameInput, Vec<&'a LiveRule>> {
    let mut groups: BTreeMap<SameInput, Vec<&LiveRule>> = BTreeMap::new();
    for Candidate { rule, enabled } in rules {
        let InputSpec { ifindex, vlan, group, port, last_port, group_bits, .. } = rule.input;
        if *enabled && rule.waiting.is_none() && group_bits == 0 && last_port == port {
            groups.entry((ifindex, vlan, group, port)).or_default().push(*rule);
        }
    }
    groups
}

/// Whether no two rules for one input take the same datagrams.
fn are_apart(rules: &[&LiveRule]) -> bool {
    let mut sources = BTreeSet::new();
    let any = rules.iter().filter(|rule| rule.input.sources.is_empty()).count();
    let mut listed = rules.iter().map(|rule| BTreeSet::from_iter(&rule.input.sources));
    any <= 1 && listed.all(|own| own.into_iter().all(|source| sources.insert(*source)))
}
