//! The routes of copies, and when to query them again: at once after a change, but at a limited
//! rate while changes continue. This module must not depend on outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::error::Result;
use crate::sockets::netlink::group_notices::GroupNoticeSocket;
use crate::sockets::netlink::neighbours::{Neighbour, NeighbourTable};
use crate::sockets::netlink::notices::{NoticeSocket, Notices};
use crate::sockets::netlink::routes::{Route, RouteSocket};
use crate::spec::OutputSpec;

/// The shortest time between two updates: a routing table may change continuously.
const PAUSE: Duration = Duration::from_millis(100);
/// Updates take at most one part in this many of a CPU's time.
const SHARE: u32 = 20;

/// The routes of the network namespace of the thread that opens it.
pub(in crate::relay) struct RouteTracker {
    notices: NoticeSocket,
    /// `None` if the kernel does not report memberships.
    group_notices: Option<GroupNoticeSocket>,
    neighbours: NeighbourTable,
    state: Mutex<RouteState>,
}

struct RouteState {
    queries: RouteSocket,
    /// For each interface whose queueing discipline limits batches, the limit in bytes.
    bursts: BTreeMap<u32, u32>,
    /// The changes since the last update.
    due: Notices,
    /// The indexes of the interfaces whose memberships matter.
    member_interfaces: BTreeSet<u32>,
    /// The earliest time of the next update.
    not_before: Instant,
}

impl RouteTracker {
    /// Opens the netlink sockets in the thread's network namespace.
    ///
    /// # Errors
    /// This process cannot use netlink.
    pub(in crate::relay) fn open() -> Result<Self> {
        let (notices, group_notices) = (NoticeSocket::open()?, GroupNoticeSocket::open()?);
        let queries = RouteSocket::open()?;
        let bursts = queries.bursts().unwrap_or_default();
        let (due, not_before) = (Notices::default(), Instant::now());
        let member_interfaces = BTreeSet::new();
        let state = RouteState { queries, bursts, due, member_interfaces, not_before };
        let state = Mutex::new(state);
        Ok(Self { notices, group_notices, neighbours: NeighbourTable::open()?, state })
    }

    /// Reads the kernel's notifications.
    pub(in crate::relay) fn receive(&self) {
        let mut state = self.state();
        state.due = state.due.or(self.take_notices(&state));
    }

    /// Sets the interfaces, by index, whose memberships matter.
    pub(in crate::relay) fn watch_memberships(&self, interfaces: BTreeSet<u32>) {
        self.state().member_interfaces = interfaces;
    }

    /// When the next update is due, if anything has changed.
    pub(in crate::relay) fn due_at(&self) -> Option<Instant> {
        let state = self.state();
        state.due.any().then_some(state.not_before)
    }

    /// Calls `update` with the changes since the last update, or with none if the next one is not
    /// due yet. `has_link_changes` says that links or addresses have changed, which affects routes.
    pub(in crate::relay) fn update<T>(
        &self,
        has_link_changes: bool,
        update: impl FnOnce(Notices) -> T,
    ) -> T {
        let (start, used) = (Instant::now(), thread_cpu_time());
        let changed = self.take_due(has_link_changes, start);
        let result = update(changed);
        if changed.any() {
            let took = thread_cpu_time().saturating_sub(used);
            self.state().not_before = start + PAUSE.max(SHARE * took);
        }
        result
    }

    fn take_due(&self, has_link_changes: bool, now: Instant) -> Notices {
        let mut state = self.state();
        let notices = self.take_notices(&state);
        state.due = state.due.or(notices).or(Notices { routes: has_link_changes, ..notices });
        if now < state.not_before {
            return Notices::default();
        }
        let changed = std::mem::take(&mut state.due);
        // The kernel does not notify about the disciplines of an interface that is removed.
        if changed.disciplines || has_link_changes {
            state.bursts = state.queries.bursts().unwrap_or_default();
        }
        changed
    }

    fn take_notices(&self, state: &RouteState) -> Notices {
        let is_relevant = |ifindex| state.member_interfaces.contains(&ifindex);
        let memberships = self.group_notices.as_ref().is_some_and(|it| it.take(is_relevant));
        let neighbours = self.neighbours.receive();
        Notices { memberships, neighbours, ..self.notices.take() }
    }

    /// The descriptors that are readable when something has changed.
    pub(in crate::relay) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let groups = self.group_notices.as_ref().map(AsFd::as_fd);
        [self.notices.as_fd(), self.neighbours.as_fd()].into_iter().chain(groups)
    }

    /// The current route of an output; `None` if there is none.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(in crate::relay) fn find(&self, spec: &OutputSpec) -> io::Result<Option<Route>> {
        self.state().queries.find(spec)
    }

    /// The neighbour that receives the datagrams of a route; it is followed from now on, which
    /// [`Notices::neighbours`] reports.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(in crate::relay) fn neighbour(&self, route: &Route) -> io::Result<Neighbour> {
        self.neighbours.find(route.hop())
    }

    /// The same, asked for again: the kernel does not report that it uses a neighbour again.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(in crate::relay) fn refresh_neighbour(&self, route: &Route) -> io::Result<Neighbour> {
        self.neighbours.refresh(route.hop())
    }

    /// Ends following the neighbours that were not asked for since the last call.
    pub(in crate::relay) fn forget_unused_neighbours(&self) {
        self.neighbours.forget_unused();
    }

    /// The size in bytes, including the headers of each datagram, of the largest batch that passes
    /// all of these interfaces in one piece; `None` if none of them splits batches.
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

/// The CPU time of the calling thread: unlike elapsed time, it does not depend on other load.
fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
