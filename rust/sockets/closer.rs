//! Background threads that close AF_PACKET sockets. Each close waits some ten milliseconds in the
//! kernel, until no processor looks at the socket any more (net/packet/af_packet.c,
//! `packet_release`), so many threads wait in parallel.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sys::signal::SigSet;

/// Sockets closed in parallel; at this number, closing 600 takes about half a second.
const MOST_THREADS: usize = 64;
/// Stack size for a thread that only calls `close`.
const STACK_BYTES: usize = 64 * 1024;

/// Closes sockets that are no longer used.
#[derive(Clone, Debug, Default)]
pub struct Closer {
    shared: Arc<CloserState>,
}

#[derive(Debug, Default)]
struct CloserState {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<OwnedFd>,
    /// The number of running threads; each ends when the queue is empty.
    threads: usize,
}

impl Closer {
    /// Queues a socket for closing and returns at once.
    pub fn close(&self, fd: OwnedFd) {
        let mut queue = self.shared.queue();
        queue.waiting.push_back(fd);
        if queue.threads == MOST_THREADS {
            return;
        }
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name("mcr-close".to_owned()).stack_size(STACK_BYTES);
        let run = move || {
            // Signals are for the main thread.
            SigSet::all().thread_block().ok();
            shared.close_all();
        };
        if thread.spawn(run).is_ok() {
            queue.threads += 1;
        } else if queue.threads == 0 {
            // No thread could be started: close here, although that blocks.
            queue.waiting.clear();
        }
    }

    /// An upper bound for the sockets that are queued or being closed.
    #[must_use]
    pub fn pending(&self) -> usize {
        let queue = self.shared.queue();
        queue.waiting.len() + queue.threads
    }

    /// Waits until all of them are closed.
    pub fn finish(&self) {
        let is_busy = |queue: &mut Queue| queue.threads > 0;
        let idle = self.shared.changed.wait_while(self.shared.queue(), is_busy);
        drop(idle.unwrap_or_else(PoisonError::into_inner));
    }
}

impl CloserState {
    fn close_all(&self) {
        loop {
            let mut queue = self.queue();
            let Some(fd) = queue.waiting.pop_front() else {
                queue.threads -= 1;
                self.changed.notify_all();
                return;
            };
            drop(queue);
            drop(fd);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::sockets::packet::{self, SpareSockets};
    use crate::sockets::testnet::{in_namespace, interface};

    #[test]
    fn many_sockets_are_closed_at_the_same_time() {
        in_namespace(|| {
            let open = || {
                let lo = interface("lo");
                let mut spares = SpareSockets::default();
                packet::open_group(&lo, 1, None, &mut spares).unwrap().remove(0)
            };
            let began = Instant::now();
            drop(open().fd);
            let alone = began.elapsed();
            let sockets: Vec<_> = (0..64).map(|_| open().fd).collect();
            let (closer, began) = (Closer::default(), Instant::now());
            sockets.into_iter().for_each(|fd| closer.close(fd));
            assert!(began.elapsed() < alone * 16, "it waited");
            closer.finish();
            assert!(began.elapsed() < alone * 32, "they were closed one after the other");
            assert_eq!(closer.pending(), 0);
        });
    }
}
