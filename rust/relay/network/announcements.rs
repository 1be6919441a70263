//! When the IPv4 memberships of an interface are told to its network again, after a way to it was
//! opened that may lead to a switch which knows nothing of them. It must not know how.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// At once; again, as one message may be lost (RFC 3376, 8.1); and once more when a port of a
/// switch with spanning tree forwards, which takes it 30 s and it hears nothing before
/// (IEEE 802.1D, 17.14).
const TIMES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(35)];

/// What is still to be told, by the index of the interface.
#[derive(Default)]
pub(in crate::relay) struct Announcements {
    left: BTreeMap<u32, Left>,
}

struct Left {
    since: Instant,
    told: usize,
}

impl Announcements {
    /// Has an interface told from now on, whatever was told of it before.
    pub(in crate::relay) fn begin(&mut self, ifindex: u32, now: Instant) {
        self.left.insert(ifindex, Left { since: now, told: 0 });
    }

    /// Whether something is to be told later.
    pub(in crate::relay) fn are_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// The interfaces whose time has come.
    pub(in crate::relay) fn take_due(&mut self, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        self.left.retain(|&ifindex, left| {
            let Some(&time) = TIMES.get(left.told) else { return false };
            if now.duration_since(left.since) >= time {
                due.push(ifindex);
                left.told += 1;
            }
            left.told < TIMES.len()
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_told_three_times_and_anew_from_the_beginning() {
        let start = Instant::now();
        let mut announcements = Announcements::default();
        let mut told = Vec::new();
        let mut at = |announcements: &mut Announcements, seconds: u64| {
            let due = announcements.take_due(start + Duration::from_secs(seconds));
            told.extend(due.iter().map(|_| seconds));
        };
        announcements.begin(3, start);
        (0..20).for_each(|seconds| at(&mut announcements, seconds));
        announcements.begin(3, start + Duration::from_secs(20));
        assert!(announcements.are_left());
        (20..80).for_each(|seconds| at(&mut announcements, seconds));
        assert!(!announcements.are_left());
        assert_eq!(told, [0, 1, 20, 21, 55]);
    }
}
