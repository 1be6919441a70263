//! Messages about queueing disciplines: which one it is, and the largest batch that a token bucket
//! filter passes in one piece (tc-tbf(8)). It splits a larger one into its datagrams, and reports
//! that it took all even if it took only one (net/sched/sch_tbf.c, `tbf_segment`).

use netlink_packet_core::{parse_u32, parse_u64};

use super::messages::attributes;

/// Length of `struct tcmsg`; the attributes follow.
const HEADER_BYTES: usize = 20;
/// Attributes of a token bucket filter (linux/pkt_sched.h).
const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_PRATE64: u16 = 5;
/// Nanoseconds per tick, the unit of its times (`PSCHED_SHIFT`).
const TICK_NS: u64 = 64;

/// A queueing discipline (tc(8)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discipline {
    /// Its kind, such as `fq_codel`.
    pub kind: String,
    /// Its number (`tcm_handle`); 0 if the kernel has created it.
    pub handle: u32,
    /// Whether it is of a kind that limits the rate only if it was asked to, and was.
    pub has_rate: bool,
}

/// The discipline in a message.
pub(super) fn read_kind(message: &[u8]) -> Option<Discipline> {
    let handle = parse_u32(message.get(8..12)?).ok()?;
    let [kind, options] = attributes(message, HEADER_BYTES, [libc::TCA_KIND, libc::TCA_OPTIONS]);
    let kind = kind?.strip_suffix(b"\0")?;
    let has_rate = has_rate(kind, options.unwrap_or_default());
    Some(Discipline { kind: String::from_utf8_lossy(kind).into_owned(), handle, has_rate })
}

/// Whether the options (linux/pkt_sched.h) set a rate: `maxrate` of `fq`, `bandwidth` of `cake`.
fn has_rate(kind: &[u8], options: &[u8]) -> bool {
    const TCA_FQ_FLOW_MAX_RATE: u16 = 7;
    const TCA_CAKE_BASE_RATE64: u16 = 2;
    let [fq, cake] = attributes(options, 0, [TCA_FQ_FLOW_MAX_RATE, TCA_CAKE_BASE_RATE64]);
    match kind {
        b"fq" => fq.and_then(|rate| parse_u32(rate).ok()).is_some_and(|rate| rate != u32::MAX),
        b"cake" => cake.and_then(|rate| parse_u64(rate).ok()).is_some_and(|rate| rate != 0),
        _ => false,
    }
}

/// The interface index, and the bytes of the largest batch including the headers of each datagram,
/// from a message about a token bucket filter; `None` for every other discipline.
pub(super) fn read(message: &[u8]) -> Option<(u32, u32)> {
    let ifindex = parse_u32(message.get(4..8)?).ok()?;
    let [kind, options] = attributes(message, HEADER_BYTES, [libc::TCA_KIND, libc::TCA_OPTIONS]);
    if kind != Some(b"tbf\0") {
        return None;
    }
    let kinds = [TBF_PARMS, TBF_RATE64, TBF_PRATE64];
    let [parameters, rate64, peak64] = attributes(options?, 0, kinds);
    // `struct tc_tbf_qopt`: rate and peak rate (`struct tc_ratespec`: 8 bytes, then bytes/s), the
    // queue limit in bytes, and the times of a burst at the rate and at the peak rate.
    let word = |at: usize| parse_u32(parameters?.get(at..at + 4)?).ok();
    let rate_of = |rate64: Option<&[u8]>, at| match rate64 {
        Some(rate) => parse_u64(rate).ok(),
        None => word(at).map(u64::from),
    };
    let burst = bytes_in(word(28)?, rate_of(rate64, 8)?);
    let peak_burst = match rate_of(peak64, 20)? {
        0 => u32::MAX,
        peak => bytes_in(word(32)?, peak),
    };
    Some((ifindex, burst.min(peak_burst).min(word(24)?)))
}

/// The bytes that pass in this number of ticks at this rate.
fn bytes_in(ticks: u32, rate: u64) -> u32 {
    const NS_PER_S: u128 = 1_000_000_000;
    let bytes = u128::from(ticks) * u128::from(TICK_NS) * u128::from(rate) / NS_PER_S;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::query::attribute;
    use super::*;

    /// The kernel of a test machine may lack these disciplines.
    #[test]
    fn a_rate_is_seen_where_it_is_optional() {
        let of = |kind: &[u8], options: Vec<u8>| {
            let mut message = vec![0; HEADER_BYTES];
            message[8..12].copy_from_slice(&0x8001_0000_u32.to_ne_bytes());
            message.extend(attribute(libc::TCA_KIND, &[kind, b"\0"].concat()));
            message.extend(attribute(libc::TCA_OPTIONS, &options));
            let found = read_kind(&message).unwrap();
            assert_eq!((found.kind.as_bytes(), found.handle), (kind, 0x8001_0000));
            found.has_rate
        };
        let fq = |rate: u32| of(b"fq", attribute(7, &rate.to_ne_bytes()));
        assert!(!fq(u32::MAX) && fq(125_000));
        let cake = |rate: u64| of(b"cake", attribute(2, &rate.to_ne_bytes()));
        assert!(!cake(0) && cake(125_000));
        assert!(!of(b"pfifo", vec![]));
    }
}
