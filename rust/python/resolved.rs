//! The values that `mcr.rules.ruleset` hands down: rules checked against this host. It must not know
//! what is done with them.

use std::net::IpAddr;

use pyo3::prelude::*;

use crate::addr::Addr;
use crate::spec::{Choice, OutputSpec, Ttl};
use crate::spec::{InputSpec, Join, RuleSpec};

/// A value, or the word for what is done with the datagram's own: "keep" or "decrement".
#[derive(FromPyObject)]
enum FieldValue<T> {
    Word(String),
    Value(T),
}

/// `mcr.resolved.ResolvedOutput`.
#[derive(FromPyObject)]
pub(super) struct ResolvedOutput {
    address: IpAddr,
    address_bits: u8,
    port: u16,
    last_port: u16,
    interface: String,
    ifindex: u32,
    ttl: FieldValue<u8>,
    dscp: FieldValue<u8>,
    source: Option<FieldValue<IpAddr>>,
    source_port: Option<FieldValue<u16>>,
    #[pyo3(attribute("loop"))]
    multicast_loop: bool,
    priority: Option<u8>,
}

/// `mcr.resolved.ResolvedInput`.
#[derive(FromPyObject)]
pub(super) struct ResolvedInput {
    pub(super) group: IpAddr,
    group_bits: u8,
    pub(super) broadcast: bool,
    pub(super) everywhere: bool,
    pub(super) port: u16,
    last_port: u16,
    join: String,
    pub(super) interface: String,
    pub(super) ifindex: u32,
    pub(super) sources: Vec<IpAddr>,
    pub(super) vlan: u16,
}

/// `mcr.resolved.ResolvedRule`.
#[derive(FromPyObject)]
pub(super) struct ResolvedRule {
    id: String,
    enabled: bool,
    input: ResolvedInput,
    outputs: Vec<ResolvedOutput>,
}

impl From<ResolvedOutput> for OutputSpec {
    fn from(output: ResolvedOutput) -> Self {
        Self {
            address: output.address.into(),
            address_bits: output.address_bits,
            port: output.port,
            last_port: output.last_port,
            ifindex: output.ifindex,
            interface: output.interface,
            ttl: match output.ttl {
                FieldValue::Value(hops) => Ttl::Set(hops),
                FieldValue::Word(word) if word == "decrement" => Ttl::Decrement,
                FieldValue::Word(_) => Ttl::Keep,
            },
            dscp: match output.dscp {
                FieldValue::Value(dscp) => Some(dscp),
                FieldValue::Word(_) => None,
            },
            source: choice(output.source),
            source_port: choice(output.source_port),
            multicast_loop: output.multicast_loop,
            priority: output.priority,
        }
    }
}

fn choice<T, U: From<T>>(given: Option<FieldValue<T>>) -> Choice<U> {
    match given {
        None => Choice::Kernel,
        Some(FieldValue::Value(value)) => Choice::Chosen(value.into()),
        Some(FieldValue::Word(_)) => Choice::Keep,
    }
}

impl From<ResolvedInput> for InputSpec {
    fn from(input: ResolvedInput) -> Self {
        Self {
            group: input.group.into(),
            group_bits: input.group_bits,
            broadcast: input.broadcast,
            everywhere: input.everywhere,
            port: input.port,
            last_port: input.last_port,
            join: if input.join == "none" { Join::None } else { Join::Each },
            interface: input.interface,
            ifindex: input.ifindex,
            sources: input.sources.into_iter().map(Addr::from).collect(),
            vlan: input.vlan,
        }
    }
}

impl From<ResolvedRule> for RuleSpec {
    fn from(rule: ResolvedRule) -> Self {
        let outputs = rule.outputs.into_iter().map(OutputSpec::from).collect();
        Self { id: rule.id, enabled: rule.enabled, input: rule.input.into(), outputs }
    }
}
