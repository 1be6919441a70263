//! What one worker is told to do: sockets, table and counters, compiled by the cold side.
//! A plan never changes; the engine swaps it for the next one between two turns.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::engine::buffers::SizeClass;
use crate::engine::ingress::{Delivery, OrderCheck};
use crate::engine::rewrite::{Preserved, Rewrite};
use crate::rules::Table;
use crate::sockets::provider::Socket;
use crate::stats::{Grant, Slot};
use crate::sys::packet_ring::PacketRing;

/// So many rules have their outputs in one share: a change makes those shares anew that it
/// touches, and hands on all others as they are.
pub const SHARE_RULES: usize = 64;

/// A worker's sockets and rules.
pub struct Plan {
    /// The sockets to receive from.
    pub sources: Box<[Source]>,
    /// Which rules take a datagram.
    pub table: Arc<Table>,
    /// The rules, by their numbers in the table; under numbers that no rule has stands anything.
    pub rules: Arc<[PlanRule]>,
    /// The outputs of [`SHARE_RULES`] rules each; plans in which they are the same share them.
    pub outputs: Box<[Arc<[PlanOutput]>]>,
    /// The counters of each group number of the table.
    pub groups: Arc<[u32]>,
    /// Slots that have a new owner since the plan before.
    pub grants: Vec<Grant>,
    /// Slots that have none any more.
    pub released: Vec<Slot>,
}

/// A socket to receive from.
#[derive(Clone)]
pub struct Source {
    /// The same in every plan that has this socket.
    pub id: u64,
    /// The socket.
    pub fd: Arc<Socket>,
    /// How it delivers.
    pub kind: Delivery,
    /// Where its frames lie, when they come in slots.
    pub ring: Option<Arc<PacketRing>>,
    /// The size of its buffers.
    pub class: SizeClass,
    /// The kernel's index of its interface.
    pub interface: u32,
    /// The interface's counters.
    pub slot: u32,
}

/// A rule's counters and outputs.
#[derive(Clone, Debug, Default)]
pub struct PlanRule {
    /// The rule's counters.
    pub slot: u32,
    /// Its outputs, in the share that its number lies in.
    pub outputs: Range<u32>,
    /// What they take over of a datagram, if any of them does.
    pub kept: Option<Preserved>,
    /// How its datagrams are looked at while the kernel merges them, or may soon.
    pub order: OrderCheck,
}

/// A connected socket to send to.
pub struct PlanOutput {
    /// The socket.
    pub fd: Arc<Socket>,
    /// The output's counters.
    pub slot: Slot,
    /// The largest datagram that its link carries in one piece, bytes.
    pub max_segment: u16,
    /// How large a send leaves its link whole, where something would cut a larger one.
    pub burst: Option<Burst>,
    /// Whether what is sent leaves, kept true by the cold side: its interface has a carrier and
    /// it is not parked. `None` by routing.
    pub carrier: Option<Arc<AtomicBool>>,
    /// What it takes over of each datagram, if anything.
    pub rewrite: Option<Arc<Rewrite>>,
}

/// How large a send leaves a link whole: a queueing discipline cuts a larger one, loses datagrams
/// of it, and says that it took all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Bytes of all datagrams, with their headers.
    pub bytes: u32,
    /// Bytes of the headers of each.
    pub headers: u16,
}

impl Plan {
    /// Nothing to do.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            sources: Box::default(),
            table: Arc::new(Table::empty()),
            rules: Arc::default(),
            outputs: Box::default(),
            groups: Arc::default(),
            grants: Vec::new(),
            released: Vec::new(),
        }
    }

    /// How many outputs there are.
    pub(super) fn count_outputs(&self) -> usize {
        self.outputs.iter().map(|share| share.len()).sum()
    }

    /// The outputs of a rule and of its neighbours, which the rule's range points into.
    #[inline]
    pub(super) fn share(&self, rule: u32) -> &[PlanOutput] {
        &self.outputs[rule as usize / SHARE_RULES]
    }
}

impl PlanOutput {
    /// Whether what is sent leaves, as far as is known.
    #[inline]
    pub(super) fn has_carrier(&self) -> bool {
        self.carrier.as_ref().is_none_or(|carrier| carrier.load(Ordering::Relaxed))
    }
}

impl Source {
    /// What two sources have in common exactly when they are the same socket, received from in
    /// the same way.
    pub(super) fn identity(&self) -> (u64, SizeClass, u32) {
        (self.id, self.class, self.slot)
    }
}
