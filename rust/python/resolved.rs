//! The values that `mcr.config` hands down: rules checked against this host. It must not know
//! what is done with them.

use std::net::IpAddr;

use pyo3::prelude::*;

use crate::addr::Addr;
use crate::open::output::OutputSpec;
use crate::relay::{InputSpec, RuleSpec};

/// `mcr.config.ResolvedOutput`.
#[derive(FromPyObject)]
pub(super) struct ResolvedOutput {
    address: IpAddr,
    port: u16,
    interface: String,
    ifindex: u32,
    ttl: u8,
    dscp: u8,
    source: Option<IpAddr>,
    source_port: Option<u16>,
    #[pyo3(attribute("loop"))]
    multicast_loop: bool,
    priority: Option<u8>,
}

/// `mcr.config.ResolvedInput`.
#[derive(FromPyObject)]
pub(super) struct ResolvedInput {
    pub(super) group: IpAddr,
    pub(super) broadcast: bool,
    pub(super) port: u16,
    pub(super) interface: String,
    pub(super) ifindex: u32,
    pub(super) sources: Vec<IpAddr>,
    pub(super) vlan: u16,
}

/// `mcr.config.ResolvedRule`.
#[derive(FromPyObject)]
pub(super) struct ResolvedRule {
    input: ResolvedInput,
    outputs: Vec<ResolvedOutput>,
}

impl From<ResolvedOutput> for OutputSpec {
    fn from(output: ResolvedOutput) -> Self {
        Self {
            address: output.address.into(),
            port: output.port,
            ifindex: output.ifindex,
            interface: output.interface,
            ttl: output.ttl,
            dscp: output.dscp,
            source: output.source.map(Addr::from),
            source_port: output.source_port,
            multicast_loop: output.multicast_loop,
            priority: output.priority,
        }
    }
}

impl From<ResolvedInput> for InputSpec {
    fn from(input: ResolvedInput) -> Self {
        Self {
            group: input.group.into(),
            broadcast: input.broadcast,
            port: input.port,
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
        Self { input: rule.input.into(), outputs }
    }
}
