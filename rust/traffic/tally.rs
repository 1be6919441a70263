//! The statistics of received datagrams: counts and latencies.

use hdrhistogram::Histogram;

use super::senders::{SenderNumbers, SenderTable};
use super::sequence::Streams;
use crate::packet::ProbeHeader;
use crate::stats::sequences::SequenceSpec;
use crate::sys::recv::ReceivedDatagrams;

/// The statistics of one receiver since it joined.
///
/// `received = foreign + duplicated + (datagrams of a stream, each once)`.
#[derive(Clone, Debug, Default)]
pub struct ReceiveReport {
    /// All datagrams, including foreign ones and duplicates.
    pub received: u64,
    /// Their payload bytes.
    pub received_bytes: u64,
    /// Datagrams not sent by `mcr send`: counted, but without a number or a time.
    pub foreign: u64,
    /// Missing between the lowest and the highest number of each stream.
    pub lost: u64,
    /// Datagrams that had already arrived.
    pub duplicated: u64,
    /// Datagrams that arrived after one with a higher number (RFC 4737).
    pub reordered: u64,
    /// Streams seen; a restarted sender counts again.
    pub streams: u64,
    /// Buffers that the kernel dropped because this receiver's buffer was full (SO_MEMINFO). If the
    /// kernel merged datagrams, one buffer holds several.
    pub kernel_dropped: u64,
    /// The time from the first datagram to the last, by the kernel's receive timestamps.
    pub seconds: f64,
    /// Datagrams per second over that time; 0 with fewer than two.
    pub rate_pps: f64,
    /// The latency of the datagrams, once one with a time has arrived.
    pub latency: Option<Latency>,
    /// What the numbers of each sender say; `None` if they are not read.
    pub senders: Option<Vec<SenderNumbers>>,
    /// Senders that gave way to others among these.
    pub senders_evicted: u64,
}

/// The time from the sender's CLOCK_REALTIME before its send call to the receiving kernel's
/// timestamp, in microseconds. Between two hosts it is only as accurate as their clocks agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// The median.
    pub p50_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The 99.9th percentile.
    pub p999_us: f64,
    /// The maximum.
    pub max_us: f64,
    /// Datagrams that arrived before they were sent, because the clocks disagree. They count as 0
    /// us.
    pub negative: u64,
}

/// The running statistics behind a [`ReceiveReport`].
#[derive(Debug)]
pub(super) struct Tally {
    received: u64,
    bytes: u64,
    foreign: u64,
    negative: u64,
    streams: Streams,
    senders: Option<SenderTable>,
    latency_ns: Histogram<u64>,
    /// Receive timestamps of the first and the last datagram.
    span_ns: Option<(u64, u64)>,
}

impl Tally {
    /// Creates empty statistics, with the numbers of all senders if `sequence` says how to read
    /// them.
    pub(super) fn new(sequence: Option<SequenceSpec>) -> Self {
        Self {
            received: 0,
            bytes: 0,
            foreign: 0,
            negative: 0,
            streams: Streams::default(),
            senders: sequence.map(SenderTable::new),
            latency_ns: histogram_ns(),
            span_ns: None,
        }
    }

    /// Counts a datagram that the kernel received at `arrived_ns` (CLOCK_REALTIME).
    pub(super) fn add(&mut self, datagram: &[u8], arrived_ns: u64) {
        self.received += 1;
        self.bytes += datagram.len() as u64;
        self.span_ns = Some((self.span_ns.map_or(arrived_ns, |(first, _)| first), arrived_ns));
        let header = ProbeHeader::read(datagram)
            .filter(|header| self.streams.note(header.stream, header.sequence));
        let Some(header) = header else {
            self.foreign += 1;
            return;
        };
        if header.sent_ns > arrived_ns {
            self.negative += 1;
        }
        self.latency_ns.saturating_record(arrived_ns.saturating_sub(header.sent_ns));
    }

    /// Reads the numbers of datagrams that the kernel delivered at once.
    pub(super) fn read_numbers(
        &mut self,
        message: ReceivedDatagrams,
        bytes: &[u8],
        arrived_ns: u64,
    ) {
        if let (Some(senders), Some(sender)) = (&mut self.senders, message.sender) {
            let segment =
                if message.segment_bytes == 0 { bytes.len() } else { message.segment_bytes };
            senders.read(sender, bytes, segment.max(1), arrived_ns);
        }
    }

    /// The statistics so far, with the kernel's own drop count.
    pub(super) fn report(&self, kernel_dropped: u64) -> ReceiveReport {
        let counts = self.streams.counts();
        let span_ns = self.span_ns.map_or(0, |(first, last)| last.saturating_sub(first));
        let seconds = span_ns as f64 / 1e9;
        let gaps = self.received.saturating_sub(1) as f64;
        ReceiveReport {
            received: self.received,
            received_bytes: self.bytes,
            foreign: self.foreign,
            lost: counts.lost,
            duplicated: counts.duplicated,
            reordered: counts.reordered,
            streams: self.streams.opened(),
            kernel_dropped,
            seconds,
            rate_pps: if span_ns == 0 { 0.0 } else { gaps / seconds },
            latency: self.latency(),
            senders: self.senders.as_ref().map(SenderTable::report),
            senders_evicted: self.senders.as_ref().map_or(0, SenderTable::evicted),
        }
    }

    fn latency(&self) -> Option<Latency> {
        let at = |quantile| quantile_us(&self.latency_ns, quantile);
        Some(Latency {
            p50_us: at(0.5)?,
            p99_us: at(0.99)?,
            p999_us: at(0.999)?,
            max_us: at(1.0)?,
            negative: self.negative,
        })
    }
}

/// Times up to an hour, with three significant digits, in 400 KiB at most.
pub(super) fn histogram_ns() -> Histogram<u64> {
    const HOUR_NS: u64 = 3_600_000_000_000;
    Histogram::new_with_bounds(1, HOUR_NS, 3)
        .unwrap_or_else(|_| unreachable!("the bounds are fixed"))
}

/// The value at a quantile in microseconds; `None` for an empty histogram.
pub(super) fn quantile_us(histogram: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn datagram(sequence: u64, sent_ns: u64) -> [u8; 24] {
        ProbeHeader { stream: 1, sequence, sent_ns }.to_bytes()
    }

    #[test]
    fn latency_is_arrival_minus_departure() {
        let mut tally = Tally::new(None);
        for sequence in 0..1000 {
            tally.add(&datagram(sequence, 1_000_000), 1_050_000 + sequence);
        }
        let latency = tally.report(0).latency.unwrap();
        assert!((latency.p50_us - 50.5).abs() < 0.2, "{latency:?}");
        assert!((latency.max_us - 51.0).abs() < 0.2, "{latency:?}");
        assert_eq!(latency.negative, 0);
    }

    #[test]
    fn disagreeing_clocks_are_reported() {
        let mut tally = Tally::new(None);
        tally.add(&datagram(0, 2000), 1000);
        assert_eq!(tally.report(0).latency.unwrap().negative, 1);
    }

    #[test]
    fn the_rate_is_taken_between_first_and_last() {
        let mut tally = Tally::new(None);
        assert_eq!(tally.report(0).rate_pps, 0.0);
        for sequence in 0..11 {
            tally.add(&datagram(sequence, 0), sequence * 1_000_000);
        }
        assert!((tally.report(0).rate_pps - 1000.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn the_balance_holds_for_any_bytes(datagrams: Vec<(Vec<u8>, u64)>, ours: Vec<(u8, u64)>) {
            let mut tally = Tally::new(None);
            datagrams.iter().for_each(|(bytes, at)| tally.add(bytes, *at));
            ours.iter().for_each(|(number, at)| tally.add(&datagram(u64::from(*number), 5), *at));
            let report = tally.report(3);
            prop_assert_eq!(report.received, (datagrams.len() + ours.len()) as u64);
            let unique: std::collections::HashSet<_> = ours.iter().map(|(number, _)| number).collect();
            prop_assert_eq!(report.received, report.foreign + report.duplicated + unique.len() as u64);
            prop_assert_eq!(report.kernel_dropped, 3);
        }
    }
}
