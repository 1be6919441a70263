//! The limits of one send to an output. They are learned from refusals, and forgotten again, since
//! links change and an ICMP error can look like a refusal. Only limits whose violation is invisible
//! are known in advance.

use crate::engine::plan::Burst;
use crate::sys::messages::MAX_PIECES;

/// The most bytes in one send: the largest payload of an IPv4 datagram (RFC 768, RFC 791).
pub(super) const MAX_SEND_BYTES: u32 = 65_507;
/// The most segments in one send (UDP_MAX_SEGMENTS; half of that before Linux 6.9).
pub(super) const MAX_SEGMENTS: u16 = 128;
/// The number of sends after which a refusal is forgotten. Meeting it again costs one send and no
/// datagram.
const MEMORY: u16 = 10_000;
/// The number of accepted sends of several datagrams after which an output is expected to accept
/// the next. A refusal that was not expected can cost one batch.
const PROOF: u16 = 1000;
const _: () = assert!((MAX_SEGMENTS as usize) < MAX_PIECES);

/// The limits of one send to an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SendLimits {
    /// Bytes of the largest datagram that may share a send with others; 0 before the start.
    max_segment: u16,
    /// The most datagrams in one send.
    max_segments: u16,
    /// The initial value of `max_segment`.
    first_segment: u16,
    /// Sends until the last refusal is forgotten; 0 if there is none.
    memory: u16,
    /// The accepted sends of several datagrams since the last refusal.
    accepted: u16,
    /// The most bytes in one send, counting this many header bytes for each datagram.
    bytes: u32,
    headers: u16,
}

impl SendLimits {
    /// Starts with the limits of the interface's MTU and queueing disciplines, unless limits were
    /// already learned under the same ones.
    pub(super) fn start(&mut self, max_segment: u16, burst: Option<Burst>) {
        let Burst { bytes, headers } = burst.unwrap_or(Burst { bytes: MAX_SEND_BYTES, headers: 0 });
        let fresh = Self {
            max_segment,
            max_segments: MAX_SEGMENTS,
            first_segment: max_segment,
            memory: 0,
            accepted: 0,
            bytes: bytes.min(MAX_SEND_BYTES),
            headers,
        };
        if self.max_segments == 0 || self.initial() != fresh {
            *self = fresh;
        }
    }

    fn initial(self) -> Self {
        let (max_segment, max_segments) = (self.first_segment, MAX_SEGMENTS);
        Self { max_segment, max_segments, memory: 0, accepted: 0, ..self }
    }

    /// How many of `left` datagrams of `segment` bytes go into the next send.
    #[inline]
    pub(super) fn chunk(&self, segment: u32, left: u32) -> u32 {
        // A single datagram is always allowed. This check first: the division below takes as long
        // as everything else together.
        if left == 1 || segment > u32::from(self.max_segment) || segment == 0 {
            return 1;
        }
        let by_bytes = self.bytes / (segment + u32::from(self.headers));
        left.min(u32::from(self.max_segments)).min(by_bytes).max(1)
    }

    /// The largest datagrams in bytes of which `datagrams` make one send; `None` unless the output
    /// has proved that it accepts such sends.
    pub(super) fn proven_segment(&self, datagrams: u32) -> Option<u32> {
        let by_bytes = (self.bytes / datagrams.max(1)).saturating_sub(u32::from(self.headers));
        let is_proven = self.accepted >= PROOF && self.memory == 0;
        is_proven.then_some(by_bytes.min(u32::from(self.max_segment)))
    }

    /// Forgets what the output has proved.
    pub(super) fn distrust(&mut self) {
        self.accepted = 0;
    }

    /// Records a successful send of `datagrams`, after as many at once were `refused`, if any were.
    #[inline]
    pub(super) fn accept(&mut self, refused: u32, datagrams: u32) {
        self.accepted = self.accepted.saturating_add(u16::from(datagrams > 1));
        if refused != 0 {
            self.refuse_count(refused);
        } else if self.memory > 0 {
            self.memory -= 1;
            if self.memory == 0 {
                *self = self.initial();
            }
        }
    }

    /// Records that the link cannot send several datagrams of this size at once: they are sent one
    /// by one.
    pub(super) fn refuse_size(&mut self, segment: u32) {
        let below = u16::try_from(segment.saturating_sub(1)).unwrap_or(u16::MAX);
        self.max_segment = self.max_segment.min(below);
        (self.memory, self.accepted) = (MEMORY, 0);
    }

    /// Records that the kernel refuses this many datagrams at once.
    pub(super) fn refuse_count(&mut self, datagrams: u32) {
        let half = u16::try_from(datagrams / 2).unwrap_or(u16::MAX).max(1);
        self.max_segments = self.max_segments.min(half);
        (self.memory, self.accepted) = (MEMORY, 0);
    }

    /// Records that the device cannot segment at all.
    pub(super) fn refuse_segments(&mut self) {
        self.max_segments = 1;
        (self.memory, self.accepted) = (MEMORY, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_respects_learned_limits() {
        let mut limits = SendLimits::default();
        limits.start(1472, None);
        assert_eq!(limits.chunk(1400, 100), 46);
        assert_eq!(limits.chunk(200, 500), 128);
        assert_eq!(limits.chunk(1473, 100), 1);
        assert_eq!(limits.chunk(0, 1), 1);
        limits.refuse_count(46);
        assert_eq!(limits.chunk(200, 500), 23);
        limits.refuse_size(1400);
        assert_eq!(limits.chunk(1400, 100), 1);
        assert_eq!(limits.chunk(1399, 100), 23);
        limits.refuse_segments();
        assert_eq!(limits.chunk(100, 100), 1);
        limits.start(1472, None);
        assert_eq!(limits.chunk(100, 100), 1);
        limits.start(8972, None);
        assert_eq!(limits.chunk(5000, 100), 13);
    }

    #[test]
    fn a_chunk_is_no_larger_than_the_burst() {
        let mut limits = SendLimits::default();
        limits.start(1472, None);
        limits.refuse_count(20);
        let burst = Burst { bytes: 20_000, headers: 46 };
        limits.start(1472, Some(burst));
        assert_eq!(limits.chunk(1000, 100), 19, "with the headers of each");
        assert_eq!(limits.chunk(1400, 5), 5);
        limits.start(1472, Some(Burst { bytes: 100, ..burst }));
        assert_eq!(limits.chunk(1000, 100), 1, "the discipline drops it and reports that");
        limits.start(1472, None);
        assert_eq!(limits.chunk(1000, 100), 65);
    }

    #[test]
    fn a_refusal_is_forgotten_after_many_sends() {
        let mut limits = SendLimits::default();
        limits.start(1472, None);
        limits.refuse_size(1400);
        limits.refuse_count(20);
        for _ in 1..MEMORY {
            limits.accept(0, 1);
        }
        assert_eq!(limits.chunk(1400, 40), 1);
        limits.accept(0, 1);
        assert_eq!(limits.chunk(1400, 40), 40);
        limits.refuse_segments();
        assert_eq!(limits.chunk(1400, 40), 1);
    }
}
