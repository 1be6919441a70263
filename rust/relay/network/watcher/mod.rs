//! The thread that follows the interfaces: it sleeps until the kernel tells of a change, lets a
//! flood of changes pass, and then makes the relay follow. It must not know what that means.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;

use super::routes::RouteTracker;
use super::watch::Watch;
use crate::error::{Error, Result};

/// An interface that is made anew tells of it in several messages: this long after the last one
/// the relay follows.
const QUIET: Duration = Duration::from_millis(20);
/// It follows at least this often while the messages do not end.
const FLOOD: Duration = Duration::from_millis(200);
/// How often it tries again what no message will tell of: memory, a limit.
const RETRY: Duration = Duration::from_secs(1);

/// What the relay says after it has followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) enum NextStep {
    /// The kernel will tell of whatever is missing.
    Wait,
    /// Something failed that may go well later, and nobody will tell.
    Retry,
    /// The relay is gone.
    End,
}

/// The interfaces that a relay follows.
pub(in crate::relay) struct NetworkWatcher {
    watch: Arc<Watch>,
    routes: Arc<RouteTracker>,
    wake: Arc<EventFd>,
    /// The thread never locks it: so a process that is forked meanwhile can drop the relay.
    thread: Mutex<Option<Thread>>,
    /// The process that the thread belongs to; a fork copies this value, but no thread.
    process: u32,
}

struct Thread {
    /// What the thread believes; `wake` only makes it look, since a forked process can write it.
    ends: Arc<AtomicBool>,
    handle: JoinHandle<()>,
}

impl NetworkWatcher {
    /// Of the calling thread's network namespace.
    ///
    /// # Errors
    /// What the kernel refuses: a socket, an answer.
    pub(in crate::relay) fn new() -> Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_flags(flags).map_err(|e| Error::os("eventfd", "the links", e))?;
        Ok(Self {
            watch: Arc::new(Watch::open()?),
            routes: Arc::new(RouteTracker::open()?),
            wake: Arc::new(wake),
            thread: Mutex::default(),
            process: std::process::id(),
        })
    }

    pub(in crate::relay) fn watch(&self) -> &Watch {
        &self.watch
    }

    pub(in crate::relay) fn routes(&self) -> &RouteTracker {
        &self.routes
    }

    /// Begins to follow the changes, with those of before: not sooner than the engines, since
    /// rights are given up in a process with one thread. The thread is in the network namespace
    /// and has the rights of the calling one.
    pub(in crate::relay) fn start(
        &self,
        follow: impl FnMut() -> NextStep + Send + 'static,
    ) -> Result<()> {
        let (watch, routes, wake) = (self.watch.clone(), self.routes.clone(), self.wake.clone());
        let ends = Arc::new(AtomicBool::new(false));
        let end = ends.clone();
        let run = move || {
            // Signals are for the threads of the program that this library is part of.
            SigSet::all().thread_block().ok();
            Follower { watch, routes, wake, end }.run(follow);
        };
        let handle = thread::Builder::new().name("mcr-links".to_owned()).spawn(run);
        let handle = handle.map_err(|e| Error::os("starting a thread", "the links", e))?;
        *self.thread() = Some(Thread { ends, handle });
        Ok(())
    }

    /// Lets the thread look whether there is news.
    pub(in crate::relay) fn wake(&self) {
        self.wake.write(1).ok();
    }

    /// Ends the thread and waits for it. In a forked child it only forgets it: it is the parent's.
    pub(in crate::relay) fn stop(&self) {
        if std::process::id() != self.process {
            // Another thread of the parent may have held the lock during the fork.
            if let Ok(mut thread) = self.thread.try_lock() {
                std::mem::forget(thread.take());
            }
            return;
        }
        let thread = self.thread().take();
        if let Some(thread) = thread {
            thread.ends.store(true, Ordering::Release);
            self.wake();
            drop(thread.handle.join());
        }
    }

    fn thread(&self) -> MutexGuard<'_, Option<Thread>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Follower {
    watch: Arc<Watch>,
    routes: Arc<RouteTracker>,
    wake: Arc<EventFd>,
    end: Arc<AtomicBool>,
}

impl Follower {
    fn run(self, mut follow: impl FnMut() -> NextStep) {
        loop {
            let next = follow();
            let patience = if next == NextStep::Retry { Some(RETRY) } else { None };
            if next == NextStep::End || !self.wait(patience) {
                return;
            }
        }
    }

    /// Until there is news and the flood of it is over, or the time is; false at the end.
    fn wait(&self, patience: Option<Duration>) -> bool {
        let deadline = patience.map(|patience| Instant::now() + patience);
        while !self.watch.has_changes() {
            let due_at = self.routes.due_at();
            let until = [deadline, due_at].into_iter().flatten().min();
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return true;
            }
            if due_at.is_some_and(|due_at| now >= due_at) {
                break;
            }
            // While something waits to be looked at, more of it is none of our business.
            let sources = if due_at.is_none() { WakeSources::All } else { WakeSources::Links };
            if self.sleep(until.map(|at| at.saturating_duration_since(now)), sources).is_none() {
                return false;
            }
        }
        let start = Instant::now();
        while start.elapsed() < FLOOD {
            match self.sleep(Some(QUIET), WakeSources::Links) {
                Some(true) => {}
                Some(false) => return true,
                None => return false,
            }
        }
        true
    }

    /// Until the kernel tells something, `wake` is written or the time is over; whether it is not
    /// over, and `None` at the end.
    fn sleep(&self, left: Option<Duration>, sources: WakeSources) -> Option<bool> {
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            // Rounded up, lest the last millisecond be spent in a loop.
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let all = [self.watch.as_fd(), self.wake.as_fd(), self.routes.as_fd()];
        let mut all = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let count = if sources == WakeSources::All { all.len() } else { all.len() - 1 };
        let ready = match poll(&mut all[..count], timeout) {
            Ok(ready) => ready > 0,
            Err(Errno::EINTR) => true,
            Err(_) => return None,
        };
        if sources == WakeSources::All {
            self.routes.receive();
        }
        // WouldBlock: it was not this one.
        self.wake.read().ok();
        (self.watch.follow() && !self.end.load(Ordering::Acquire)).then_some(ready)
    }
}

/// What wakes the thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WakeSources {
    /// Links and addresses, and whoever wakes it.
    Links,
    /// The same, and routes, neighbours and queueing disciplines.
    All,
}

#[cfg(test)]
mod tests;
