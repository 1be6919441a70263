//! The packet rings of an engine: looked into without a system call, and watched only while
//! they are empty, so that a busy one costs neither the kernel nor the engine a wake-up.

use std::hint;
use std::io;
use std::os::fd::AsFd;

use super::intake::{Intake, ListenerState};
use crate::stats::Writer;
use crate::sys::buffers::Buffer;
use crate::sys::ring::Ring;
use crate::sys::sockopt;

/// Most frames that one turn takes from a ring, so that no ring keeps the others, nor the
/// commands, waiting.
pub(super) const TURN_FRAMES: usize = 512;
/// How often an empty ring is looked at before the kernel is asked to watch it, while frames
/// come fast: two to six microseconds, less than a wake-up costs the core that delivers frames.
const LOOKS: u32 = 128;

impl Intake {
    /// How many packet rings there are.
    pub(super) fn rings(&self) -> usize {
        self.rings.len()
    }

    /// The slots of the largest packet ring.
    pub(super) fn slots(&self) -> usize {
        let sources =
            self.listeners.iter().flatten().filter_map(|known| known.source.ring.as_ref());
        sources.map(|ring| usize::from(ring.slots())).max().unwrap_or(0)
    }

    /// Whether a frame lies in any packet ring, or comes within the time that looking is cheaper
    /// than sleeping. A lone frame never makes it look out for another.
    #[inline]
    pub(super) fn frames_come(&mut self, ring: &Ring) -> bool {
        if self.frames_wait(ring) {
            return true;
        }
        if std::mem::take(&mut self.is_eager) {
            for _ in 0..LOOKS {
                hint::spin_loop();
                if self.frames_wait(ring) {
                    self.is_eager = true;
                    return true;
                }
            }
        }
        false
    }

    /// Frames that one turn took in tell how fast they come.
    #[inline]
    pub(super) fn note_pace(&mut self, frames: usize) {
        self.is_eager |= frames > 1;
    }

    #[inline]
    fn frames_wait(&self, ring: &Ring) -> bool {
        self.rings.iter().any(|&token| {
            let listener = self.listeners[token as usize].as_ref();
            listener.is_some_and(|listener| ring.has_frame(listener.pool))
        })
    }

    /// Has the kernel tell when a frame comes into a packet ring, as they are all empty.
    #[inline]
    pub(super) fn watch_rings(&mut self, ring: &mut Ring) -> io::Result<()> {
        for &token in &self.rings {
            if let Some(listener) = &mut self.listeners[token as usize]
                && listener.state == ListenerState::Ended
            {
                ring.watch_slots(listener.source.fd.as_fd(), token)?;
                listener.state = ListenerState::Armed;
            }
        }
        Ok(())
    }

    /// Takes the next frame of a packet ring, by its number here, and says its token.
    #[inline]
    pub(super) fn take_slot(&self, number: usize, ring: &mut Ring) -> Option<(u32, Buffer)> {
        let token = *self.rings.get(number)?;
        let listener = self.listeners[token as usize].as_ref()?;
        let buffer = ring.take_slot(listener.pool, listener.source.fd.as_fd())?;
        Some((token, buffer))
    }

    /// The kernel no longer watches a packet ring: frames have come, or the socket failed.
    pub(super) fn readable(&mut self, token: u32, failed: bool, counters: &mut Writer) {
        let listener = self.listeners.get(token as usize).and_then(Option::as_ref);
        let errno = listener.filter(|_| failed).map_or(0, |listener| {
            let mut errno: libc::c_int = 0;
            let fd = listener.source.fd.as_fd();
            sockopt::get(fd, libc::SOL_SOCKET, libc::SO_ERROR, &mut errno).ok();
            errno
        });
        self.ended(token, errno, counters);
    }

    /// Looks no longer into the rings of listeners that end.
    pub(super) fn forget_rings(&mut self) {
        let Self { rings, listeners, .. } = self;
        rings.retain(|&token| {
            let listener = listeners[token as usize].as_ref();
            listener.is_some_and(|listener| listener.state != ListenerState::Closing)
        });
    }
}
