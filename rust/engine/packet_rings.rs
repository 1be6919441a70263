//! The packet rings of an engine: looked into without a system call, and watched only while
//! they are empty, so that a busy one costs neither the kernel nor the engine a wake-up.

use std::hint;
use std::io;
use std::os::fd::AsFd;

use super::listener::{Listener, ListenerState};
use crate::sys::buffers::Buffer;
use crate::sys::ring::Ring;

/// Most frames that one turn takes from a ring, so that no ring keeps the others, nor the
/// commands, waiting.
pub(super) const TURN_FRAMES: usize = 512;
/// How often an empty ring is looked at before the kernel is asked to watch it, while frames
/// come fast: two to six microseconds, less than a wake-up costs the core that delivers frames.
const LOOKS: u32 = 128;

/// The listeners that have a packet ring.
#[derive(Default)]
pub(super) struct PacketRings {
    tokens: Vec<u32>,
    /// Whether frames come faster than a wake-up would.
    is_eager: bool,
}

impl PacketRings {
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn add(&mut self, token: Option<u32>) {
        self.tokens.extend(token);
    }

    #[inline]
    pub(super) fn frames_come(&mut self, listeners: &[Option<Listener>], ring: &Ring) -> bool {
        if self.frames_wait(listeners, ring) {
            return true;
        }
        if std::mem::take(&mut self.is_eager) {
            for _ in 0..LOOKS {
                hint::spin_loop();
                if self.frames_wait(listeners, ring) {
                    self.is_eager = true;
                    return true;
                }
            }
        }
        false
    }

    #[inline]
    pub(super) fn note_pace(&mut self, frames: usize) {
        self.is_eager |= frames > 1;
    }

    #[inline]
    fn frames_wait(&self, listeners: &[Option<Listener>], ring: &Ring) -> bool {
        self.tokens.iter().any(|&token| {
            let listener = listeners[token as usize].as_ref();
            listener.is_some_and(|listener| ring.has_frame(listener.pool))
        })
    }

    #[inline]
    pub(super) fn watch(
        &self,
        listeners: &mut [Option<Listener>],
        ring: &mut Ring,
    ) -> io::Result<()> {
        for &token in &self.tokens {
            if let Some(listener) = &mut listeners[token as usize]
                && listener.state == ListenerState::Ended
            {
                ring.watch_slots(listener.source.fd.as_fd(), token)?;
                listener.state = ListenerState::Armed;
            }
        }
        Ok(())
    }

    #[inline]
    pub(super) fn take_slot(
        &self,
        listeners: &[Option<Listener>],
        number: usize,
        ring: &mut Ring,
    ) -> Option<(u32, Buffer)> {
        let token = *self.tokens.get(number)?;
        let listener = listeners[token as usize].as_ref()?;
        let buffer = ring.take_slot(listener.pool, listener.source.fd.as_fd())?;
        Some((token, buffer))
    }

    /// Forgets the rings of listeners that are closing.
    pub(super) fn retain_open(&mut self, listeners: &[Option<Listener>]) {
        self.tokens.retain(|&token| {
            let listener = listeners[token as usize].as_ref();
            listener.is_some_and(|listener| listener.state != ListenerState::Closing)
        });
    }
}
