//! A rule as Python gives it: its inputs, how they are merged, and its outputs.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;

use super::{InputSpec, OutputSpec, first_fault, is_class_name};
use crate::merge::{MAX_LEGS, MergeSpec};

/// A rule resolved for this host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// Its id, unique within the relay. A successor finds the counters in the page by it.
    pub id: String,
    /// Whether it relays. A disabled rule keeps its sockets and counters.
    pub enabled: bool,
    /// Its input.
    pub input: InputSpec,
    /// Its outputs, each of which gets a copy of each datagram.
    pub outputs: Vec<OutputSpec>,
    /// How its input is merged with others, if it is.
    #[serde(default)]
    pub merge: Option<InputMerge>,
    /// The class of its copies; `None` for the default.
    #[serde(default)]
    pub class: Option<String>,
}

/// How an input is merged with others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputMerge {
    /// By what datagrams are known to be the same, and which are sent.
    pub by: MergeSpec,
    /// The other inputs.
    pub others: Vec<InputSpec>,
    /// The number of the input, from 0; the rule of the first one has the outputs.
    #[serde(skip)]
    pub leg: u8,
}

impl RuleSpec {
    /// Checks the rule without this host.
    ///
    /// # Errors
    /// The fault as a noun.
    pub fn check(&self) -> Result<(), &'static str> {
        self.input.check()?;
        if let Some(merge) = &self.merge {
            merge.check(&self.input)?;
        }
        if self.class.as_deref().is_some_and(|class| !is_class_name(class)) {
            return Err("an invalid class");
        }
        self.outputs.iter().try_for_each(|output| {
            output.check()?;
            output.check_with_input(&self.input)
        })
    }

    /// The same rule as the relay has it: with one input, or as a rule for each input, of which only
    /// the first one has outputs.
    pub(crate) fn legs(&self) -> impl Iterator<Item = Self> {
        let merge = self.merge.iter();
        let others =
            merge.flat_map(|merge| (1_u8..).zip(&merge.others).map(move |each| (merge, each)));
        let leg = |(merge, (leg, input)): (&InputMerge, (u8, &InputSpec))| Self {
            id: leg_id(&self.id, leg),
            enabled: self.enabled,
            input: input.clone(),
            outputs: Vec::new(),
            merge: Some(InputMerge { by: merge.by, others: Vec::new(), leg }),
            class: None,
        };
        let by = self.merge.as_ref().map(|merge| merge.by);
        let head = Self {
            merge: by.map(|by| InputMerge { by, others: Vec::new(), leg: 0 }),
            ..self.clone()
        };
        std::iter::once(head).chain(others.map(leg))
    }

    /// The key of each output: the same in every process and in every rule with the same input,
    /// wherever the output stands and whatever its options are. Those without an address have a key
    /// of their own in each rule.
    pub fn output_keys(&self) -> impl Iterator<Item = u64> {
        let mut input = DefaultHasher::new();
        self.input.identity().hash(&mut input);
        self.outputs.iter().enumerate().map(move |(place, output)| {
            let mut key = input.clone();
            output.destination().hash(&mut key);
            if output.address.ip().is_unspecified() {
                (&self.id, place).hash(&mut key);
            }
            key.finish()
        })
    }

    /// The interface names in it; "" for an input or output without one.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = &String> {
        self.outputs.iter().map(|output| &output.interface).chain([&self.input.interface])
    }
}

impl InputMerge {
    fn check(&self, first: &InputSpec) -> Result<(), &'static str> {
        self.others.iter().try_for_each(InputSpec::check)?;
        let mut inputs = self.others.iter().chain([first]);
        let is_block = |input: &InputSpec| input.group_bits > 0 || input.last_port != input.port;
        first_fault(&[
            (
                !(1..MAX_LEGS).contains(&self.others.len()),
                "a merge of fewer than 2 inputs or more than 4",
            ),
            (!self.by.is_valid(), "a merge by a number of an impossible size, or after no time"),
            (inputs.any(is_block), "a merge of several groups or ports"),
        ])
    }
}

/// The id under which the relay has the input with this number, from 0, of a rule.
#[must_use]
pub fn leg_id(rule: &str, leg: u8) -> String {
    if leg == 0 { rule.to_owned() } else { format!("{rule}/{}", leg + 1) }
}

/// The id of the rule that has an input with this id.
#[must_use]
pub fn rule_of_leg(id: &str) -> &str {
    id.split_once('/').map_or(id, |(rule, _)| rule)
}
