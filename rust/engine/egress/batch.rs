//! Batches: consecutive datagrams of one lane that one UDP_SEGMENT send can carry.
//!
//! All datagrams of a batch have the same size, except that the last may be shorter, and none is
//! empty unless it is alone: this is what the kernel can segment (udp(7), UDP_SEGMENT). The fields
//! that outputs preserve are the same for all of them.

use std::ops::Range;

use super::limits::{MAX_SEGMENTS, MAX_SEND_BYTES};
use crate::engine::limiter::Load;
use crate::engine::rewrite::{Origin, Preserved};
use crate::engine::window::{Window, WindowEntry};
use crate::packet::Headers;
use crate::sys::messages::{MessageId, Piece};
use crate::sys::ring::Ring;

struct Batch {
    lane: u32,
    /// The first of the entries in `Batches::members`.
    first: u32,
    end: u32,
    segment: u32,
    datagrams: u32,
    /// The message of the whole batch, shared by its outputs, and the wave in which it is valid.
    whole: Option<(MessageId, u32)>,
}

/// The batches of one wave.
pub(super) struct Batches {
    batches: Vec<Batch>,
    /// Numbers of window entries.
    members: Vec<u16>,
    /// The pieces of the message under construction: window entry, start and length.
    pieces: Vec<(u16, u32, u32)>,
    /// The number of the current wave of these batches.
    wave: u32,
}

impl Batches {
    pub(super) fn new() -> Self {
        let pieces = Vec::with_capacity(usize::from(MAX_SEGMENTS));
        Self { batches: Vec::new(), members: Vec::with_capacity(8192), pieces, wave: 0 }
    }

    pub(super) fn reserve(&mut self, lanes: usize) {
        self.batches.reserve(lanes);
    }

    pub(super) fn clear(&mut self) {
        self.batches.clear();
        self.members.clear();
        self.wave = 0;
    }

    pub(super) fn forget_messages(&mut self) {
        self.wave += 1;
    }

    /// The number of batches.
    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn datagrams(&self, batch: u32) -> u32 {
        self.batches[batch as usize].datagrams
    }

    pub(super) fn segment(&self, batch: u32) -> u32 {
        self.batches[batch as usize].segment
    }

    /// The number and sizes of the datagrams of a batch.
    pub(super) fn load(&self, window: &Window, batch: u32) -> Load {
        let Batch { first, end, segment, datagrams, .. } = self.batches[batch as usize];
        let members = &self.members[first as usize..end as usize];
        let bytes: u32 = members.iter().map(|&member| window.entry(member).len).sum();
        // The head of a batch has fewer, all of the full size.
        Load { datagrams, segment, bytes: bytes.min(datagrams * segment) }
    }

    /// Adds a batch of the first `datagrams` of another one; returns its number.
    pub(super) fn add_head(&mut self, batch: u32, datagrams: u32) -> u32 {
        let Batch { lane, first, end, segment, .. } = self.batches[batch as usize];
        let number = u32::try_from(self.batches.len()).unwrap_or(u32::MAX);
        self.batches.push(Batch { lane, first, end, segment, datagrams, whole: None });
        number
    }

    /// How many datagrams of a batch remain after `done` have been handled.
    pub(super) fn left(&self, batch: u32, done: u32) -> u32 {
        self.datagrams(batch) - done
    }

    /// The origin of the datagrams of a batch, as far as it is preserved.
    pub(super) fn origin(&self, window: &Window, batch: u32) -> Option<Origin> {
        let Batch { lane, first, .. } = self.batches[batch as usize];
        window.origin(lane, self.members[first as usize])
    }

    /// Takes the longest possible batch from the head of a lane whose rule's outputs preserve
    /// `kept`.
    pub(super) fn take(
        &mut self,
        window: &mut Window,
        lane: u32,
        kept: Option<&Preserved>,
    ) -> Option<u32> {
        let number = u32::try_from(self.batches.len()).ok()?;
        let first = u32::try_from(self.members.len()).ok()?;
        let (member, entry) = window.peek(lane)?;
        let (segment, mut bytes, mut datagrams) = (entry.segment, entry.len, entry.count);
        let marks = (entry.ttl, entry.dscp);
        let mut open = is_open(entry);
        self.members.push(member);
        window.advance(lane);
        while open && let Some((member, entry)) = window.peek(lane) {
            let fits = bytes + entry.len <= MAX_SEND_BYTES
                && datagrams + entry.count <= u32::from(MAX_SEGMENTS)
                && continues(entry, segment)
                && kept.is_none_or(|kept| kept.joins(marks, (entry.ttl, entry.dscp)));
            if !fits {
                break;
            }
            open = is_open(entry) && entry.segment == segment;
            bytes += entry.len;
            datagrams += entry.count;
            self.members.push(member);
            window.advance(lane);
        }
        let end = u32::try_from(self.members.len()).ok()?;
        self.batches.push(Batch { lane, first, end, segment, datagrams, whole: None });
        Some(number)
    }

    /// The window entries of each batch.
    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = &[u16]> {
        let batches = self.batches.iter();
        batches.map(|batch| &self.members[batch.first as usize..batch.end as usize])
    }

    /// Builds the message for the next send of a batch of which `done` datagrams have been handled,
    /// with at most `most` datagrams; returns it with its number of datagrams, or `None` if the
    /// wave is full.
    #[inline(always)]
    pub(super) fn message(
        &mut self,
        ring: &mut Ring,
        window: &Window,
        number: u32,
        done: u32,
        most: u32,
    ) -> Option<(MessageId, u32)> {
        let batch = &self.batches[number as usize];
        let chunk = most.min(batch.datagrams - done);
        let message = match batch.whole {
            Some((message, wave)) if wave == self.wave && chunk == batch.datagrams => message,
            _ => self.make(ring, window, number, done, chunk)?,
        };
        Some((message, chunk))
    }

    #[inline(never)]
    fn make(
        &mut self,
        ring: &mut Ring,
        window: &Window,
        number: u32,
        done: u32,
        chunk: u32,
    ) -> Option<MessageId> {
        let batch = &mut self.batches[number as usize];
        let members = &self.members[batch.first as usize..batch.end as usize];
        self.pieces.clear();
        append_pieces(members, window, done, chunk, &mut self.pieces);
        let pieces = self.pieces.iter().map(|&(entry, start, len)| Piece {
            buffer: &window.entry(entry).buffer,
            start,
            len,
        });
        let segment = if chunk == 1 { 0 } else { u16::try_from(batch.segment).ok()? };
        let message = ring.message(pieces, segment)?;
        if chunk == batch.datagrams {
            batch.whole = Some((message, self.wave));
        }
        Some(message)
    }

    /// One datagram of a batch: its window entry, its number in that, and the range of its payload
    /// in the buffer.
    pub(super) fn find(
        &mut self,
        window: &Window,
        number: u32,
        datagram: u32,
    ) -> Option<(u16, u32, Range<u32>)> {
        let batch = &self.batches[number as usize];
        let members = &self.members[batch.first as usize..batch.end as usize];
        self.pieces.clear();
        append_pieces(members, window, datagram, 1, &mut self.pieces);
        let &(entry, start, len) = self.pieces.first()?;
        let behind = start - window.entry(entry).start;
        let number = behind.checked_div(window.entry(entry).segment).unwrap_or(0);
        Some((entry, number, start..start + len))
    }

    /// Builds the message of one datagram of a batch behind headers of its own; `None` if the wave
    /// is full.
    pub(super) fn add_with_headers(
        &mut self,
        ring: &mut Ring,
        window: &Window,
        number: u32,
        datagram: u32,
        headers: &Headers,
    ) -> Option<MessageId> {
        let batch = &self.batches[number as usize];
        let members = &self.members[batch.first as usize..batch.end as usize];
        self.pieces.clear();
        append_pieces(members, window, datagram, 1, &mut self.pieces);
        let &(entry, start, len) = self.pieces.first()?;
        let piece = Piece { buffer: &window.entry(entry).buffer, start, len };
        ring.add_with_headers(piece, |payload, place| headers.write(payload, place))
    }
}

/// Whether more datagrams may follow: all so far have the full size.
pub(super) fn is_open(entry: &WindowEntry) -> bool {
    entry.len != 0 && entry.len == entry.segment * entry.count
}

/// Whether an entry may follow datagrams of `segment` bytes.
pub(super) fn continues(entry: &WindowEntry, segment: u32) -> bool {
    entry.len != 0 && (entry.segment == segment || (entry.count == 1 && entry.len < segment))
}

/// The pieces of the datagrams `done..done + chunk` of a batch.
fn append_pieces(
    members: &[u16],
    window: &Window,
    done: u32,
    chunk: u32,
    pieces: &mut Vec<(u16, u32, u32)>,
) {
    let (mut skip, mut left) = (done, chunk);
    for &member in members {
        let entry = window.entry(member);
        if skip >= entry.count {
            skip -= entry.count;
            continue;
        }
        let datagrams = left.min(entry.count - skip);
        let offset = skip * entry.segment;
        let len = (datagrams * entry.segment).min(entry.len - offset);
        pieces.push((member, entry.start + offset, len));
        left -= datagrams;
        skip = 0;
        if left == 0 {
            break;
        }
    }
}
