//! Which of the outputs' interfaces have a carrier: without one the kernel loses what is sent
//! and reports success. One flag for each interface, which the engines look at; one thread,
//! which sleeps until the kernel tells of a change. It must not know rules.
//!
//! The kernel is asked for the interfaces of outputs only, never for the whole list: what that
//! costs does not grow with the host's links, and there is no list that can change while it is
//! read. What the kernel had no room to tell (ENOBUFS) is asked for anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;

use crate::error::{Error, Result};
use crate::open::links::{self, Link, LinkSocket};

/// Whether an interface has a carrier, now.
pub(super) type Carrier = Arc<AtomicBool>;

/// Questions in a row without any word of the kernel. It answers before the question returns.
const UNANSWERED: usize = 8;

/// The links that the outputs of a relay leave by.
pub(super) struct Links {
    /// The thread never locks it: so a process that is forked meanwhile can drop the relay.
    life: Mutex<Life>,
    /// The process that the thread belongs to; a fork copies this value, but no thread.
    process: u32,
}

#[derive(Default)]
struct Life {
    phase: Phase,
    /// From the first output with an interface on.
    watch: Option<Arc<Watch>>,
    thread: Option<Thread>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// No thread yet: the process may still have to give up rights, which takes a single thread.
    #[default]
    Prepared,
    Running,
    Stopped,
}

struct Thread {
    /// What the thread believes; `wake` only makes it look, since a forked process can write it.
    ends: Arc<AtomicBool>,
    wake: Arc<EventFd>,
    handle: JoinHandle<()>,
}

impl Links {
    pub(super) fn new() -> Self {
        Self { life: Mutex::default(), process: std::process::id() }
    }

    /// The flag of an interface, true to this moment, and from the start on kept so. `None` when
    /// the links cannot be watched any more.
    ///
    /// # Errors
    /// What the kernel refuses: a socket, an answer, a thread.
    pub(super) fn carrier(&self, index: u32) -> Result<Option<Carrier>> {
        let mut life = self.life();
        let watch = match &life.watch {
            Some(watch) => watch.clone(),
            None => Arc::new(Watch::open()?),
        };
        life.watch = Some(watch.clone());
        life.spawn_when_due()?;
        watch.carrier(index)
    }

    /// Begins to follow the changes.
    pub(super) fn start(&self) -> Result<()> {
        let mut life = self.life();
        if life.phase == Phase::Prepared {
            life.phase = Phase::Running;
        }
        life.spawn_when_due()
    }

    /// Ends the thread and waits for it. In a forked child it only forgets it: it is the parent's.
    pub(super) fn stop(&self) {
        if std::process::id() != self.process {
            // Another thread of the parent may have held the lock during the fork.
            if let Ok(mut life) = self.life.try_lock() {
                std::mem::forget(life.thread.take());
            }
            return;
        }
        let mut life = self.life();
        life.phase = Phase::Stopped;
        life.watch = None;
        let thread = life.thread.take();
        drop(life);
        if let Some(thread) = thread {
            thread.ends.store(true, Ordering::Release);
            thread.wake.write(1).ok();
            drop(thread.handle.join());
        }
    }

    /// Why the links cannot be watched any more.
    pub(super) fn failure(&self) -> Option<String> {
        let watch = self.life().watch.clone();
        watch.and_then(|watch| watch.known().failure.clone())
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Life {
    fn spawn_when_due(&mut self) -> Result<()> {
        let Some(watch) = &self.watch else { return Ok(()) };
        if self.phase != Phase::Running || self.thread.is_some() {
            return Ok(());
        }
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_flags(flags).map_err(|e| Error::os("eventfd", "the links", e))?;
        let (wake, ends) = (Arc::new(wake), Arc::new(AtomicBool::new(false)));
        let (watch, waker, end) = (watch.clone(), wake.clone(), ends.clone());
        let run = move || {
            // Signals are for the threads of the program that this library is part of.
            SigSet::all().thread_block().ok();
            watch.follow(&waker, &end);
        };
        let handle = thread::Builder::new().name("mcr-links".to_owned()).spawn(run);
        let handle = handle.map_err(|e| Error::os("starting a thread", "the links", e))?;
        self.thread = Some(Thread { ends, wake, handle });
        Ok(())
    }
}

/// The kernel's word on the links, and what has been made of it.
struct Watch {
    socket: LinkSocket,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    carriers: BTreeMap<u32, Carrier>,
    /// The interfaces that the kernel has to be asked for.
    unsure: BTreeSet<u32>,
    failure: Option<String>,
}

impl Watch {
    fn open() -> Result<Self> {
        Ok(Self { socket: LinkSocket::open()?, known: Mutex::default() })
    }

    fn carrier(&self, index: u32) -> Result<Option<Carrier>> {
        let mut known = self.known();
        if known.failure.is_some() {
            return Ok(None);
        }
        known.forget_unused();
        let carrier = known.carrier(index);
        let caught_up = self.catch_up(&mut known);
        caught_up.map_err(|e| Error::os("asking for the carrier", "an output's interface", e))?;
        Ok(Some(carrier))
    }

    /// Keeps the flags true until `ends` is.
    fn follow(&self, wake: &EventFd, ends: &AtomicBool) {
        while !ends.load(Ordering::Acquire) {
            let followed = self.sleep(wake).and_then(|()| self.catch_up(&mut self.known()));
            if let Err(error) = followed {
                return self.known().give_up(&error);
            }
        }
    }

    /// Until the kernel tells something or `wake` is written.
    fn sleep(&self, wake: &EventFd) -> io::Result<()> {
        let events = PollFlags::POLLIN;
        let mut both = [self.socket.as_fd(), wake.as_fd()].map(|fd| PollFd::new(fd, events));
        match poll(&mut both, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // WouldBlock: it was not this one.
        wake.read().ok();
        Ok(())
    }

    /// Takes all that the kernel has told, and asks for what is unsure. Never waits.
    fn catch_up(&self, known: &mut Known) -> io::Result<()> {
        let mut bytes = [0; links::MESSAGE_BYTES];
        let mut unanswered = 0;
        loop {
            match self.socket.hear(&mut bytes) {
                Ok(piece) => {
                    unanswered = 0;
                    links::read(piece, |link| known.take(link))?;
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => known.doubt_all(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let Some(&index) = known.unsure.first() else { return Ok(()) };
                    if unanswered == UNANSWERED {
                        return Err(ErrorKind::TimedOut.into());
                    }
                    unanswered += 1;
                    self.socket.ask(index)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The flag of an interface; of one that is new, the kernel has to be asked.
    fn carrier(&mut self, index: u32) -> Carrier {
        let Self { carriers, unsure, .. } = self;
        let new = || {
            unsure.insert(index);
            Carrier::default()
        };
        carriers.entry(index).or_insert_with(new).clone()
    }

    fn take(&mut self, link: Link) {
        self.unsure.remove(&link.index);
        if let Some(carrier) = self.carriers.get(&link.index) {
            carrier.store(link.carrier, Ordering::Relaxed);
        }
    }

    fn doubt_all(&mut self) {
        self.unsure.extend(self.carriers.keys());
    }

    /// Drops the flags that no output looks at.
    fn forget_unused(&mut self) {
        let Self { carriers, unsure, .. } = self;
        carriers.retain(|_, carrier| Arc::strong_count(carrier) > 1);
        unsure.retain(|index| carriers.contains_key(index));
    }

    /// Rather lose copies unseen than keep back what could be sent.
    fn give_up(&mut self, error: &io::Error) {
        for carrier in self.carriers.values() {
            carrier.store(true, Ordering::Relaxed);
        }
        self.failure = Some(format!(
            "the links cannot be watched any more ({error}): copies to one without carrier are \
             lost and counted as sent"
        ));
    }
}

#[cfg(test)]
mod tests;
