//! What the relay knows of the ways that its copies take, and when it is to ask again: at once
//! when something has changed, but not all the time while changes do not end. It must not know
//! outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::error::Result;
use crate::sockets::netlink::notices::{NoticeSocket, Notices};
use crate::sockets::netlink::routes::{Neighbour, Route, RouteSocket};
use crate::spec::OutputSpec;

/// The least time between two looks: a routing table may change all the time.
const PAUSE: Duration = Duration::from_millis(100);
/// Looking takes at most one part in so many of a processor's time.
const SHARE: u32 = 20;

/// What is known of the ways in a network namespace: that of the thread that opens it.
pub(in crate::relay) struct RouteTracker {
    notices: NoticeSocket,
    state: Mutex<RouteState>,
}

struct RouteState {
    queries: RouteSocket,
    bursts: BTreeMap<u32, u32>,
    /// What has changed and was not looked at.
    due: Notices,
    /// Until then nothing is looked at.
    not_before: Instant,
}

impl RouteTracker {
    /// # Errors
    /// No netlink in this process.
    pub(in crate::relay) fn open() -> Result<Self> {
        let notices = NoticeSocket::open()?;
        let queries = RouteSocket::open()?;
        let bursts = queries.bursts().unwrap_or_default();
        let (due, not_before) = (Notices::default(), Instant::now());
        Ok(Self { notices, state: Mutex::new(RouteState { queries, bursts, due, not_before }) })
    }

    /// Takes in what the kernel has told.
    pub(in crate::relay) fn receive(&self) {
        let mut state = self.state();
        state.due = state.due.or(self.notices.take());
    }

    /// When to look, if anything has changed.
    pub(in crate::relay) fn due_at(&self) -> Option<Instant> {
        let state = self.state();
        state.due.any().then_some(state.not_before)
    }

    /// Looks with `look`, if anything has changed and it is time; `has_changes` says that links or
    /// addresses have, which decide on routes too.
    pub(in crate::relay) fn look<T>(
        &self,
        has_changes: bool,
        look: impl FnOnce(Notices) -> T,
    ) -> T {
        let (start, used) = (Instant::now(), thread_cpu_time());
        let changed = self.begin(has_changes, start);
        let seen = look(changed);
        if changed.any() {
            let took = thread_cpu_time().saturating_sub(used);
            self.state().not_before = start + PAUSE.max(SHARE * took);
        }
        seen
    }

    fn begin(&self, has_changes: bool, now: Instant) -> Notices {
        let mut state = self.state();
        let notices = self.notices.take();
        state.due = state.due.or(notices).or(Notices { routes: has_changes, ..notices });
        if now < state.not_before {
            return Notices::default();
        }
        let changed = std::mem::take(&mut state.due);
        // With an interface go its disciplines, and nobody says so.
        if changed.disciplines || has_changes {
            state.bursts = state.queries.bursts().unwrap_or_default();
        }
        changed
    }

    /// The way of an output now; `None` when there is none.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(in crate::relay) fn find(&self, spec: &OutputSpec) -> io::Result<Option<Route>> {
        self.state().queries.find(spec)
    }

    /// Whether the kernel has to look for the host that copies are handed to: it does not know the
    /// host, or, if that counts, has looked in vain.
    pub(in crate::relay) fn needs_resolution(&self, route: &Route, after_failure: bool) -> bool {
        route.is_to_a_host
            && self.state().queries.neighbour(route).is_ok_and(|it| match it {
                Neighbour::Unknown => true,
                Neighbour::Failed => after_failure,
                Neighbour::Stale | Neighbour::Known => false,
            })
    }

    /// The bytes of the largest batch that passes all of these interfaces whole, with the headers
    /// of each datagram, where something would cut a larger one.
    pub(in crate::relay) fn burst(&self, path: impl FnOnce() -> BTreeSet<u32>) -> Option<u32> {
        let state = self.state();
        if state.bursts.is_empty() {
            return None;
        }
        path().iter().filter_map(|ifindex| state.bursts.get(ifindex)).min().copied()
    }

    fn state(&self) -> MutexGuard<'_, RouteState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the calling thread has had of processors: a busy host makes no look longer.
fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

impl AsFd for RouteTracker {
    /// Readable when something has changed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notices.as_fd()
    }
}
