//! Where the inputs of a merging rule meet, if there are several engines or processes: all of them
//! are received by one, which the first input decides, so that all processes agree.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::live::{LiveRule, RuleId};
use super::rule_change::Difference;
use super::settings::Home;
use super::{ChangeError, Ingress, Settings};
use crate::addr::Addr;
use crate::error::Error;
use crate::spec::{InputSpec, RuleSpec, rule_of_leg};

/// The address and port of an input.
type Destination = (Addr, u16);

/// The homes of the merging rules of a change.
pub(super) struct Homes(HashMap<String, Home>);

impl Homes {
    /// Finds the homes of all rules that a change adds to `rules`.
    ///
    /// # Errors
    /// Two rules need the same input in different engines.
    pub(super) fn of(
        difference: &Difference<'_>,
        rules: &BTreeMap<RuleId, LiveRule>,
        settings: &Settings,
    ) -> Result<Self, ChangeError> {
        let mut homes = HashMap::new();
        for spec in difference.add.iter().filter(|spec| spec.merge.is_some()) {
            let head = rule_of_leg(&spec.id);
            if head == spec.id {
                homes.insert(head.to_owned(), settings.home(&spec.input));
            } else if let Some(home) = rules.get(head).and_then(|rule| rule.home) {
                homes.entry(head.to_owned()).or_insert(home);
            }
        }
        let has_merges = !homes.is_empty() || rules.values().any(|rule| rule.merge.is_some());
        if settings.engines() > 1 && has_merges {
            check(&inputs_after(difference, rules), settings.ingress)?;
        }
        Ok(Self(homes))
    }

    /// The home of a rule, or of another input of it; `None` if it merges nothing.
    pub(super) fn find(&self, spec: &RuleSpec) -> Option<Home> {
        spec.merge.as_ref()?;
        self.0.get(rule_of_leg(&spec.id)).copied()
    }
}

/// An input after a change, and the id under which the relay has it.
struct ChangedInput<'a> {
    id: &'a str,
    input: &'a InputSpec,
    is_merged: bool,
}

/// The inputs of all rules after a change.
fn inputs_after<'a>(
    difference: &'a Difference<'_>,
    rules: &'a BTreeMap<RuleId, LiveRule>,
) -> Vec<ChangedInput<'a>> {
    let removed: HashSet<&str> = difference.remove.iter().map(|id| &**id).collect();
    let kept = rules.iter().filter(|(id, _)| !removed.contains(&***id));
    let kept = kept.map(|(id, live)| ChangedInput {
        id,
        input: &live.input,
        is_merged: live.merge.is_some(),
    });
    let added = difference.add.iter().map(|spec| ChangedInput {
        id: &spec.id,
        input: &spec.input,
        is_merged: spec.merge.is_some(),
    });
    kept.chain(added).collect()
}

/// Checks that each input of a merging rule can be received where the rule's first input is.
fn check(inputs: &[ChangedInput<'_>], ingress: Ingress) -> Result<(), ChangeError> {
    let (merged, others): (Vec<_>, Vec<_>) = inputs.iter().partition(|each| each.is_merged);
    let heads = merged.iter().filter(|each| rule_of_leg(each.id) == each.id);
    let heads: HashMap<&str, Destination> =
        heads.map(|each| (each.id, destination(each.input))).collect();
    let mut meeting: BTreeMap<Destination, (&str, Destination)> = BTreeMap::new();
    for each in merged {
        let Some(&head) = heads.get(rule_of_leg(each.id)) else { continue };
        let (other, known) = *meeting.entry(destination(each.input)).or_insert((each.id, head));
        if known != head {
            return Err(refused(each, other));
        }
    }
    // With `packet` the kernel leads all frames for a group to the same engine. A socket is of one
    // engine, which for an input of another rule may be another one.
    let is_led = |input: &InputSpec| {
        ingress == Ingress::Packet && (input.group.is_multicast() || input.broadcast)
    };
    for each in others.into_iter().filter(|each| !is_led(each.input)) {
        let ChangedInput { input, .. } = each;
        let has = |(group, port): &Destination| {
            group.block(input.group_bits) == input.group
                && (input.port..=input.last_port).contains(port)
        };
        if let Some((_, (other, _))) = meeting.iter().find(|(leg, _)| has(leg)) {
            return Err(refused(each, other));
        }
    }
    Ok(())
}

fn destination(input: &InputSpec) -> Destination {
    (input.group, input.port)
}

fn refused(each: &ChangedInput<'_>, other: &str) -> ChangeError {
    let InputSpec { group, port, .. } = each.input;
    let text = format!(
        "with several workers no other rule can have the input {group} port {port}, which the rule \
         {} merges, unless both have the same first input; start with workers 1",
        rule_of_leg(other)
    );
    ChangeError { rule: Some(rule_of_leg(each.id).to_owned()), error: Error::Invalid(text) }
}
