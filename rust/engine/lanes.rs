//! The step from a matched datagram to the window: each rule that takes it has a lane there.

use std::io;

use crate::engine::counts;
use crate::engine::egress::Egress;
use crate::engine::ingress::{Arrival, OrderCheck};
use crate::engine::plan::{Plan, PlanRule};
use crate::engine::rewrite::Origin;
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
    pub(super) fn enter(
        mut self,
        buffer: Buffer,
        arrival: &Arrival,
        rules: &[u32],
    ) -> io::Result<()> {
        let (entry, _) = self.push(buffer, arrival);
        for &rule in rules {
            self.enter_rule(entry, arrival, rule)?;
        }
        Ok(())
    }

    /// Adds the datagrams of a buffer to the window; returns the number of the entry, and the bytes
    /// of each datagram but the last.
    #[inline(always)]
    pub(super) fn push(&mut self, buffer: Buffer, arrival: &Arrival) -> (u16, u32) {
        let payload = arrival.datagram.payload;
        let segment = if arrival.segment == 0 { payload.len } else { u32::from(arrival.segment) };
        let count = arrival.datagram.segments;
        let (Span { start, len }, Datagram { ttl, dscp, .. }) = (payload, arrival.datagram);
        let is_part = false;
        let entry = WindowEntry { buffer, start, len, segment, count, ttl, dscp, is_part };
        (self.window.push(entry), segment)
    }

    /// Counts the datagrams of an entry for a rule, and adds them to its lane.
    #[inline(always)]
    pub(super) fn enter_rule(
        &mut self,
        entry: u16,
        arrival: &Arrival,
        rule: u32,
    ) -> io::Result<()> {
        let PlanRule { slot, order, .. } = &self.plan.rules[rule as usize];
        counts::count_match(self.counters, *slot, arrival);
        if *order != OrderCheck::Nothing {
            let is_v4 = arrival.datagram.group.is_v4();
            let view = (&*self.ring, &*self.window);
            counts::check_order(view, entry, is_v4, (*slot, *order), self.counters);
        }
        self.link(rule, arrival, entry)
    }

    /// Adds an entry that was held to the lane of a rule, or to that of its flow.
    pub(super) fn link_held(
        &mut self,
        rule: u32,
        origin: Option<&Origin>,
        entry: u16,
    ) -> io::Result<()> {
        let Self { ring, plan, window, egress, counters } = self;
        if !window.link_again(rule, origin, entry) {
            egress.send_window(ring, window, plan, counters)?;
            let linked = window.link_again(rule, origin, entry);
            debug_assert!(linked, "an empty window has room");
        }
        Ok(())
    }

    /// Adds an entry to the lane of a rule; if there is no more room, sends the window first.
    #[inline(always)]
    pub(super) fn link(&mut self, rule: u32, arrival: &Arrival, entry: u16) -> io::Result<()> {
        let Self { ring, plan, window, egress, counters } = self;
        let kept = plan.rules[rule as usize].kept.as_ref();
        if !window.link(rule, kept, &arrival.datagram, entry) {
            egress.send_window(ring, window, plan, counters)?;
            let linked = window.link(rule, kept, &arrival.datagram, entry);
            debug_assert!(linked, "an empty window has room");
        }
        Ok(())
    }
}
