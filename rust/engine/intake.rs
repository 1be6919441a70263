//! The receiving side of an engine: its listeners, and the counting of each datagram.

use std::io;
use std::os::fd::AsFd;

use hashbrown::HashSet;

use super::counts::{count_discarded, count_unmatched, discard};
use super::listener::{InputListener, ListenerState, end};
use super::packet_rings::{PacketRings, TURN_FRAMES};
use super::time_stamps::TimeStamps;
use crate::engine::buffers::SizeClass;
use crate::engine::ingress::{Arrival, Delivery};
use crate::engine::plan::{Plan, Source};
use crate::packet::Discard;
use crate::rules::Verdict;
use crate::stats::{Writer, interface};
use crate::sys::buffers::Buffer;
use crate::sys::ring::{PoolId, Ring};
use crate::sys::sockopt;

/// Consecutive failures after which a socket is given up.
const MAX_FAILURES: u8 = 8;

/// The sockets of an engine, by their tokens in the ring.
pub(super) struct Intake {
    listeners: Vec<Option<InputListener>>,
    pools: [Option<PoolId>; SizeClass::ALL.len()],
    buffers: usize,
    buffer_bytes: usize,
    verify_checksums: bool,
    /// Whether to find out when the kernel received what arrives.
    latency: bool,
    /// Whether some listener must be armed again.
    some_ended: bool,
    /// How many listeners the kernel still holds although no plan has them.
    closing: usize,
    /// The listeners with a packet ring.
    rings: PacketRings,
    /// Whether the buffer that was read last may have to be finished.
    awaits_finish: bool,
}

impl Intake {
    pub(super) fn new(buffer_bytes: usize, verify_checksums: bool, latency: bool) -> Self {
        Self {
            listeners: Vec::new(),
            pools: [None; 3],
            buffers: 0,
            buffer_bytes,
            verify_checksums,
            latency,
            some_ended: false,
            closing: 0,
            rings: PacketRings::default(),
            awaits_finish: false,
        }
    }

    /// The most datagrams of one turn: all buffers, and each packet ring's share.
    pub(super) fn most_datagrams(&self) -> usize {
        self.buffers + self.rings.len() * TURN_FRAMES
    }

    /// The number of packet rings.
    pub(super) fn rings(&self) -> usize {
        self.rings.len()
    }

    /// The number of slots in the largest packet ring.
    pub(super) fn slots(&self) -> usize {
        let rings = self.listeners.iter().flatten().filter_map(|known| known.source.ring.as_ref());
        rings.map(|ring| usize::from(ring.slots())).max().unwrap_or(0)
    }

    /// Whether a packet ring has a frame, or gets one within the time that polling is cheaper than
    /// sleeping. A lone frame never causes polling for the next.
    #[inline]
    pub(super) fn has_frames(&mut self, ring: &Ring) -> bool {
        self.rings.has_frames(&self.listeners, ring)
    }

    /// Records the number of frames of one turn, as a measure of their rate.
    #[inline]
    pub(super) fn note_pace(&mut self, frames: usize) {
        self.rings.note_pace(frames);
    }

    /// Makes the kernel report the next frame in a packet ring; all of them are empty.
    #[inline]
    pub(super) fn watch_rings(&mut self, ring: &mut Ring) -> io::Result<()> {
        self.rings.watch(&mut self.listeners, ring)
    }

    /// Takes the next frame of the packet ring with this number, and returns it with its token.
    #[inline]
    pub(super) fn take_slot(&self, number: usize, ring: &mut Ring) -> Option<(u32, Buffer)> {
        self.rings.take_slot(&self.listeners, number, ring)
    }

    /// Records that the kernel no longer watches a packet ring: frames have arrived, or the socket
    /// failed.
    pub(super) fn readable(&mut self, token: u32, failed: bool, counters: &mut Writer) {
        let listener = self.listeners.get(token as usize).and_then(Option::as_ref);
        let errno = listener.filter(|_| failed).map_or(0, |listener| {
            let mut errno: libc::c_int = 0;
            let fd = listener.source.fd.as_fd();
            sockopt::get(fd, libc::SOL_SOCKET, libc::SO_ERROR, &mut errno).ok();
            errno
        });
        self.ended(token, errno, counters);
    }

    /// Whether the kernel still holds a socket that is in no plan.
    pub(super) fn is_closing(&self) -> bool {
        self.closing > 0
    }

    /// Starts and ends listeners as a new plan requires.
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
        self.rings.retain_open(&self.listeners);
        // Places below `free` are used. Searching all of them for each source would take quadratic
        // time while datagrams wait.
        let mut free = 0;
        for source in sources {
            if !known.contains(&source.identity()) {
                free = self.add(source.clone(), free, ring)? + 1;
            }
        }
        self.listen(ring)
    }

    /// Ends a listener whose receive the kernel did not find, unless that has ended by now.
    #[cold]
    pub(super) fn cancel_again(&self, token: u32, ring: &mut Ring) -> io::Result<()> {
        let listener = self.listeners.get(token as usize).and_then(Option::as_ref);
        match listener.filter(|listener| listener.state == ListenerState::Closing) {
            Some(listener) => end(listener, token, true, ring),
            None => Ok(()),
        }
    }

    /// Puts a socket into the first free place from `free` on, and returns that place.
    fn add(&mut self, source: Source, free: usize, ring: &mut Ring) -> io::Result<usize> {
        let pool = match &source.ring {
            Some(packets) => ring.add_slots(packets)?,
            None => self.pool(source.class, ring)?,
        };
        let has_ring = source.ring.is_some();
        let has_stamps = self.latency && !has_ring;
        let stamps = has_stamps.then(|| TimeStamps::begin(source.fd.as_fd(), 0));
        let state = ListenerState::Ended;
        let listener = InputListener { source, pool, state, failures: 0, stamps };
        self.some_ended = true;
        let mut places = self.listeners.iter().enumerate().skip(free);
        let at = places.find(|(_, place)| place.is_none()).map(|(at, _)| at);
        let at = at.unwrap_or(self.listeners.len());
        if at == self.listeners.len() {
            self.listeners.push(None);
        }
        self.listeners[at] = Some(listener);
        if has_ring {
            self.rings.add(u32::try_from(at).ok());
        }
        Ok(at)
    }

    /// The buffer pool of a class, created for the first socket that needs it.
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

    /// Reads a filled buffer and counts it; returns the matching rules, if any. A buffer that may
    /// have to be finished is not counted: [`Intake::awaits_finish`] tells.
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

    /// The source with this token.
    pub(super) fn source(&self, token: u32) -> Option<&Source> {
        let listener = self.listeners.get(token as usize).and_then(Option::as_ref);
        listener.map(|listener| &listener.source)
    }

    /// When the kernel received what is in a buffer, if it is known: in a packet ring always, else
    /// if latency is measured.
    #[inline]
    pub(super) fn arrival_ns(&mut self, token: u32, buffer: &[u8], now_ms: u64) -> Option<u64> {
        let InputListener { source, stamps, .. } =
            self.listeners.get_mut(token as usize)?.as_mut()?;
        let may_have_one = match stamps {
            Some(stamps) => stamps.count(source.fd.as_fd(), now_ms),
            None => source.ring.is_some(),
        };
        if may_have_one { source.kind.arrival_ns(buffer) } else { None }
    }

    /// Whether the buffer that was read last may have to be finished; resets the state.
    pub(super) fn awaits_finish(&mut self) -> bool {
        std::mem::take(&mut self.awaits_finish)
    }

    /// Completes the offloaded work in a buffer and counts the result; returns the new buffer and
    /// the matching rules, if any. The old buffer is given back.
    pub(super) fn finish<'a>(
        &self,
        token: u32,
        buffer: Buffer,
        ring: &mut Ring,
        plan: &'a Plan,
        counters: &mut Writer,
    ) -> Option<(Buffer, Arrival, &'a [u32])> {
        let Some(source) = self.source(token) else {
            ring.give_back(buffer);
            return None;
        };
        let finished = ring.rewrite(buffer, |from, room| {
            let arrival = source.kind.finish(from, room)?;
            Ok((arrival, arrival.datagram.payload.len))
        });
        let (arrival, buffer) = finished
            .inspect_err(|reason| {
                // Without a reason there was no room for it, which `not_matched` has made.
                let reason = reason.unwrap_or(Discard::BadHeader);
                count_discarded(counters.slot(source.slot), reason, 1);
            })
            .ok()?;
        let Some(rules) = find_rules(source, &arrival, plan, counters) else {
            ring.give_back(buffer);
            return None;
        };
        Some((buffer, arrival, rules))
    }

    /// Records that the kernel has ended a receive that delivered data.
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

    /// Records that the kernel has ended a receive without data.
    pub(super) fn ended(&mut self, token: u32, errno: i32, counters: &mut Writer) {
        self.disarmed(token);
        let Some(Some(listener)) = self.listeners.get_mut(token as usize) else { return };
        let words = counters.slot(listener.source.slot);
        match errno {
            // Nothing is lost: a datagram without a buffer waits in the socket.
            libc::ENOBUFS => words[interface::BUFFER_WAITS] += 1,
            // The link went down; listening resumes when it is up.
            0 | libc::ENETDOWN => {}
            // The frame is lost: no `virtio_net_hdr` can describe how to segment it. The network
            // determines the number of such frames, so they must not count as failures.
            libc::EINVAL if has_vnet_header(listener.source.kind) => {
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

    /// Arms every listener whose receive has ended. The buffers have been given back by now.
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

/// Counts the datagrams from a source; returns the matching rules, if any.
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
    words[interface::RECEIVED_BYTES] += u64::from(arrival.datagram.payload.len);
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

/// Whether each frame has a virtio header.
fn has_vnet_header(kind: Delivery) -> bool {
    matches!(kind, Delivery::Frame { vnet_hdr: true, .. })
}
