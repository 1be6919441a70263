//! Closes AF_PACKET sockets in threads of its own. For each the kernel waits some ten milliseconds,
//! until no processor looks at the socket any more (net/packet/af_packet.c, `packet_release`); many
//! threads wait at the same time. It must not know what the sockets were for.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sys::signal::SigSet;

/// As many sockets are closed at the same time: 600 take about half a second so.
const MOST_THREADS: usize = 64;
/// Bytes for a thread that calls `close` and nothing else.
const STACK_BYTES: usize = 64 * 1024;

/// Takes sockets that nobody uses any more.
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
    /// How many threads there are; each ends when nothing waits.
    threads: usize,
}

impl Closer {
    /// Has a socket closed soon, and does not wait for it.
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
            // Late is better than never.
            queue.waiting.clear();
        }
    }

    /// How many sockets wait to be closed, or are being closed.
    #[must_use]
    pub fn pending(&self) -> usize {
        let queue = self.shared.queue();
        queue.waiting.len() + queue.threads
    }

    /// Waits until all are closed.
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
