//! Even spacing: each datagram has a deadline that does not depend on when the last one left, so
//! that lateness never adds up. And waiting, in slices, so that a stop is noticed. This file must
//! not know what is sent.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::sched;

/// The last stretch before a deadline is waited out on the CPU: a sleep ends this late at times.
const SPIN: Duration = Duration::from_micros(60);

/// Who waits looks this often whether it shall stop.
const SLICE: Duration = Duration::from_millis(50);

/// Deadlines at a fixed rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    start: Instant,
    rate_pps: f64,
}

impl Pace {
    pub(super) fn new(start: Instant, rate_pps: f64) -> Self {
        Self { start, rate_pps }
    }

    /// When datagram `number` is due; none if that is beyond any clock.
    pub(super) fn deadline(&self, number: u64) -> Option<Instant> {
        let after = Duration::try_from_secs_f64(number as f64 / self.rate_pps).ok()?;
        self.start.checked_add(after)
    }
}

/// Asks the kernel to wake the calling thread in time: its sleeps end when they are over and not
/// up to 50 us later, and other threads yield to it. They yield at once while it waits on the CPU
/// for at most a quarter of the time, and beyond that as to an ordinary thread of top priority,
/// so that it does not shut them out. Yielding needs CAP_SYS_NICE.
/// What is refused makes the pace less even on a busy host, and nothing worse.
pub(super) fn be_prompt(rate_pps: f64) {
    let _ = nix::sys::prctl::set_timerslack(1);
    let rests = SPIN.as_secs_f64() * rate_pps <= 0.25;
    let _ = if rests { sched::go_first() } else { sched::go_often() };
}

/// Waits until `deadline` (none: for ever); false if `stop` came first.
pub(super) fn wait_until(deadline: Option<Instant>, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        let left = deadline
            .map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return true;
        }
        match left.checked_sub(SPIN) {
            Some(nap) if !nap.is_zero() => thread::sleep(nap.min(SLICE)),
            _ => std::hint::spin_loop(),
        }
    }
    false
}

/// Waits until the socket is ready, `end` has come, or a slice is over, whichever is first.
pub(super) fn wait_ready(fd: BorrowedFd<'_>, events: PollFlags, end: Option<Instant>) {
    let left = end.map_or(SLICE, |end| end.saturating_duration_since(Instant::now()).min(SLICE));
    // Up to a millisecond too long rather than a busy loop for what is left of one.
    let ms = u16::try_from(left.as_millis()).unwrap_or(0) + 1;
    // Whatever poll says, the caller tries again and looks at the clock.
    let _ = poll(&mut [PollFd::new(fd, events)], PollTimeout::from(ms));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_do_not_drift() {
        let start = Instant::now();
        let pace = Pace::new(start, 3.0);
        let after = |number| pace.deadline(number).unwrap() - start;
        assert_eq!(after(0), Duration::ZERO);
        assert_eq!(after(3_000_000), Duration::from_secs(1_000_000));
        assert_eq!(Pace::new(start, 1e-300).deadline(1), None);
    }

    #[test]
    fn a_wait_ends_at_its_deadline_or_when_stopped() {
        let stop = AtomicBool::new(false);
        let deadline = Instant::now() + Duration::from_millis(2);
        assert!(wait_until(Some(deadline), &stop));
        assert!(Instant::now() >= deadline);
        stop.store(true, Ordering::Relaxed);
        assert!(!wait_until(None, &stop));
    }
}
