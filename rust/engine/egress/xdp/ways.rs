//! The choice between an output's socket and a link: by the batches that a rule's datagrams form,
//! and by what the link can carry. The way changes only while nothing is on the other one, so that
//! no datagram overtakes another.

use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use hashbrown::DefaultHashBuilder;
use std::hash::BuildHasher;

use super::links::{LinkPlace, Links};
use super::shape::LaneShape;
use crate::engine::plan::{Plan, PlanOutput, Way, XdpOutput};
use crate::sockets::socket;
use crate::stats::Writer;

/// The number of datagrams in a window from which on its batches count: fewer show that there is
/// time to spare, not what the traffic is like.
const BUSY: usize = 16;
/// The number of datagrams between two choices.
const SAMPLE: u32 = 256;
/// A rule uses links below the first mean number of datagrams in a batch, and sockets above the
/// second.
const FEW: u32 = 4;
const MANY: u32 = 6;
/// How long an output keeps to its socket after a datagram that does not fit a frame.
const TOO_LONG_MS: u64 = 10_000;
/// The longest wait for the other way in one window.
const PATIENCE: Duration = Duration::from_micros(300);
/// How long the copies of an output that must leave a link still follow its frames there. A link
/// that is never idle would keep it for ever; so later copies are dropped until the frames have left.
const MOST_WAIT_MS: u64 = 50;

/// A rule's datagrams and outputs, by its number.
#[derive(Clone, Copy, Default)]
struct RuleWays {
    has_xdp: bool,
    /// Whether the batches are so short that links are better.
    prefers_xdp: bool,
    /// Whether the outputs' ways are chosen for this window.
    is_chosen: bool,
    /// Whether some output uses a link.
    uses_xdp: bool,
    /// The length of the longest datagram in this window.
    longest: u32,
    /// The datagrams and batches since the last choice.
    datagrams: u32,
    batches: u32,
}

/// The way of an output, by its counter slot.
#[derive(Clone, Copy, Default)]
struct WayState {
    way: Way,
    /// The link that the output may use.
    link: Option<LinkPlace>,
    /// The next IPv4 identification.
    identification: u16,
    /// The time until which it keeps to its socket.
    socket_until_ms: u64,
    /// The time at which its last frame is queued, since it must leave; 0 if it need not.
    leave_by_ms: u64,
    /// The position behind its last frame, from that time on.
    last_frame: Option<u32>,
}

/// The ways of all rules and outputs.
#[derive(Default)]
pub(super) struct Ways {
    rules: Vec<RuleWays>,
    outputs: Vec<WayState>,
    /// The rules with datagrams in this window.
    chosen: Vec<u32>,
    hasher: DefaultHashBuilder,
}

impl Ways {
    /// Reserves room for the rules of a plan.
    pub(super) fn resize(&mut self, plan: &Plan) {
        self.rules.resize(plan.rules.len(), RuleWays::default());
        self.chosen.reserve(plan.rules.len());
    }

    /// Forgets the way of an output whose slot has another owner.
    pub(super) fn forget(&mut self, slot: u32) {
        if let Some(output) = self.outputs.get_mut(slot as usize) {
            *output = WayState::default();
        }
    }

    /// Adopts an output of a new plan.
    pub(super) fn adopt(&mut self, target: &PlanOutput, links: &Links) {
        let slot = target.slot.index as usize;
        let Some(xdp) = &target.xdp else {
            if let Some(output) = self.outputs.get_mut(slot) {
                (output.way, output.link) = (Way::Socket, None);
            }
            return;
        };
        if slot >= self.outputs.len() {
            self.outputs.resize(slot + 1, WayState::default());
        }
        let output = &mut self.outputs[slot];
        let link = links.place(xdp.link);
        if output.link != link {
            let [first, second, ..] = self.hasher.hash_one(slot).to_ne_bytes();
            let identification = u16::from_ne_bytes([first, second]);
            *output = WayState { link, identification, ..WayState::default() };
        }
        xdp.set_way(output.way);
    }

    /// Adopts a rule of a new plan, after its outputs.
    pub(super) fn adopt_rule(&mut self, rule: usize, targets: &[PlanOutput]) {
        let uses_xdp = targets.iter().any(|target| self.is_xdp(target.slot.index));
        if let Some(known) = self.rules.get_mut(rule) {
            known.has_xdp = targets.iter().any(|target| target.xdp.is_some());
            known.uses_xdp = uses_xdp;
        }
    }

    /// Notes the datagrams of a lane of a rule in a window of this many.
    #[inline]
    pub(super) fn note(&mut self, rule: u32, window: usize, shape: LaneShape) {
        let known = &mut self.rules[rule as usize];
        if !known.is_chosen {
            known.is_chosen = true;
            known.longest = 0;
            self.chosen.push(rule);
        }
        known.longest = known.longest.max(shape.longest);
        if window < BUSY {
            return;
        }
        known.datagrams += shape.datagrams;
        known.batches += shape.batches;
        if known.datagrams >= SAMPLE {
            if known.datagrams < known.batches * FEW {
                known.prefers_xdp = true;
            } else if known.datagrams > known.batches * MANY {
                known.prefers_xdp = false;
            }
            (known.datagrams, known.batches) = (0, 0);
        }
    }

    /// Chooses the ways of the outputs of all rules that were noted.
    pub(super) fn choose(&mut self, plan: &Plan, links: &mut Links, counters: &mut Writer) {
        let mut wait = None;
        while let Some(rule) = self.chosen.pop() {
            let known = self.rules[rule as usize];
            let range = plan.rules[rule as usize].outputs.clone();
            let targets = &plan.share(rule)[range.start as usize..range.end as usize];
            let mut uses_xdp = false;
            for target in targets {
                if let Some(xdp) = target.xdp.as_deref() {
                    let wants = known.prefers_xdp || xdp.forced;
                    let request = WayRequest { target, xdp, wants, longest: known.longest };
                    uses_xdp |= self.choose_way(&request, links, counters, &mut wait) == Way::Xdp;
                }
            }
            let known = &mut self.rules[rule as usize];
            (known.uses_xdp, known.is_chosen) = (uses_xdp, false);
        }
    }

    fn choose_way(
        &mut self,
        request: &WayRequest<'_>,
        links: &mut Links,
        counters: &mut Writer,
        wait: &mut Option<Instant>,
    ) -> Way {
        let (xdp, now_ms) = (request.xdp, counters.now_ms());
        let output = &mut self.outputs[request.target.slot.index as usize];
        let Some(link) = output.link.filter(|place| links.has(*place, xdp.link)) else {
            output.way = Way::Socket;
            return Way::Socket;
        };
        if request.longest > u32::from(xdp.max_payload) {
            output.socket_until_ms = now_ms + TOO_LONG_MS;
        }
        let may = xdp.is_open() && now_ms >= output.socket_until_ms;
        let way = if may && request.wants { Way::Xdp } else { Way::Socket };
        let must_leave = output.way == Way::Xdp && !may;
        if !must_leave {
            (output.leave_by_ms, output.last_frame) = (0, None);
        }
        if way == output.way {
            return way;
        }
        let last_frame = output.last_frame.unwrap_or_else(|| links.position(link));
        let is_free = match output.way {
            Way::Socket => {
                within(wait, || socket::unsent(request.target.fd.as_fd()).ok() == Some(0))
            }
            Way::Xdp => within(wait, || links.has_passed(link, last_frame, counters)),
        };
        if is_free {
            (output.way, output.leave_by_ms, output.last_frame) = (way, 0, None);
            xdp.set_way(way);
        } else if must_leave && output.leave_by_ms == 0 {
            output.leave_by_ms = now_ms + MOST_WAIT_MS;
        } else if must_leave && now_ms >= output.leave_by_ms {
            output.last_frame = Some(last_frame);
        }
        output.way
    }

    /// Whether some output of a rule with datagrams may use a link.
    #[inline]
    pub(super) fn has_xdp(&self, rule: u32) -> bool {
        self.rules.get(rule as usize).is_some_and(|known| known.has_xdp)
    }

    /// Whether some output of a rule uses a link now.
    #[inline]
    pub(super) fn uses_xdp(&self, rule: u32) -> bool {
        self.rules.get(rule as usize).is_some_and(|known| known.uses_xdp)
    }

    /// Whether an output uses a link now.
    #[inline]
    pub(super) fn is_xdp(&self, slot: u32) -> bool {
        self.outputs.get(slot as usize).is_some_and(|output| output.way == Way::Xdp)
    }

    /// The link that an output uses now.
    #[inline]
    pub(super) fn link(&self, slot: u32) -> Option<LinkPlace> {
        self.outputs.get(slot as usize).filter(|output| output.way == Way::Xdp)?.link
    }

    /// Whether an output must leave its link, and its copies are dropped until its frames have left.
    #[inline]
    pub(super) fn is_stopped(&self, slot: u32) -> bool {
        self.outputs.get(slot as usize).is_some_and(|output| output.last_frame.is_some())
    }

    /// A new IPv4 identification for a frame of an output. Each output counts its own, since the
    /// identifications of one source, destination and protocol must not repeat soon (RFC 6864, 4.3).
    #[inline]
    pub(super) fn identification(&mut self, slot: u32) -> u16 {
        let output = &mut self.outputs[slot as usize];
        output.identification = output.identification.wrapping_add(1);
        output.identification
    }
}

/// What is known for the choice of an output's way.
struct WayRequest<'a> {
    target: &'a PlanOutput,
    xdp: &'a XdpOutput,
    /// Whether a link is better for the datagrams.
    wants: bool,
    longest: u32,
}

/// Waits for a condition; all waits of a window together do not exceed the patience.
fn within(start: &mut Option<Instant>, mut holds: impl FnMut() -> bool) -> bool {
    if holds() {
        return true;
    }
    let start = *start.get_or_insert_with(Instant::now);
    while start.elapsed() < PATIENCE {
        thread::yield_now();
        if holds() {
            return true;
        }
    }
    false
}
