//! Numbered datagrams in one buffer, as for UDP_SEGMENT: one call, many datagrams.

use super::realtime_ns;
use crate::error::{Error, Result};
use crate::packet::{HEADER_BYTES, ProbeHeader};

/// The largest UDP payload: 65535 less the UDP header and, for IPv4, the IP header.
const MAX_BYTES_V4: usize = 65507;
const MAX_BYTES_V6: usize = 65527;

/// The number of segments that every kernel with UDP_SEGMENT accepts in one call (UDP_MAX_SEGMENTS;
/// 128 since 6.8).
const MAX_SEGMENTS: usize = 64;

/// Up to `segments` datagrams of equal size in one buffer.
#[derive(Debug)]
pub(super) struct ProbeBatch {
    buffer: Vec<u8>,
    size_bytes: usize,
    segments: usize,
    stream: u32,
}

impl ProbeBatch {
    pub(super) fn new(stream: u32, size_bytes: usize, v4: bool) -> Result<Self> {
        let max_bytes = if v4 { MAX_BYTES_V4 } else { MAX_BYTES_V6 };
        if !(HEADER_BYTES..=max_bytes).contains(&size_bytes) {
            return Err(Error::Invalid(format!(
                "size_bytes must be {HEADER_BYTES} to {max_bytes}, not {size_bytes}"
            )));
        }
        let segments = MAX_SEGMENTS.min(max_bytes / size_bytes);
        Ok(Self { buffer: vec![0; segments * size_bytes], size_bytes, segments, stream })
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The most datagrams for one call.
    pub(super) fn segments(&self) -> usize {
        self.segments
    }

    /// Switches to one datagram per call.
    pub(super) fn send_singly(&mut self) {
        self.segments = 1;
    }

    /// Halves the most datagrams for one call.
    pub(super) fn halve(&mut self) {
        self.segments = self.segments.div_ceil(2);
    }

    /// Numbers and stamps the first `count` datagrams, or the most for one call; returns their
    /// number and bytes.
    pub(super) fn stamp(&mut self, first: u64, count: usize) -> (u64, &[u8]) {
        let count = count.min(self.segments);
        let bytes = &mut self.buffer[..count * self.size_bytes];
        let sent_ns = realtime_ns();
        for (datagram, step) in bytes.chunks_exact_mut(self.size_bytes).zip(0..) {
            let sequence = first.wrapping_add(step);
            let header = ProbeHeader { stream: self.stream, sequence, sent_ns };
            datagram[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        }
        (count as u64, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_fits_the_kernel_limits() {
        for (size, v4, segments) in
            [(24, true, 64), (1400, true, 46), (65507, true, 1), (65527, false, 1)]
        {
            let batch = ProbeBatch::new(1, size, v4).unwrap();
            assert_eq!((batch.segments, batch.buffer.len()), (segments, segments * size));
        }
    }

    #[test]
    fn sizes_that_no_datagram_can_have_are_refused() {
        for (size, v4) in [(0, true), (23, true), (65508, true), (65528, false)] {
            let error = ProbeBatch::new(1, size, v4).unwrap_err().to_string();
            assert!(error.starts_with("size_bytes must be 24 to 655"), "{error}");
        }
    }

    #[test]
    fn every_datagram_is_numbered_and_numbers_wrap() {
        let mut batch = ProbeBatch::new(9, 100, true).unwrap();
        let numbers = |(_, bytes): (u64, &[u8])| -> Vec<u64> {
            bytes.chunks(100).map(|bytes| ProbeHeader::read(bytes).unwrap().sequence).collect()
        };
        assert_eq!(numbers(batch.stamp(u64::MAX, 3)), [u64::MAX, 0, 1]);
        batch.halve();
        assert_eq!(numbers(batch.stamp(0, 1000)), (0..32).collect::<Vec<_>>());
        batch.send_singly();
        assert_eq!(numbers(batch.stamp(7, 1000)), [7]);
    }
}
