//! The receiving side of an engine: which sockets are listened to, and what each datagram counts as.

use std::io;
use std::os::fd::AsFd;

use hashbrown::HashSet;

use super::packet_rings;
use crate::addr::Addr;
use crate::engine::buffers::SizeClass;
use crate::engine::ingress::{Arrival, Delivery, OrderCheck};
use crate::engine::plan::{Plan, Source};
use crate::engine::window::{Window, WindowEntry};
use crate::packet::{Datagram, Discard, Span};
use crate::rules::Verdict;
use crate::stats::{SlotWords, Writer, group, interface, rule};
use crate::sys::buffers::Buffer;
use crate::sys::ring::{PoolId, Ring};

/// Failures in a row after which a socket is not listened to any more.
const MAX_FAILURES: u8 = 8;

/// One socket that is listened to, or was until a moment ago.
pub(super) struct Listener {
    pub(super) source: Source,
    /// Its buffers, or the number of its packet ring.
    pub(super) pool: PoolId,
    pub(super) state: ListenerState,
    failures: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ListenerState {
    /// The kernel delivers, or watches the packet ring.
    Armed,
    /// To be armed at the end of the turn, or when the packet ring is empty.
    Ended,
    /// No longer in the plan; the kernel still holds it.
    Closing,
    /// It failed again and again.
    Failed,
}

/// The sockets of an engine, by their tokens in the ring.
pub(super) struct Intake {
    pub(super) listeners: Vec<Option<Listener>>,
    pools: [Option<PoolId>; SizeClass::ALL.len()],
    buffers: usize,
    buffer_bytes: usize,
    verify_checksums: bool,
    /// Whether some listener is to be armed.
    some_ended: bool,
    /// How many listeners the kernel still holds though no plan has them.
    pub(super) closing: usize,
    /// The tokens of those that have a packet ring.
    pub(super) rings: Vec<u32>,
    /// Whether the buffer that was read last may have to be finished.
    awaits_finish: bool,
    /// Whether the rings' frames come faster than a wake-up would.
    pub(super) is_eager: bool,
}

impl Intake {
    pub(super) fn new(buffer_bytes: usize, verify_checksums: bool) -> Self {
        Self {
            listeners: Vec::new(),
            pools: [None; 3],
            buffers: 0,
            buffer_bytes,
            verify_checksums,
            some_ended: false,
            closing: 0,
            rings: Vec::new(),
            awaits_finish: false,
            is_eager: false,
        }
    }

    /// No turn can bring more datagrams: so many buffers, and each packet ring's share.
    pub(super) fn most_datagrams(&self) -> usize {
        self.buffers + self.rings.len() * packet_rings::TURN_FRAMES
    }

    /// Whether the kernel still holds a socket that no plan has.
    pub(super) fn is_closing(&self) -> bool {
        self.closing > 0
    }

    /// Starts and ends listening as a new plan says.
    pub(super) fn adopt(&mut self, sources: &[Source], ring: &mut Ring) -> io::Result<()> {
        let wanted: HashSet<_> = sources.iter().map(Source::identity).collect();
        let mut known = HashSet::new();
        for (token, place) in (0..).zip(&mut self.listeners) {
            let Some(listener) = place else { continue };
            let identity = listener.source.identity();
            if listener.state == ListenerState::Closing {
                continue;
            }
            if wanted.contains(&identity) {
                known.insert(identity);
                continue;
            }
            let is_armed = listener.state == ListenerState::Armed;
            if is_armed {
                listener.state = ListenerState::Closing;
                self.closing += 1;
            }
            end(listener, token, is_armed, ring)?;
            if !is_armed {
                *place = None;
            }
        }
        self.forget_rings();
        // Places below are taken: to search them for each source anew would take the square of
        // their number, while datagrams wait.
        let mut free = 0;
        for source in sources {
            if !known.contains(&source.identity()) {
                free = self.add(source.clone(), free, ring)? + 1;
            }
        }
        self.listen(ring)
    }

    /// Puts a socket into the first free place from `free` on, and says which that was.
    fn add(&mut self, source: Source, free: usize, ring: &mut Ring) -> io::Result<usize> {
        let pool = match &source.ring {
            Some(packets) => ring.add_slots(packets)?,
            None => self.pool(source.class, ring)?,
        };
        let has_ring = source.ring.is_some();
        let listener = Listener { source, pool, state: ListenerState::Ended, failures: 0 };
        self.some_ended = true;
        let mut places = self.listeners.iter().enumerate().skip(free);
        let at = places.find(|(_, place)| place.is_none()).map(|(at, _)| at);
        let at = at.unwrap_or(self.listeners.len());
        if at == self.listeners.len() {
            self.listeners.push(None);
        }
        self.listeners[at] = Some(listener);
        if has_ring {
            self.rings.extend(u32::try_from(at));
        }
        Ok(at)
    }

    /// The buffers of a class, made when the first socket needs them.
    fn pool(&mut self, class: SizeClass, ring: &mut Ring) -> io::Result<PoolId> {
        if let Some(pool) = self.pools[class as usize] {
            return Ok(pool);
        }
        let buffers = class.buffers(self.buffer_bytes)?;
        self.buffers += usize::from(buffers.count());
        let pool = ring.add_pool(buffers)?;
        self.pools[class as usize] = Some(pool);
        Ok(pool)
    }

    /// Reads a filled buffer and counts it; the rules that take it, if any do. What may have to be
    /// finished is not counted: [`Intake::awaits_finish`] says so.
    #[inline(always)]
    pub(super) fn read<'a>(
        &mut self,
        token: u32,
        buffer: &[u8],
        plan: &'a Plan,
        counters: &mut Writer,
    ) -> Option<(Arrival, &'a [u32])> {
        let listener = self.listeners.get_mut(token as usize)?.as_mut()?;
        listener.failures = 0;
        let source = &listener.source;
        let arrival = match source.kind.read(buffer, self.verify_checksums) {
            Ok(arrival) => arrival,
            Err(reason) => {
                self.awaits_finish = discard(source, buffer, reason, counters);
                return None;
            }
        };
        let rules = find_rules(source, &arrival, plan, counters)?;
        Some((arrival, rules))
    }

    /// Whether the buffer that was read last may have to be finished; no longer when this was asked.
    pub(super) fn awaits_finish(&mut self) -> bool {
        std::mem::take(&mut self.awaits_finish)
    }

    /// Does what the kernel left to do in a buffer and counts what comes of it; the new buffer, and
    /// the rules that take what is in it, if any do. The old one is given back.
    pub(super) fn finish<'a>(
        &self,
        token: u32,
        buffer: Buffer,
        ring: &mut Ring,
        plan: &'a Plan,
        counters: &mut Writer,
    ) -> Option<(Buffer, Arrival, &'a [u32])> {
        let listener = self.listeners.get(token as usize).and_then(Option::as_ref);
        let Some(Listener { source, .. }) = listener else {
            ring.give_back(buffer);
            return None;
        };
        let finished = ring.rewrite(buffer, |from, room| {
            let arrival = source.kind.finish(from, room)?;
            Ok((arrival, arrival.datagram.payload.len))
        });
        let (arrival, buffer) = finished
            .inspect_err(|reason| {
                let reason = reason.unwrap_or(Discard::NoBuffer);
                count_discarded(counters.slot(source.slot), reason, 1);
            })
            .ok()?;
        let Some(rules) = find_rules(source, &arrival, plan, counters) else {
            ring.give_back(buffer);
            return None;
        };
        Some((buffer, arrival, rules))
    }

    /// The kernel has ended a receive that brought data.
    pub(super) fn disarmed(&mut self, token: u32) {
        let Some(place) = self.listeners.get_mut(token as usize) else { return };
        if let Some(listener) = place {
            if listener.state == ListenerState::Closing {
                self.closing -= 1;
                *place = None;
            } else {
                listener.state = ListenerState::Ended;
                self.some_ended = true;
            }
        }
    }

    /// The kernel has ended a receive without data.
    pub(super) fn ended(&mut self, token: u32, errno: i32, counters: &mut Writer) {
        self.disarmed(token);
        let Some(Some(listener)) = self.listeners.get_mut(token as usize) else { return };
        let words = counters.slot(listener.source.slot);
        match errno {
            // Nothing is lost: what finds no buffer waits in the socket.
            libc::ENOBUFS => words[interface::BUFFER_WAITS] += 1,
            // The link went down; listening again waits until it is up.
            0 | libc::ENETDOWN => {}
            // The frame is gone: no `virtio_net_hdr` can say how it is to be cut. The network decides
            // how many of them come, so they must not count as failures.
            libc::EINVAL if is_described(listener.source.kind) => {
                count_discarded(words, Discard::BadHeader, 1);
            }
            _ => {
                listener.failures += 1;
                if listener.failures >= MAX_FAILURES {
                    listener.state = ListenerState::Failed;
                    words[interface::ERROR] = u64::from(errno.unsigned_abs());
                }
            }
        }
    }

    /// Listens again to every socket whose receive has ended. The buffers are back by now.
    #[inline]
    pub(super) fn listen(&mut self, ring: &mut Ring) -> io::Result<()> {
        if !std::mem::take(&mut self.some_ended) {
            return Ok(());
        }
        for (token, place) in (0..).zip(&mut self.listeners) {
            if let Some(listener) = place
                && listener.state == ListenerState::Ended
            {
                let source = &listener.source;
                // Packet rings are watched when they are empty.
                let Some(layout) = source.kind.layout() else { continue };
                ring.receive(source.fd.as_fd(), listener.pool, layout, token)?;
                listener.state = ListenerState::Armed;
            }
        }
        Ok(())
    }
}

/// Counts what a source received; the rules that take it, if any do.
#[inline(always)]
fn find_rules<'a>(
    source: &Source,
    arrival: &Arrival,
    plan: &'a Plan,
    counters: &mut Writer,
) -> Option<&'a [u32]> {
    let words = counters.slot(source.slot);
    let datagrams = u64::from(arrival.datagram.segments);
    words[interface::RECEIVED] += datagrams;
    match plan.table.find(source.interface, &arrival.datagram) {
        Verdict::Rules(rules) => {
            words[interface::MATCHED] += datagrams;
            Some(rules)
        }
        Verdict::Discard(reason, number) => {
            words[interface::DROPPED + reason as usize] += datagrams;
            if let Some(&slot) = number.and_then(|number| plan.groups.get(number as usize)) {
                count_unmatched(counters, slot, arrival.datagram, reason);
            }
            None
        }
    }
}

/// Counts what a source received and nobody can read; not so where it may have to be finished, which
/// is the answer.
#[cold]
#[inline(never)]
fn discard(source: &Source, buffer: &[u8], reason: Discard, counters: &mut Writer) -> bool {
    if reason == Discard::BadHeader {
        return true;
    }
    let datagrams = source.kind.count_discarded(buffer, reason);
    count_discarded(counters.slot(source.slot), reason, datagrams);
    false
}

/// Counts what was received and is not relayed.
fn count_discarded(words: &mut SlotWords, reason: Discard, datagrams: u32) {
    words[interface::RECEIVED] += u64::from(datagrams);
    words[interface::DROPPED + reason as usize] += u64::from(datagrams);
}

/// Whether each frame has a virtio header.
fn is_described(kind: Delivery) -> bool {
    matches!(kind, Delivery::Frame { vnet_hdr: true, .. })
}

/// Lets the kernel go of a socket that no plan has any more.
fn end(listener: &Listener, token: u32, is_armed: bool, ring: &mut Ring) -> io::Result<()> {
    if listener.source.ring.is_some() {
        ring.remove_slots(listener.pool);
        return if is_armed { ring.unwatch_slots(token) } else { Ok(()) };
    }
    if is_armed { ring.cancel(listener.pool, token) } else { Ok(()) }
}

/// Counts a datagram that a rule took.
#[inline]
pub(super) fn count_match(counters: &mut Writer, slot: u32, arrival: &Arrival) {
    let (datagram, now_ms) = (&arrival.datagram, counters.now_ms());
    let words = counters.slot(slot);
    words[rule::MATCHED] += u64::from(datagram.segments);
    words[rule::MATCHED_BYTES] += u64::from(datagram.payload.len);
    words[rule::LAST_SEEN_MS] = now_ms;
    store_address(&mut words[rule::LAST_SOURCE..], datagram.source);
}

/// Counts a datagram that GRO lets overtake others, if it is one.
// Out of line: for most rules nothing is merged, or what is merged comes many at a time.
#[inline(never)]
pub(super) fn check_order(
    (ring, window): (&Ring, &Window),
    entry: u16,
    is_v4: bool,
    (slot, order): (u32, OrderCheck),
    counters: &mut Writer,
) {
    let WindowEntry { buffer, start, len, count: 1, .. } = window.entry(entry) else { return };
    let payload = Span { start: *start, len: *len };
    if order.overtakes(ring.bytes(buffer), payload, is_v4) {
        counters.slot(slot)[rule::OVERTAKING] += 1;
    }
}

/// Keeps what tells the user why nothing flows: the group is there, but not as a rule wants it.
#[inline(never)]
fn count_unmatched(counters: &mut Writer, slot: u32, datagram: Datagram, reason: Discard) {
    let now_ms = counters.now_ms();
    let words = counters.slot(slot);
    words[group::UNMATCHED] += u64::from(datagram.segments);
    words[group::LAST_SEEN_MS] = now_ms;
    match reason {
        Discard::Source => store_address(&mut words[group::OTHER_SOURCE..], datagram.source),
        Discard::NoRule => words[group::OTHER_PORT] = u64::from(datagram.port) + 1,
        _ => {}
    }
}

#[inline]
fn store_address(words: &mut [u64], address: Addr) {
    let [upper, lower] = split(address.bits());
    words[0] = upper;
    words[1] = lower;
}

/// The upper and lower half of an address.
#[inline]
fn split(bits: u128) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bits.to_be_bytes();
    [u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes([i, j, k, l, m, n, o, p])]
}
