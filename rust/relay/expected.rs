//! The calls by which new rules will be opened, announced to the provider of sockets: one in another
//! process then works on them while this one does its own part. An announcement that turns out
//! wrong costs time and nothing else.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::home::Homes;
use super::inputs::Inputs;
use super::kept_outputs::KeptOutputs;
use super::live::NetworkContext;
use super::network::blocked;
use crate::sockets::provider::ExpectedCall;
use crate::spec::{OutputSpec, RuleSpec};

/// Announces what opening these rules will request, in the same order.
pub(super) fn announce(
    add: &[Cow<'_, RuleSpec>],
    (inputs, homes, kept): (&Inputs, &Homes, &KeptOutputs),
    context: &NetworkContext<'_>,
) {
    let (mut endpoints, mut helped) = (HashSet::new(), HashMap::new());
    let mut calls = add.iter().flat_map(|spec| {
        let mut calls: Vec<ExpectedCall> = outputs(spec, kept, context).collect();
        if let Ok(link) = blocked::input_link(&spec.input.interface, &spec.input, context.links) {
            let mut input = spec.input.clone();
            input.interface.clone_from(&link.name);
            input.ifindex = link.index;
            calls.extend(inputs.expected_joins(&input));
            let is_helped =
                helped.entry(link.index).or_insert_with(|| inputs.helps(link, context.links));
            let opened = inputs.expected_endpoints((&input, homes.find(spec)), *is_helped);
            // Rules for the same group and port share its sockets.
            calls.extend(opened.into_iter().filter(|call| endpoints.insert(call.clone())));
        }
        calls
    });
    context.provider.expect(&mut calls);
}

fn outputs(
    spec: &RuleSpec,
    kept: &KeptOutputs,
    context: &NetworkContext<'_>,
) -> impl Iterator<Item = ExpectedCall> {
    let new = spec.output_keys().zip(&spec.outputs).filter(|(key, _)| !kept.has(*key));
    new.filter_map(|(key, output)| {
        let ifindex = blocked::output_ifindex(output, context.links).ok()?;
        Some(ExpectedCall::Output { key, spec: OutputSpec { ifindex, ..output.clone() } })
    })
}
