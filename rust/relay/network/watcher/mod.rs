//! The thread that follows the network: it sleeps until the kernel notifies of a change, waits until
//! a burst of notifications has passed, and then makes the relay follow.

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

/// The time without a message after which a burst has passed: an interface that is recreated causes
/// several messages.
const QUIET: Duration = Duration::from_millis(20);
/// The longest wait for the end of a burst.
const FLOOD: Duration = Duration::from_millis(200);
/// The interval of retries for what the kernel does not notify of: memory, a limit.
const RETRY: Duration = Duration::from_secs(1);
/// The same for a pause of a stream.
#[cfg(feature = "offload")]
const MOMENT: Duration = Duration::from_millis(20);

/// The next step after the relay has followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) enum NextStep {
    /// Wait: the kernel will notify of anything relevant.
    Wait,
    /// Try again later: something failed, and the kernel will not notify when it may succeed.
    Retry,
    /// Try again in a moment: a stream may pause.
    #[cfg(feature = "offload")]
    RetrySoon,
    /// End: the relay was dropped or stopped.
    End,
}

/// Watches the interfaces and routes of a relay, and owns the thread that follows them.
pub(in crate::relay) struct NetworkWatcher {
    watch: Arc<Watch>,
    routes: Arc<RouteTracker>,
    wake: Arc<EventFd>,
    /// The thread itself never locks it, so that a forked process can drop the relay.
    thread: Mutex<Option<Thread>>,
    /// The process that owns the thread; a fork copies this value, but no thread.
    process: u32,
}

struct Thread {
    /// Ends the thread. `wake` only makes it check, since a forked process can write to that too.
    end: Arc<AtomicBool>,
    handle: JoinHandle<()>,
}

impl NetworkWatcher {
    /// Opens the netlink sockets in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel refuses a socket or does not answer.
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

    /// Starts the thread, which first handles earlier changes. It inherits network namespace and
    /// privileges of the calling thread. It is started together with the engines, and not earlier,
    /// since a process gives up its privileges while it has a single thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(in crate::relay) fn start(
        &self,
        follow: impl FnMut() -> NextStep + Send + 'static,
    ) -> Result<()> {
        let (watch, routes, wake) = (self.watch.clone(), self.routes.clone(), self.wake.clone());
        let end = Arc::new(AtomicBool::new(false));
        let follower = Follower { watch, routes, wake, end: end.clone() };
        let run = move || {
            // Signals belong to the threads of the program that uses this library.
            SigSet::all().thread_block().ok();
            follower.run(follow);
        };
        let handle = thread::Builder::new().name("mcr-links".to_owned()).spawn(run);
        let handle = handle.map_err(|e| Error::os("starting a thread", "the links", e))?;
        *self.thread() = Some(Thread { end, handle });
        Ok(())
    }

    /// Makes the thread check for changes.
    pub(in crate::relay) fn wake(&self) {
        self.wake.write(1).ok();
    }

    /// Ends the thread and waits for it. In a forked child it only forgets the thread, which belongs
    /// to the parent.
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
            thread.end.store(true, Ordering::Release);
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
            let timeout = match next {
                NextStep::Retry => Some(RETRY),
                #[cfg(feature = "offload")]
                NextStep::RetrySoon => Some(MOMENT),
                NextStep::Wait | NextStep::End => None,
            };
            if next == NextStep::End || !self.wait(timeout) {
                return;
            }
        }
    }

    /// Waits for changes and for the end of their burst, or until `timeout` expires; returns false
    /// if the thread is to end.
    fn wait(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
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
            // Once an update of the routes is due, further notifications of this kind do not matter.
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

    /// Sleeps until the kernel sends a message, `wake` is written, or `left` has passed. Returns
    /// false if `left` has passed, `None` if the thread is to end.
    fn sleep(&self, left: Option<Duration>, sources: WakeSources) -> Option<bool> {
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            // Rounded up, lest the thread spin during the last millisecond.
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let routes = self.routes.descriptors().filter(|_| sources == WakeSources::All);
        let all = [self.watch.as_fd(), self.wake.as_fd()].into_iter().chain(routes);
        let mut all: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let ready = match poll(&mut all, timeout) {
            Ok(ready) => ready > 0,
            Err(Errno::EINTR) => true,
            Err(_) => return None,
        };
        if sources == WakeSources::All {
            self.routes.receive();
        }
        // WouldBlock if another descriptor was ready.
        self.wake.read().ok();
        (self.watch.follow() && !self.end.load(Ordering::Acquire)).then_some(ready)
    }
}

/// The sources that wake the thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WakeSources {
    /// Links, addresses and `wake`.
    Links,
    /// The same, and routes, neighbours, queueing disciplines and memberships.
    All,
}

#[cfg(test)]
mod tests;
