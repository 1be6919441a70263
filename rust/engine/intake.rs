//! The receiving side of an engine: which sockets are listened to, and what each datagram counts as.

use std::io;
use std::os::fd::AsFd;

use hashbrown::HashSet;

use super::counts::{count_discarded, count_unmatched, discard};
use super::listener::{Listener, ListenerState, end};
use super::packet_rings::{PacketRings, TURN_FRAMES};
use crate::engine::buffers::SizeClass;
use crate::engine::ingress::{Arrival, Delivery};
use crate::engine::plan::{Plan, Source};
use crate::packet::Discard;
use crate::rules::Verdict;
use crate::stats::{Writer, interface};
use crate::sys::buffers::Buffer;
use crate::sys::ring::{PoolId, Ring};
use crate::sys::sockopt;

/// Failures in a row after which a socket is not listened to any more.
const MAX_FAILURES: u8 = 8;

/// The sockets of an engine, by their tokens in the ring.
pub(super) struct Intake {
    listeners: Vec<Option<Listener>>,
    pools: [Option<PoolId>; SizeClass::ALL.len()],
    buffers: usize,
    buffer_bytes: usize,
    verify_checksums: bool,
    /// Whether some listener is to be armed.
    some_ended: bool,
    /// How many listeners the kernel still holds though no plan has them.
    closing: usize,
    /// Those that have a packet ring.
    rings: PacketRings,
    /// Whether the buffer that was read last may have to be finished.
    awaits_finish: bool,
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
            rings: PacketRings::default(),
            awaits_finish: false,
        }
    }

    /// No turn can bring more datagrams: so many buffers, and each packet ring's share.
    pub(super) fn most_datagrams(&self) -> usize {
        self.buffers + self.rings.len() * TURN_FRAMES
    }

    /// How many packet rings there are.
    pub(super) fn rings(&self) -> usize {
        self.rings.len()
    }

    /// The slots of the largest packet ring.
    pub(super) fn slots(&self) -> usize {
        let rings = self.listeners.iter().flatten().filter_map(|known| known.source.ring.as_ref());
        rings.map(|ring| usize::from(ring.slots())).max().unwrap_or(0)
    }

    /// Whether a frame lies in any packet ring, or comes within the time that looking is cheaper
    /// than sleeping. A lone frame never makes it look out for another.
    #[inline]
    pub(super) fn frames_come(&mut self, ring: &Ring) -> bool {
        self.rings.frames_come(&self.listeners, ring)
    }

    /// Frames that one turn took in tell how fast they come.
    #[inline]
    pub(super) fn note_pace(&mut self, frames: usize) {
        self.rings.note_pace(frames);
    }

    /// Has the kernel tell when a frame comes into a packet ring, as they are all empty.
    #[inline]
    pub(super) fn watch_rings(&mut self, ring: &mut Ring) -> io::Result<()> {
        self.rings.watch(&mut self.listeners, ring)
    }

    /// Takes the next frame of a packet ring, by its number here, and says its token.
    #[inline]
    pub(super) fn take_slot(&self, number: usize, ring: &mut Ring) -> Option<(u32, Buffer)> {
        self.rings.take_slot(&self.listeners, number, ring)
    }

    /// The kernel no longer watches a packet ring: frames have come, or the socket failed.
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
        self.rings.retain_open(&self.listeners);
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
            self.rings.add(u32::try_from(at).ok());
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

/// Whether each frame has a virtio header.
fn is_described(kind: Delivery) -> bool {
    matches!(kind, Delivery::Frame { vnet_hdr: true, .. })
}
