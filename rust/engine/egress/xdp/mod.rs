//! Sending of complete frames through AF_XDP sockets, for datagrams that form no batches: the
//! kernel's network stack would cost most of the time of each.
//!
//! A window's datagrams for outputs that use a link are taken before those for sockets. A frame
//! waits for the kernel across turns; its copy is counted as sent when the kernel has taken it.

mod links;
mod recorder;
mod shape;
#[cfg(test)]
mod tests;
mod ways;

use std::sync::Arc;
use std::time::Duration;

use crate::engine::clocks::monotonic_clock_ns;
use crate::engine::limiter::Load;
use crate::engine::plan::{Plan, PlanOutput, PlanRule, SHARE_RULES, XdpOutput};
use crate::engine::rewrite::{Origin, Rewrite};
use crate::engine::tap::Taps;
use crate::engine::window::{Window, WindowEntry};
use crate::packet::{EthernetHeader, FrameTemplate, PayloadSum, group_mac};
use crate::stats::{self, Loss, Writer, output};
use crate::sys::ring::Ring;
use crate::tap::Step;
use links::{LinkPlace, Links};
use recorder::{CopyRecorder, Unrecorded};
use shape::LaneShape;
use ways::Ways;

/// How long a change of the plan waits for frames of the previous one to leave, so that later
/// datagrams, which may leave through a socket, do not overtake them.
const CHANGE_WAIT: Duration = Duration::from_micros(500);

/// An output that takes a lane's datagrams as frames.
#[derive(Clone, Copy)]
struct FrameOutput {
    /// Its position in the rule's share.
    output: u32,
    slot: u32,
    link: LinkPlace,
}

/// The links of an engine, and which outputs use them.
#[derive(Default)]
pub(super) struct XdpEgress {
    /// Whether there are links.
    is_active: bool,
    links: Links,
    ways: Ways,
    /// The outputs that take the datagrams of the current lane.
    outputs: Vec<FrameOutput>,
}

impl XdpEgress {
    /// Lets the frames of the current plan leave before `next` replaces it, and counts those that
    /// cannot leave any more: of links that `next` leaves out, and of outputs whose counters end.
    pub(super) fn settle(&mut self, next: &Plan, counters: &mut Writer) {
        if !self.is_active {
            return;
        }
        self.links.drain(CHANGE_WAIT, counters);
        let is_ending =
            |id| !next.released.is_empty() || next.links.iter().all(|link| link.id != id);
        self.links.withdraw(is_ending, counters);
    }

    /// Maps new links, drops others, and reserves memory, so that nothing is allocated while
    /// datagrams flow. Outputs of the previous plan keep their ways.
    pub(super) fn adopt(&mut self, plan: &Plan, before: &Plan) {
        if plan.links.is_empty() && !self.is_active {
            return;
        }
        self.links.adopt(&plan.links);
        self.is_active = !self.links.is_empty();
        self.ways.resize(plan);
        for grant in &plan.grants {
            self.ways.forget(grant.slot.index);
        }
        for (number, share) in plan.outputs.iter().enumerate() {
            if before.outputs.get(number).is_some_and(|known| Arc::ptr_eq(known, share)) {
                continue;
            }
            self.outputs.reserve(share.len());
            for target in share.iter() {
                self.ways.adopt(target, &self.links);
            }
            let first = number * SHARE_RULES;
            for (rule, PlanRule { outputs, .. }) in
                plan.rules.iter().enumerate().skip(first).take(SHARE_RULES)
            {
                let range = outputs.start as usize..outputs.end as usize;
                self.ways.adopt_rule(rule, share.get(range).unwrap_or_default());
            }
        }
    }

    /// Whether there are links.
    #[inline]
    pub(super) fn is_active(&self) -> bool {
        self.is_active
    }

    /// Whether frames wait for the kernel.
    #[inline]
    pub(super) fn has_waiting(&self) -> bool {
        self.is_active && self.links.has_waiting()
    }

    /// Whether some output of a rule takes its datagrams as frames.
    #[inline]
    pub(super) fn takes_rule(&self, rule: u32) -> bool {
        self.ways.uses_xdp(rule)
    }

    /// Whether an output takes its datagrams as frames.
    #[inline]
    pub(super) fn takes(&self, slot: u32) -> bool {
        self.ways.is_xdp(slot)
    }

    /// Sends the datagrams of a window to all outputs that use a link. Lanes without other outputs
    /// are empty afterwards.
    pub(super) fn send_window(
        &mut self,
        ring: &Ring,
        window: &mut Window,
        plan: &Plan,
        counters: &mut Writer,
        mut taps: Option<&mut Taps>,
    ) {
        for position in 0..window.active().len() {
            let lane = window.active()[position];
            let rule = window.rule(lane);
            if self.ways.has_xdp(rule) {
                self.ways.note(rule, window.len(), LaneShape::of(window, lane));
            }
        }
        self.ways.choose(plan, &mut self.links, counters);
        for position in 0..window.active().len() {
            let lane = window.active()[position];
            if self.ways.uses_xdp(window.rule(lane)) {
                match taps.as_deref_mut() {
                    Some(taps) => self.send_lane(ring, window, lane, plan, counters, taps),
                    None => self.send_lane(ring, window, lane, plan, counters, &mut Unrecorded),
                }
            }
        }
        self.links.flush(counters);
        window.retire_finished();
    }

    /// Lets the last frames leave, and counts those that do not.
    pub(super) fn finish(&mut self, counters: &mut Writer) {
        self.links.finish(counters);
    }

    fn send_lane(
        &mut self,
        ring: &Ring,
        window: &mut Window,
        lane: u32,
        plan: &Plan,
        counters: &mut Writer,
        recorder: &mut impl CopyRecorder,
    ) {
        let rule = window.rule(lane);
        let range = plan.rules[rule as usize].outputs.clone();
        let share = plan.share(rule);
        let datagrams = window.datagrams(lane).map(|(_, entry)| u64::from(entry.count)).sum();
        let (mut others, mut has_limit) = (0, false);
        self.outputs.clear();
        for (position, target) in
            range.clone().zip(&share[range.start as usize..range.end as usize])
        {
            let slot = target.slot.index;
            let Some(link) = self.ways.link(slot) else {
                others += 1;
                continue;
            };
            let now_ms = counters.now_ms();
            let words = counters.slot(slot);
            words[output::WANTED] += datagrams;
            let loss = if !target.has_carrier() {
                Loss::NoCarrier
            } else if self.ways.is_stopped(slot) {
                Loss::OutputFull
            } else {
                has_limit |= target.buckets.is_some();
                self.outputs.push(FrameOutput { output: position, slot, link });
                continue;
            };
            stats::count_loss(words, loss, datagrams, now_ms);
            let output = position - range.start;
            recorder.record_lane((ring, window), lane, (rule, output), Step::Lost(loss));
        }
        if !self.outputs.is_empty() {
            for (number, entry) in window.datagrams(lane) {
                let origin = window.origin(lane, number);
                let origin = origin.as_ref();
                let place = (rule, range.start, number);
                if has_limit {
                    self.send_entry::<true>(
                        ring,
                        (place, entry),
                        origin,
                        share,
                        counters,
                        recorder,
                    );
                } else {
                    self.send_entry::<false>(
                        ring,
                        (place, entry),
                        origin,
                        share,
                        counters,
                        recorder,
                    );
                }
            }
        }
        if others == 0 {
            window.clear_lane(lane);
        }
    }

    /// Queues the datagrams of an entry for each output of the lane, as far as rates admit.
    #[inline]
    fn send_entry<const LIMITED: bool>(
        &mut self,
        ring: &Ring,
        ((rule, first, member), entry): ((u32, u32, u16), &WindowEntry),
        origin: Option<&Origin>,
        share: &[PlanOutput],
        counters: &mut Writer,
        recorder: &mut impl CopyRecorder,
    ) {
        let bytes = ring.bytes(&entry.buffer);
        let range = entry.start as usize..(entry.start + entry.len) as usize;
        let mut rest = bytes.get(range).unwrap_or_default();
        for datagram in 0..entry.count {
            let (payload, others) = rest.split_at(rest.len().min(entry.segment as usize));
            rest = others;
            let sum = PayloadSum::of(payload);
            for number in 0..self.outputs.len() {
                let output = self.outputs[number];
                let target = &share[output.output as usize];
                let limit = if LIMITED { exceeded(target, payload) } else { None };
                let sent = match limit {
                    Some(loss) => count_limited(output.slot, loss, counters),
                    None => self.send_copy((payload, sum), output, target, origin, counters),
                };
                let copy = (rule, output.output - first);
                recorder.record(copy, sent, (member, datagram), payload);
            }
        }
    }

    #[inline]
    fn send_copy(
        &mut self,
        (payload, sum): (&[u8], PayloadSum),
        FrameOutput { slot, link, .. }: FrameOutput,
        target: &PlanOutput,
        origin: Option<&Origin>,
        counters: &mut Writer,
    ) -> Result<(), (Loss, u32)> {
        let Some(xdp) = target.xdp.as_deref() else { return Ok(()) };
        let rewritten;
        let template = match (target.rewrite.as_deref(), origin) {
            (Some(rewrite), Some(origin)) => {
                if let Some(errno) = rewrite.refusal(origin) {
                    let (errno, now_ms) = (errno.unsigned_abs(), counters.now_ms());
                    stats::count_send_error(counters.slot(slot), errno.into(), 1, now_ms);
                    return Err((Loss::SendError, errno));
                }
                rewritten = rewritten_template(xdp, rewrite, origin);
                &rewritten
            }
            _ => &xdp.template,
        };
        let identification = self.ways.identification(slot);
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        // It is too long only while the output waits for its link to be drained, to leave it.
        let queued = if len > u32::from(xdp.max_payload) {
            Err(Loss::OutputFull)
        } else {
            let write = |place: &mut [u8]| template.write(payload, sum, identification, place);
            self.links.push(link, (slot, len), counters, write)
        };
        queued.map_err(|loss| {
            let now_ms = counters.now_ms();
            stats::count_loss(counters.slot(slot), loss, 1, now_ms);
            (loss, 0)
        })
    }
}

/// The rate that does not admit a copy: the output's, or what that of the interface leaves for its
/// class.
fn exceeded(target: &PlanOutput, payload: &[u8]) -> Option<Loss> {
    let buckets = target.buckets.as_deref()?;
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let load = Load { datagrams: 1, segment: len, bytes: len };
    let now_ns = monotonic_clock_ns();
    if buckets.own.as_ref().is_some_and(|limiter| limiter.admit(now_ns, load) == 0) {
        return Some(Loss::RateLimited);
    }
    let is_over = buckets.class.as_ref().is_some_and(|class| class.admit(now_ns, load) == 0);
    is_over.then_some(Loss::ClassLimited)
}

/// Counts a copy that a rate does not admit.
#[cold]
fn count_limited(slot: u32, loss: Loss, counters: &mut Writer) -> Result<(), (Loss, u32)> {
    let now_ms = counters.now_ms();
    stats::count_loss(counters.slot(slot), loss, 1, now_ms);
    Err((loss, 0))
}

/// The headers of the copies of a datagram from `origin`.
#[inline(never)]
fn rewritten_template(xdp: &XdpOutput, rewrite: &Rewrite, origin: &Origin) -> FrameTemplate {
    let mut headers = rewrite.headers(origin);
    if !rewrite.has_headers() {
        headers.source_port = xdp.headers.source_port;
    }
    let destination = if headers.destination.is_multicast() {
        group_mac(headers.destination)
    } else {
        xdp.ethernet.destination
    };
    FrameTemplate::new(EthernetHeader { destination, ..xdp.ethernet }, &headers)
}
