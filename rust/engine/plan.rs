//! A worker's plan: sockets, table and counters, compiled by the cold side. A plan is immutable;
//! the engine replaces it between two turns.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::engine::buffers::SizeClass;
use crate::engine::ingress::{Delivery, OrderCheck};
use crate::engine::interface_limiter::ClassShare;
use crate::engine::limiter::RateLimiter;
use crate::engine::rewrite::{Preserved, Rewrite};
use crate::engine::tap::PlanTaps;
use crate::merge::Merger;
use crate::packet::{EthernetHeader, FrameTemplate, Headers};
use crate::rules::Table;
use crate::sockets::provider::Socket;
use crate::stats::sequences::SequenceSpec;
use crate::stats::{Grant, Slot};
use crate::sys::packet_ring::PacketRing;
use crate::sys::xdp_socket::XdpShape;

/// The number of rules whose outputs form one share. A change rebuilds only the shares that it
/// affects and reuses all others.
pub const SHARE_RULES: usize = 64;

/// The sockets and rules of a worker.
pub struct Plan {
    /// The sockets to receive from.
    pub sources: Box<[Source]>,
    /// The table that matches datagrams to rules.
    pub table: Arc<Table>,
    /// The rules, by their number in the table; entries with unused numbers have no outputs.
    pub rules: Arc<[PlanRule]>,
    /// The outputs of [`SHARE_RULES`] rules each; plans with the same outputs share them.
    pub outputs: Box<[Arc<[PlanOutput]>]>,
    /// Whether some output, or its interface, has a rate.
    pub has_limits: bool,
    /// The AF_XDP sockets of this worker, one for each interface that outputs may send on.
    pub links: Box<[XdpLink]>,
    /// The counter slot of each group number of the table.
    pub groups: Arc<[u32]>,
    /// What records datagrams for programs that watch; `None` if none does.
    pub taps: Option<Arc<PlanTaps>>,
    /// The mergers of new rules, by the slot of their first input.
    pub mergers: Vec<(u32, Option<Box<Merger>>)>,
    /// Whether a rule merges its inputs.
    pub has_merges: bool,
    /// Slots with a new owner since the previous plan.
    pub grants: Vec<Grant>,
    /// Slots that have lost their owner since the previous plan.
    pub released: Vec<Slot>,
}

/// A socket to receive from.
#[derive(Clone)]
pub struct Source {
    /// The identity of the socket, the same in every plan.
    pub id: u64,
    /// The socket.
    pub fd: Arc<Socket>,
    /// The form in which it delivers.
    pub kind: Delivery,
    /// The ring with its frames, if it delivers in slots.
    pub ring: Option<Arc<PacketRing>>,
    /// The size of its buffers.
    pub class: SizeClass,
    /// The kernel's index of its interface.
    pub interface: u32,
    /// The interface's counter slot.
    pub slot: u32,
}

/// A rule's counters and outputs.
#[derive(Clone, Debug, Default)]
pub struct PlanRule {
    /// The rule's counter slot.
    pub slot: u32,
    /// The range of its outputs within its share.
    pub outputs: Range<u32>,
    /// The fields of a datagram that its outputs preserve, if any.
    pub kept: Option<Preserved>,
    /// The check of its datagrams while the kernel merges them, or is about to.
    pub order: OrderCheck,
    /// What the rule says about the numbers in its datagrams.
    pub sequence: SequenceSpec,
    /// How its input is merged with others, if it is.
    pub merge: Option<PlanMerge>,
}

/// One of several inputs that are merged.
#[derive(Clone, Copy, Debug)]
pub struct PlanMerge {
    /// The counter slot of the first input, by which the engine knows the merger.
    pub merger: u32,
    /// The number of the rule that has the outputs.
    pub head: u32,
    /// The number of the input, from 0.
    pub leg: u8,
}

/// A connected socket to send to.
pub struct PlanOutput {
    /// The socket.
    pub fd: Arc<Socket>,
    /// The output's counter slot.
    pub slot: Slot,
    /// Whether it sends to a group: no host answers such copies with an error (RFC 1122, 3.2.2).
    pub is_group: bool,
    /// The largest datagram in bytes that its link carries in one piece.
    pub max_segment: u16,
    /// The largest send that is not split on its link, if something would split a larger one.
    pub burst: Option<Burst>,
    /// Whether its datagrams leave: its interface has a carrier and it is not parked. The cold side
    /// keeps it up to date. `None` if the route determines the interface.
    pub carrier: Option<Arc<AtomicBool>>,
    /// The fields of each datagram that it preserves, if any.
    pub rewrite: Option<Arc<Rewrite>>,
    /// How its datagrams may leave through a link instead of the socket, if they may.
    pub xdp: Option<Arc<XdpOutput>>,
    /// Its token buckets, which all workers of a relay share; `None` for any rate.
    pub buckets: Option<Box<OutputBuckets>>,
}

/// The token buckets of an output: at least one.
#[derive(Clone, Debug)]
pub struct OutputBuckets {
    /// Its own, if it has a rate.
    pub own: Option<Arc<RateLimiter>>,
    /// That of its class, if its interface has a rate.
    pub class: Option<ClassShare>,
}

/// An AF_XDP socket of one worker on one interface.
#[derive(Clone)]
pub struct XdpLink {
    /// The identity of the socket, the same in every plan and never used for another one. A link
    /// that a plan leaves out must not return in a later one.
    pub id: u64,
    /// The socket, of which the engine is the only sender.
    pub socket: Arc<Socket>,
    /// The memory of its frames.
    pub umem: Arc<OwnedFd>,
    /// The shape of both.
    pub shape: XdpShape,
}

/// The frames of an output that may leave through a link.
#[derive(Debug)]
pub struct XdpOutput {
    /// The id of the link.
    pub link: u64,
    /// The Ethernet addresses. The copies of an output with a range of groups each have the
    /// destination of their group.
    pub ethernet: EthernetHeader,
    /// The other headers; outputs with a rewrite take from it what it preserves.
    pub headers: Headers,
    /// The same, as written into frames.
    pub(super) template: FrameTemplate,
    /// Bytes of the largest payload that fits the interface's MTU and a frame.
    pub max_payload: u16,
    /// Whether the link may be used now. The cold side keeps it up to date.
    pub is_open: AtomicBool,
    /// Whether to use the link also for datagrams that could share a send.
    pub forced: bool,
    /// The current [`Way`] of the output; the engine keeps it up to date.
    way: AtomicU8,
}

/// The way that the copies of an output leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Way {
    /// Through the output's socket.
    #[default]
    Socket,
    /// Through a link, as complete frames.
    Xdp,
}

/// The largest send that a link carries in one piece: a queueing discipline splits a larger one,
/// loses datagrams of it, and reports that it took all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Bytes of all datagrams including their headers.
    pub bytes: u32,
    /// Bytes of the headers of each datagram.
    pub headers: u16,
}

impl Plan {
    /// A plan without sockets and rules.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            sources: Box::default(),
            table: Arc::new(Table::empty()),
            rules: Arc::default(),
            outputs: Box::default(),
            has_limits: false,
            links: Box::default(),
            groups: Arc::default(),
            taps: None,
            mergers: Vec::new(),
            has_merges: false,
            grants: Vec::new(),
            released: Vec::new(),
        }
    }

    /// The number of outputs.
    pub(super) fn count_outputs(&self) -> usize {
        self.outputs.iter().map(|share| share.len()).sum()
    }

    /// The share that contains the outputs of a rule, into which the rule's range points.
    #[inline]
    pub(super) fn share(&self, rule: u32) -> &[PlanOutput] {
        &self.outputs[rule as usize / SHARE_RULES]
    }
}

impl OutputBuckets {
    /// Those of an output; `None` if there is none.
    #[must_use]
    pub fn of(own: Option<Arc<RateLimiter>>, class: Option<ClassShare>) -> Option<Box<Self>> {
        let has_any = own.is_some() || class.is_some();
        has_any.then(|| Box::new(Self { own, class }))
    }

    /// Whether these are the same buckets.
    #[must_use]
    pub fn are_same(one: Option<&Self>, other: Option<&Self>) -> bool {
        let (Some(one), Some(other)) = (one, other) else {
            return one.is_none() && other.is_none();
        };
        let own = |buckets: &Self| buckets.own.as_ref().map(Arc::as_ptr);
        let is_same_class = match (&one.class, &other.class) {
            (Some(one), Some(other)) => one.is_same(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        own(one) == own(other) && is_same_class
    }
}

impl PlanOutput {
    /// Its own token bucket, if it has a rate.
    pub(super) fn limiter(&self) -> Option<&Arc<RateLimiter>> {
        self.buckets.as_ref()?.own.as_ref()
    }

    /// Whether its datagrams leave, as far as is known.
    #[inline]
    pub(super) fn has_carrier(&self) -> bool {
        self.carrier.as_ref().is_none_or(|carrier| carrier.load(Ordering::Relaxed))
    }
}

impl XdpOutput {
    /// The frames of an output that may use the link `link`; it starts open, with
    /// [`Way::Socket`].
    #[must_use]
    pub fn new(
        link: u64,
        ethernet: EthernetHeader,
        headers: Headers,
        max_payload: u16,
        forced: bool,
    ) -> Self {
        let template = FrameTemplate::new(ethernet, &headers);
        let (is_open, way) = (AtomicBool::new(true), AtomicU8::new(Way::Socket as u8));
        Self { link, ethernet, headers, template, max_payload, is_open, forced, way }
    }

    /// The current way of the output's copies, as far as its engine has it in a plan.
    #[must_use]
    pub fn way(&self) -> Way {
        if self.way.load(Ordering::Relaxed) == Way::Xdp as u8 { Way::Xdp } else { Way::Socket }
    }

    pub(super) fn set_way(&self, way: Way) {
        self.way.store(way as u8, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }
}

impl Source {
    /// The key of a source: equal exactly for the same socket, received from in the same way.
    pub(super) fn identity(&self) -> (u64, SizeClass, u32) {
        (self.id, self.class, self.slot)
    }
}
