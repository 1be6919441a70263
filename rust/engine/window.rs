//! The datagrams of one turn: their buffers, and lanes with what matched each rule.
//!
//! A rule has one lane or, if its outputs preserve fields of the datagrams, one for each flow, so
//! that interleaved flows still form batches.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::engine::rewrite::{Origin, Preserved};
use crate::packet::Datagram;
use crate::sys::buffers::Buffer;

/// The most (datagram, rule) pairs in a window; when it is full, the window is sent first.
const MAX_LINKS: usize = 8192;
/// The most lanes of flows in a window; when it is full, the window is sent first.
pub(crate) const MAX_FLOWS: usize = 1024;
/// The most entries of a window that do not own their buffer.
const MAX_PARTS: usize = 2048;
const NONE: u16 = u16::MAX;
const _: () = assert!(MAX_LINKS < NONE as usize);

/// One datagram, or the equal-sized datagrams of a super-frame, in its buffer.
pub(crate) struct WindowEntry {
    pub(crate) buffer: Buffer,
    /// The offset of the payload in the buffer.
    pub(crate) start: u32,
    /// The length of the payload in bytes.
    pub(crate) len: u32,
    /// The size in bytes of each datagram but the last.
    pub(crate) segment: u32,
    /// The number of datagrams.
    pub(crate) count: u32,
    /// Their TTL or hop limit.
    pub(crate) ttl: u8,
    /// Their differentiated services code point.
    pub(crate) dscp: u8,
    /// Whether another entry owns the buffer.
    pub(crate) is_part: bool,
}

impl WindowEntry {
    /// One datagram, whose payload has `len` bytes from `start` on.
    pub(crate) const fn single(
        buffer: Buffer,
        (start, len): (u32, u32),
        ttl: u8,
        dscp: u8,
    ) -> Self {
        Self { buffer, start, len, segment: len, count: 1, ttl, dscp, is_part: false }
    }
}

#[derive(Clone, Copy)]
struct LaneNode {
    entry: u16,
    next: u16,
}

#[derive(Clone, Copy)]
struct LaneList {
    head: u16,
    tail: u16,
}

const EMPTY: LaneList = LaneList { head: NONE, tail: NONE };

/// The datagrams of one turn.
pub(crate) struct Window {
    entries: Vec<WindowEntry>,
    /// How many of these do not own their buffer.
    parts: usize,
    links: Vec<LaneNode>,
    /// By lane: first those of whole rules, then those of flows.
    lists: Vec<LaneList>,
    active: Vec<u32>,
    rules: u32,
    /// The rule and the flow of each lane after the rules' own.
    flows: Vec<(u32, Origin)>,
    by_flow: HashTable<u32>,
    /// Seeded, because senders choose what is hashed.
    hasher: DefaultHashBuilder,
}

impl Window {
    /// Creates a window without room for datagrams or rules.
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            parts: 0,
            links: Vec::with_capacity(MAX_LINKS),
            lists: Vec::new(),
            active: Vec::new(),
            rules: 0,
            flows: Vec::with_capacity(MAX_FLOWS),
            by_flow: HashTable::with_capacity(MAX_FLOWS),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Reserves memory, so that nothing is allocated while datagrams flow. The window is empty.
    pub(crate) fn resize(&mut self, entries: usize, rules: usize) {
        self.entries.reserve(entries);
        self.lists.clear();
        self.lists.resize(rules + MAX_FLOWS, EMPTY);
        self.active.reserve(rules + MAX_FLOWS);
        self.rules = u32::try_from(rules).unwrap_or(u32::MAX);
    }

    /// Adds a datagram and returns its number.
    #[inline]
    pub(crate) fn push(&mut self, entry: WindowEntry) -> u16 {
        let number = u16::try_from(self.entries.len()).unwrap_or(NONE);
        self.entries.push(entry);
        number
    }

    /// Reserves memory for parts of super-frames.
    pub(crate) fn reserve_parts(&mut self, entries: usize) {
        self.entries.reserve(entries + MAX_PARTS);
    }

    /// Whether there is room for all parts of one more super-frame.
    pub(crate) fn has_room_for_parts(&self, parts: usize) -> bool {
        self.parts + parts <= MAX_PARTS
    }

    /// Adds a part of an entry: this many datagrams from an offset in its bytes on.
    pub(crate) fn push_part(&mut self, entry: u16, (offset, count): (u32, u32)) -> u16 {
        let WindowEntry { buffer, start, len, segment, ttl, dscp, .. } = self.entry(entry);
        let (buffer, start, ttl, dscp) = (buffer.view(), start + offset, *ttl, *dscp);
        let len = (count * segment).min(len - offset);
        let segment = (*segment).min(len);
        self.parts += 1;
        self.push(WindowEntry { buffer, start, len, segment, count, ttl, dscp, is_part: true })
    }

    /// Adds a datagram whose buffer is not given back.
    pub(crate) fn push_view(&mut self, entry: WindowEntry) -> u16 {
        self.parts += 1;
        self.push(WindowEntry { is_part: true, ..entry })
    }

    /// Appends a datagram to a rule's lane, or to its flow's lane if the rule's outputs preserve
    /// fields; false if there is no more room.
    #[inline(always)]
    #[must_use]
    pub(crate) fn link(
        &mut self,
        rule: u32,
        kept: Option<&Preserved>,
        datagram: &Datagram,
        entry: u16,
    ) -> bool {
        match kept {
            None => self.append(rule, entry),
            Some(kept) => self.link_flow(rule, *kept, *datagram, entry),
        }
    }

    /// The datagram is passed by value, so that it needs to be in memory only here.
    #[inline(never)]
    fn link_flow(&mut self, rule: u32, kept: Preserved, datagram: Datagram, entry: u16) -> bool {
        self.lane(rule, kept.flow(&datagram)).is_some_and(|lane| self.append(lane, entry))
    }

    /// Appends a datagram that has waited to a rule's lane, or to that of its flow if it has an
    /// origin; false if there is no more room.
    #[must_use]
    pub(crate) fn link_again(&mut self, rule: u32, origin: Option<&Origin>, entry: u16) -> bool {
        let Some(origin) = origin else { return self.append(rule, entry) };
        let flow = Origin { ttl: 0, dscp: 0, ..*origin };
        self.lane(rule, flow).is_some_and(|lane| self.append(lane, entry))
    }

    #[inline(always)]
    fn append(&mut self, lane: u32, entry: u16) -> bool {
        if self.links.len() >= MAX_LINKS {
            return false;
        }
        let Ok(number) = u16::try_from(self.links.len()) else { return false };
        self.links.push(LaneNode { entry, next: NONE });
        let list = &mut self.lists[lane as usize];
        if list.head == NONE {
            list.head = number;
            self.active.push(lane);
        } else {
            self.links[usize::from(list.tail)].next = number;
        }
        list.tail = number;
        true
    }

    /// The lane of a flow, created for a new flow; `None` if there is no more room.
    fn lane(&mut self, rule: u32, flow: Origin) -> Option<u32> {
        let Self { flows, by_flow, hasher, .. } = self;
        let hash = hasher.hash_one((rule, flow));
        let known = by_flow.find(hash, |&number| flows[number as usize] == (rule, flow));
        if let Some(number) = known {
            return Some(self.rules + number);
        }
        let number = u32::try_from(flows.len()).ok().filter(|_| flows.len() < MAX_FLOWS)?;
        flows.push((rule, flow));
        by_flow.insert_unique(hash, number, |&number| hasher.hash_one(flows[number as usize]));
        Some(self.rules + number)
    }

    /// The rule of a lane.
    #[inline]
    pub(crate) fn rule(&self, lane: u32) -> u32 {
        if lane < self.rules { lane } else { self.flows[(lane - self.rules) as usize].0 }
    }

    /// The origin of a datagram of a lane, as far as the lane's rule preserves it; `None` for a
    /// rule that preserves nothing.
    pub(crate) fn origin(&self, lane: u32, entry: u16) -> Option<Origin> {
        let (_, flow) = self.flows.get(lane.checked_sub(self.rules)? as usize)?;
        let WindowEntry { ttl, dscp, .. } = *self.entry(entry);
        Some(Origin { ttl, dscp, ..*flow })
    }

    /// Removes the lanes of flows, after everything in them was sent.
    pub(crate) fn forget_flows(&mut self) {
        if !self.flows.is_empty() {
            self.flows.clear();
            self.by_flow.clear();
        }
    }

    /// The lanes with remaining datagrams.
    pub(crate) fn active(&self) -> &[u32] {
        &self.active
    }

    /// The next datagram of a lane, without removing it.
    #[inline]
    pub(crate) fn peek(&self, lane: u32) -> Option<(u16, &WindowEntry)> {
        let head = self.lists[lane as usize].head;
        let link = self.links.get(usize::from(head)).filter(|_| head != NONE)?;
        Some((link.entry, &self.entries[usize::from(link.entry)]))
    }

    /// Removes the datagram that [`Window::peek`] returned from the lane.
    #[inline]
    pub(crate) fn advance(&mut self, lane: u32) {
        let list = &mut self.lists[lane as usize];
        list.head = self.links[usize::from(list.head)].next;
    }

    /// The remaining datagrams of a lane, with their numbers.
    #[inline]
    pub(crate) fn datagrams(&self, lane: u32) -> impl Iterator<Item = (u16, &WindowEntry)> {
        let mut next = self.lists[lane as usize].head;
        std::iter::from_fn(move || {
            let LaneNode { entry, next: following } = *self.links.get(usize::from(next))?;
            next = following;
            Some((entry, &self.entries[usize::from(entry)]))
        })
    }

    /// Removes all datagrams from a lane.
    #[inline]
    pub(crate) fn clear_lane(&mut self, lane: u32) {
        self.lists[lane as usize] = EMPTY;
    }

    /// Removes the lanes that are empty.
    #[inline(always)]
    pub(crate) fn retire_finished(&mut self) {
        let lists = &self.lists;
        self.active.retain(|&lane| lists[lane as usize].head != NONE);
        if self.active.is_empty() {
            self.links.clear();
        }
    }

    /// The datagram with this number.
    #[inline]
    pub(crate) fn entry(&self, number: u16) -> &WindowEntry {
        &self.entries[usize::from(number)]
    }

    /// Removes all datagrams; the lanes are already empty.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Buffer> + '_ {
        self.parts = 0;
        self.entries.drain(..).filter(|entry| !entry.is_part).map(|entry| entry.buffer)
    }

    /// The number of datagrams.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
