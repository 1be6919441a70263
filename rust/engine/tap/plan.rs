//! What an engine needs to know for its taps: a part of its plan, compiled by the cold side.

use std::sync::Arc;

use crate::addr::Addr;
use crate::engine::rewrite::{Origin, Rewrite};
use crate::packet::{EthernetHeader, Headers, group_mac};
use crate::spec::{Choice, OutputSpec};
use crate::tap::{RingWriter, TapFilter};

/// The taps of an engine.
pub struct PlanTaps {
    /// At most [`crate::tap::MAX_TAPS`].
    pub taps: Vec<PlanTap>,
    /// By the number of the rule in the table.
    pub rules: Vec<TapRule>,
}

/// One tap.
#[derive(Clone)]
pub struct PlanTap {
    /// What it takes.
    pub filter: TapFilter,
    /// The inputs of its only rule; none if it takes all, or if there is no such rule.
    pub inputs: Vec<TapInput>,
    /// Where it is recorded.
    pub ring: Arc<RingWriter>,
}

/// The input of a rule, as far as datagrams that do not match may belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapInput {
    /// The index of its interface; 0 for every one.
    pub ifindex: u32,
    /// The group, or the first of a block.
    pub group: Addr,
    /// The bits in which the groups of the block vary.
    pub group_bits: u8,
}

/// A rule, for the taps.
#[derive(Clone, Default)]
pub struct TapRule {
    /// Its id, 12 hexadecimal digits, as a number.
    pub id: u64,
    /// One bit for each tap that takes it.
    pub taps: u8,
    /// Whether it merges its input with others.
    pub is_merged: bool,
    /// Its outputs, in their order; none if no tap takes it.
    pub outputs: Box<[TapOutput]>,
}

/// An output, for the headers of its copies.
#[derive(Clone)]
pub struct TapOutput {
    /// Its specification.
    pub spec: OutputSpec,
    /// The source address and port of the engine's socket.
    pub own: (Addr, u16),
    /// The first group and port of the rule's input.
    pub first: (Addr, u16),
    /// The Ethernet addresses, if they are known.
    pub ethernet: Option<EthernetHeader>,
}

impl TapOutput {
    /// The headers of the copy of a datagram from `origin`. The kernel writes those that it sends;
    /// these say the same.
    pub(super) fn headers(&self, origin: &Origin) -> (EthernetHeader, Headers) {
        let (own, port) = self.own;
        let mut headers = Rewrite::preview(&self.spec, own, self.first, origin).headers;
        if self.spec.source_port != Choice::Keep {
            headers.source_port = port;
        }
        let known = self.ethernet.unwrap_or(UNKNOWN);
        let is_group = headers.destination.is_multicast();
        let destination = if is_group { group_mac(headers.destination) } else { known.destination };
        (EthernetHeader { destination, ..known }, headers)
    }
}

/// What stands for addresses that are not known.
pub(super) const UNKNOWN: EthernetHeader = EthernetHeader { destination: [0; 6], source: [0; 6] };
