//! The step from a matched datagram to the window: each rule that takes it has a lane there.

use std::io;

use crate::engine::counts;
use crate::engine::egress::Egress;
use crate::engine::ingress::{Arrival, OrderCheck};
use crate::engine::plan::{Plan, PlanRule};
use crate::engine::window::{Window, WindowEntry};
use crate::packet::{Datagram, Span};
use crate::stats::Writer;
use crate::sys::buffers::Buffer;
use crate::sys::ring::Ring;

/// The destination of matched datagrams.
pub(super) struct Lanes<'a> {
    pub(super) ring: &'a mut Ring,
    pub(super) plan: &'a Plan,
    pub(super) window: &'a mut Window,
    pub(super) egress: &'a mut Egress,
    pub(super) counters: &'a mut Writer,
}

impl Lanes<'_> {
    /// Counts the datagrams of a buffer for each of these rules, and adds them to its lane.
    #[inline(always)]
    pub(super) fn enter(self, buffer: Buffer, arrival: &Arrival, rules: &[u32]) -> io::Result<()> {
        let Self { ring, plan, window, egress, counters } = self;
        let payload = arrival.datagram.payload;
        let segment = if arrival.segment == 0 { payload.len } else { u32::from(arrival.segment) };
        let count = arrival.datagram.segments;
        let (Span { start, len }, Datagram { ttl, dscp, .. }) = (payload, arrival.datagram);
        let entry = window.push(WindowEntry { buffer, start, len, segment, count, ttl, dscp });
        for &rule in rules {
            let PlanRule { slot, kept, order, .. } = &plan.rules[rule as usize];
            counts::count_match(counters, *slot, arrival);
            if *order != OrderCheck::Nothing {
                let is_v4 = arrival.datagram.group.is_v4();
                counts::check_order((ring, window), entry, is_v4, (*slot, *order), counters);
            }
            if !window.link(rule, kept.as_ref(), &arrival.datagram, entry) {
                egress.send_window(ring, window, plan, counters)?;
                let linked = window.link(rule, kept.as_ref(), &arrival.datagram, entry);
                debug_assert!(linked, "an empty window has room");
            }
        }
        Ok(())
    }
}
