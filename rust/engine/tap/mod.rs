//! Records datagrams and copies for the taps of an engine. Without a tap nothing here runs, and the
//! path of a datagram is the same to the instruction.
//!
//! A turn's datagrams are noted when they are received; what becomes of their copies is recorded
//! when the kernel has taken or refused them.

mod frames;
mod merged;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::addr::Addr;
use crate::engine::ingress::{Arrival, RawFrame};
use crate::engine::plan::{Plan, Source};
use crate::engine::rewrite::Origin;
use crate::packet::{Datagram, Discard, EthernetHeader, Headers, group_mac};
use crate::rules::Verdict;
use crate::tap::{MAX_TAPS, Step, TapRecord};
use frames::FrameRoom;
use plan::UNKNOWN;
pub use plan::{PlanTap, PlanTaps, TapInput, TapOutput, TapRule};

/// What is kept of each buffer of a window until its copies have left.
#[derive(Clone, Copy)]
pub(super) struct Noted {
    origin: Origin,
    /// The number of its first datagram.
    first: u64,
    /// For each tap, which of its datagrams is the first to be taken; `u32::MAX` for none.
    taken: [u32; MAX_TAPS],
    /// The taps that record it when it has its place among merged feeds, one bit for each.
    placed_later: u8,
    /// Whether the frame is in the buffer, as it arrived.
    has_frame: bool,
}

impl Noted {
    /// Of a datagram that no tap takes.
    pub(super) const NOTHING: Self = {
        let zero = Addr::from_bits(0);
        let origin = Origin { source: zero, group: zero, source_port: 0, port: 0, ttl: 0, dscp: 0 };
        let taken = [u32::MAX; MAX_TAPS];
        Self { origin, first: 0, taken, placed_later: 0, has_frame: false }
    };
}

/// A copy, or several of one buffer, of which the kernel has said what becomes of it.
#[derive(Clone, Copy)]
pub(super) struct CopyEvent {
    /// The rule's number, and the output's position in it.
    pub(super) rule: u32,
    pub(super) output: u32,
    pub(super) step: Step,
    pub(super) errno: u32,
}

/// The taps of an engine at work.
pub(super) struct Taps {
    plan: Arc<PlanTaps>,
    /// For each tap, the datagrams that it could have taken.
    seen: [u64; MAX_TAPS],
    /// The datagrams of the window, by their buffer's number.
    noted: Vec<Noted>,
    /// The number of datagrams so far.
    datagrams: u64,
    room: FrameRoom,
    /// Whether checksums are verified.
    verify: bool,
    /// Where work that the kernel has left in a datagram is tried.
    trial: Box<[u8]>,
}

impl Taps {
    /// Taps for windows of `entries` buffers; those of `before` continue. `verify` says whether
    /// checksums are verified.
    pub(super) fn new(
        plan: Arc<PlanTaps>,
        (entries, verify): (usize, bool),
        before: Option<Box<Self>>,
    ) -> Box<Self> {
        let mut taps = before.unwrap_or_else(|| {
            Box::new(Self {
                plan: plan.clone(),
                seen: [0; MAX_TAPS],
                noted: Vec::new(),
                datagrams: 0,
                room: FrameRoom::new(),
                verify,
                trial: vec![0; 1 << 16].into(),
            })
        });
        taps.plan = plan;
        taps.noted.clear();
        taps.noted.reserve(entries);
        taps
    }

    /// Notes the datagrams of a buffer that becomes entry `entry` of the window, and records them.
    pub(super) fn note_received(
        &mut self,
        source: &Source,
        bytes: &[u8],
        plan: &Plan,
        entry: usize,
    ) {
        let Ok(arrival) = source.kind.read(bytes, self.verify) else { return };
        if let Verdict::Rules(rules) = plan.table.find(source.interface, &arrival.datagram) {
            self.note(entry, (bytes, source.kind.raw(bytes)), source, &arrival, rules);
        }
    }

    /// The same for a buffer that was rewritten, in which nothing is left of the frame.
    #[cold]
    #[inline(never)]
    pub(super) fn note_finished(
        &mut self,
        source: Option<&Source>,
        bytes: &[u8],
        arrival: Arrival,
        rules: &[u32],
        entry: usize,
    ) {
        if let Some(source) = source {
            self.note(entry, (bytes, None), source, &arrival, rules);
        }
    }

    fn note(
        &mut self,
        entry: usize,
        (bytes, raw): (&[u8], Option<RawFrame<'_>>),
        source: &Source,
        arrival: &Arrival,
        rules: &[u32],
    ) {
        let plan = self.plan.clone();
        let (now_ns, datagram) = (now_ns(), &arrival.datagram);
        let first = self.count(datagram.segments);
        let (mut taken, mut placed_later) = ([u32::MAX; MAX_TAPS], 0);
        for (number, tap) in plan.taps.iter().enumerate() {
            let rule = rules.iter().filter_map(|&rule| plan.rules.get(rule as usize));
            let rule = rule.filter(|rule| rule.taps & 1 << number != 0);
            let Some(rule) = rule.min_by_key(|rule| rule.is_merged) else { continue };
            taken[number] = self.sample(number, tap.filter.sample, datagram.segments);
            if rule.is_merged {
                placed_later |= 1 << number;
                continue;
            }
            let record = TapRecord {
                datagram: first,
                rule: rule.id,
                rules: u16::try_from(rules.len()).unwrap_or(u16::MAX),
                ..received(now_ns, source, Step::Matched)
            };
            if tap.filter.received && tap.filter.output.is_none() {
                self.record_arrival(tap, record, taken[number], (bytes, raw), arrival);
            }
        }
        let (origin, has_frame) = (origin(datagram), raw.is_some());
        self.keep(entry, Noted { origin, first, taken, placed_later, has_frame });
    }

    /// Keeps what is needed of an entry of the window.
    fn keep(&mut self, entry: usize, noted: Noted) {
        self.noted.truncate(entry);
        self.noted.resize(entry, Noted::NOTHING);
        self.noted.push(noted);
    }

    /// Records the datagrams of a buffer that is not relayed, for the reason that reading it again
    /// finds.
    pub(super) fn note_discarded(&mut self, bytes: &[u8], source: &Source, plan: &Plan) {
        let read = match source.kind.read(bytes, self.verify) {
            Err(Discard::BadHeader) => match source.kind.finish(bytes, &mut self.trial) {
                // It can be finished, and is noted or discarded then.
                Ok(_) => return,
                Err(reason) => Err(reason),
            },
            read => read,
        };
        let raw = source.kind.raw(bytes);
        match read {
            Err(reason) => self.record_unreadable(raw, source, reason),
            Ok(arrival) => {
                if let Verdict::Discard(reason, _) =
                    plan.table.find(source.interface, &arrival.datagram)
                {
                    self.record_discarded((bytes, raw), source, &arrival, reason);
                }
            }
        }
    }

    /// Records datagrams that no rule relays.
    fn record_discarded(
        &mut self,
        (bytes, raw): (&[u8], Option<RawFrame<'_>>),
        source: &Source,
        arrival: &Arrival,
        reason: Discard,
    ) {
        let plan = self.plan.clone();
        let first = self.count(arrival.datagram.segments);
        for (number, tap) in plan.taps.iter().enumerate() {
            let belongs = tap.belongs(source.interface, Some(arrival.datagram.group));
            if !belongs || !tap.filter.takes_discard(reason) {
                continue;
            }
            let taken = self.sample(number, tap.filter.sample, arrival.datagram.segments);
            let step = Step::Discarded(reason);
            let record = TapRecord { datagram: first, ..received(now_ns(), source, step) };
            self.record_arrival(tap, record, taken, (bytes, raw), arrival);
        }
    }

    /// Records a frame in which there is no datagram.
    fn record_unreadable(&mut self, raw: Option<RawFrame<'_>>, source: &Source, reason: Discard) {
        let plan = self.plan.clone();
        let datagram = self.count(1);
        let group = raw.as_ref().and_then(RawFrame::destination);
        for (number, tap) in plan.taps.iter().enumerate() {
            if !tap.belongs(source.interface, group) || !tap.filter.takes_discard(reason) {
                continue;
            }
            if self.sample(number, tap.filter.sample, 1) != 0 {
                continue;
            }
            let frame = raw.as_ref().map_or(&[][..], |raw| self.room.restore(raw));
            let arrived_ns = raw.as_ref().map_or(0, |raw| raw.arrived_ns);
            let step = Step::Discarded(reason);
            let record = TapRecord { datagram, arrived_ns, ..received(now_ns(), source, step) };
            tap.write(record, frame);
        }
    }

    /// Records the datagrams of a buffer from the first one taken on.
    fn record_arrival(
        &mut self,
        tap: &PlanTap,
        record: TapRecord,
        taken: u32,
        (bytes, raw): (&[u8], Option<RawFrame<'_>>),
        arrival: &Arrival,
    ) {
        for number in taken_of(taken, tap.filter.sample, arrival.datagram.segments) {
            self.record_one(tap, record, number, (bytes, raw.as_ref()), arrival);
        }
    }

    /// Records one of the datagrams of a buffer; `record` has the number of the first one.
    fn record_one(
        &mut self,
        tap: &PlanTap,
        record: TapRecord,
        number: u32,
        (bytes, raw): (&[u8], Option<&RawFrame<'_>>),
        arrival: &Arrival,
    ) {
        let Arrival { datagram, segment } = arrival;
        let arrived_ns = raw.map_or(0, |raw| raw.arrived_ns);
        let datagram_number = record.datagram + u64::from(number);
        let record = TapRecord { arrived_ns, datagram: datagram_number, ..record };
        if let Some(raw) = raw.filter(|_| datagram.segments == 1) {
            tap.write(record, self.room.restore(raw));
            return;
        }
        let ethernet = raw.and_then(RawFrame::ethernet);
        let destination = group_mac(datagram.group);
        let ethernet = ethernet.unwrap_or(EthernetHeader { destination, ..UNKNOWN });
        let vlan = raw.and_then(|raw| raw.vlan);
        let headers = Headers {
            source: datagram.source,
            destination: datagram.group,
            source_port: datagram.source_port,
            port: datagram.port,
            ttl: datagram.ttl,
            dscp: datagram.dscp,
        };
        let payload = payload(bytes, datagram, u32::from(*segment), number);
        tap.write(record, self.room.compose(ethernet, vlan, &headers, payload));
    }

    /// Records the copy of datagram `number` of the window's entry `entry`.
    pub(super) fn record_copy(
        &mut self,
        event: CopyEvent,
        (entry, number): (u16, u32),
        payload: &[u8],
    ) {
        let Self { plan, noted, room, .. } = self;
        let CopyEvent { rule, output, step, errno } = event;
        let Some(noted) = noted.get(usize::from(entry)) else { return };
        let Some(rule) = plan.rules.get(rule as usize) else { return };
        let Some(target) = rule.outputs.get(output as usize) else { return };
        let output = u16::try_from(output).unwrap_or(u16::MAX);
        for (at, tap) in plan.taps.iter().enumerate() {
            let is_taken = number
                .checked_sub(noted.taken[at])
                .is_some_and(|behind| behind % tap.filter.sample == 0);
            if rule.taps & 1 << at == 0 || !is_taken || !tap.filter.takes_copy(output, step) {
                continue;
            }
            let (ethernet, headers) = target.headers(&noted.origin);
            let record = TapRecord {
                sequence: 0,
                time_ns: now_ns(),
                arrived_ns: 0,
                datagram: noted.first + u64::from(number),
                rule: rule.id,
                rules: 1,
                step,
                output: Some(output),
                errno,
                ifindex: 0,
                frame_len: 0,
            };
            tap.write(record, room.compose(ethernet, None, &headers, payload));
        }
    }

    /// What is kept of one datagram of the window's entry `entry` that leaves with a later window.
    pub(super) fn noted(&self, entry: u16, number: u32) -> Option<Noted> {
        let noted = *self.noted.get(usize::from(entry))?;
        let mut taken = noted.taken;
        for (tap, first) in self.plan.taps.iter().zip(&mut taken) {
            let behind = number.checked_sub(*first);
            let is_taken = behind.is_some_and(|behind| behind % tap.filter.sample == 0);
            *first = if is_taken { 0 } else { u32::MAX };
        }
        Some(Noted { first: noted.first + u64::from(number), taken, ..noted })
    }

    /// Exchanges what is kept of the buffers of a window for that of another window's.
    pub(super) fn exchange(&mut self, noted: &mut Vec<Noted>) {
        std::mem::swap(&mut self.noted, noted);
    }

    /// Numbers datagrams; returns the number of the first.
    fn count(&mut self, datagrams: u32) -> u64 {
        let first = self.datagrams + 1;
        self.datagrams += u64::from(datagrams);
        first
    }

    /// Which of these datagrams is the first that a tap takes; there may be fewer.
    fn sample(&mut self, tap: usize, sample: u32, datagrams: u32) -> u32 {
        let sample = u64::from(sample);
        let first = (sample - self.seen[tap] % sample) % sample;
        self.seen[tap] += u64::from(datagrams);
        u32::try_from(first).unwrap_or(u32::MAX)
    }
}

impl PlanTap {
    /// Whether a datagram that no rule relays belongs to what it takes.
    fn belongs(&self, interface: u32, group: Option<Addr>) -> bool {
        if self.filter.rule.is_none() {
            return true;
        }
        let is_of = |input: &TapInput| {
            (input.ifindex == 0 || input.ifindex == interface)
                && group.is_some_and(|group| group.block(input.group_bits) == input.group)
        };
        self.inputs.iter().any(is_of)
    }

    fn write(&self, record: TapRecord, frame: &[u8]) {
        let frame_len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.ring.write(TapRecord { frame_len, ..record }, frame, self.filter.frame_bytes);
    }
}

/// The datagrams of a buffer that are taken, by their numbers in it.
fn taken_of(first: u32, sample: u32, datagrams: u32) -> impl Iterator<Item = u32> {
    (first..datagrams).step_by(usize::try_from(sample).unwrap_or(usize::MAX))
}

/// The payload of one of the datagrams in a buffer.
fn payload<'a>(bytes: &'a [u8], datagram: &Datagram, segment: u32, number: u32) -> &'a [u8] {
    let (start, end) = (datagram.payload.start, datagram.payload.start + datagram.payload.len);
    let first = start + number * segment;
    let last = if segment == 0 { end } else { end.min(first + segment) };
    bytes.get(first as usize..last as usize).unwrap_or_default()
}

fn origin(datagram: &Datagram) -> Origin {
    let Datagram { source, group, source_port, port, ttl, dscp, .. } = *datagram;
    Origin { source, group, source_port, port, ttl, dscp }
}

fn received(time_ns: u64, source: &Source, step: Step) -> TapRecord {
    TapRecord {
        sequence: 0,
        time_ns,
        arrived_ns: 0,
        datagram: 0,
        rule: 0,
        rules: 0,
        step,
        output: None,
        errno: 0,
        ifindex: source.interface,
        frame_len: 0,
    }
}

/// CLOCK_REALTIME in nanoseconds.
fn now_ns() -> u64 {
    let Ok(now) = clock_gettime(ClockId::CLOCK_REALTIME) else { return 0 };
    u64::try_from(Duration::from(now).as_nanos()).unwrap_or(0)
}
