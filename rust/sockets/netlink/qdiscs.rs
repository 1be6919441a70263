//! The largest batch that a token bucket filter passes in one piece (tc-tbf(8)). It splits a larger
//! one into its datagrams, and reports that it took all even if it took only one
//! (net/sched/sch_tbf.c, `tbf_segment`).

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
