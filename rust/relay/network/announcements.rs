//! Schedules reports of an interface's IPv4 memberships, after a new path to its network was opened
//! on which a switch may not know them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// At once; again, since one message may be lost (RFC 3376, 8.1); and once more after a port of a
/// switch with spanning tree has begun to forward, which takes 30 s, in which it receives nothing
/// (IEEE 802.1D, 17.14).
const TIMES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(35)];

/// The pending reports, by the index of the interface.
#[derive(Default)]
pub(in crate::relay) struct Announcements {
    schedules: BTreeMap<u32, Schedule>,
}

struct Schedule {
    start: Instant,
    sent: usize,
}

impl Announcements {
    /// Starts or restarts the schedule of an interface.
    pub(in crate::relay) fn start(&mut self, ifindex: u32, now: Instant) {
        self.schedules.insert(ifindex, Schedule { start: now, sent: 0 });
    }

    /// Whether reports are still to be sent.
    pub(in crate::relay) fn has_pending(&self) -> bool {
        !self.schedules.is_empty()
    }

    /// The interfaces whose next report is due; each due report is returned once.
    pub(in crate::relay) fn take_due_interfaces(&mut self, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        self.schedules.retain(|&ifindex, schedule| {
            let Some(&time) = TIMES.get(schedule.sent) else { return false };
            if now.duration_since(schedule.start) >= time {
                due.push(ifindex);
                schedule.sent += 1;
            }
            schedule.sent < TIMES.len()
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_reported_three_times_and_a_restart_begins_again() {
        let start = Instant::now();
        let mut announcements = Announcements::default();
        let mut announced = Vec::new();
        let mut at = |announcements: &mut Announcements, seconds: u64| {
            let due = announcements.take_due_interfaces(start + Duration::from_secs(seconds));
            announced.extend(due.iter().map(|_| seconds));
        };
        announcements.start(3, start);
        (0..20).for_each(|seconds| at(&mut announcements, seconds));
        announcements.start(3, start + Duration::from_secs(20));
        assert!(announcements.has_pending());
        (20..80).for_each(|seconds| at(&mut announcements, seconds));
        assert!(!announcements.has_pending());
        assert_eq!(announced, [0, 1, 20, 21, 55]);
    }
}
