//! The packet rings of an engine. They are read without system calls, and watched by the kernel
//! only while they are empty, so that a busy ring costs neither the kernel nor the engine a
//! wake-up.

use std::hint;
use std::io;
use std::os::fd::AsFd;

use super::listener::{InputListener, ListenerState};
use crate::sys::buffers::Buffer;
use crate::sys::ring::Ring;

/// The most frames that one turn takes from a ring, so that no ring delays the others or the
/// commands.
pub(super) const TURN_FRAMES: usize = 512;
/// How often an empty ring is polled before the kernel is asked to watch it, while frames arrive
/// fast: two to six microseconds, less than a wake-up costs the core that delivers frames.
const POLLS: u32 = 128;

/// The listeners with a packet ring.
#[derive(Default)]
pub(super) struct PacketRings {
    tokens: Vec<u32>,
    /// Whether frames arrive faster than a wake-up takes.
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
    pub(super) fn has_frames(&mut self, listeners: &[Option<InputListener>], ring: &Ring) -> bool {
        if self.frames_wait(listeners, ring) {
            return true;
        }
        if std::mem::take(&mut self.is_eager) {
            for _ in 0..POLLS {
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
    fn frames_wait(&self, listeners: &[Option<InputListener>], ring: &Ring) -> bool {
        self.tokens.iter().any(|&token| {
            let listener = listeners[token as usize].as_ref();
            listener.is_some_and(|listener| ring.has_frame(listener.pool))
        })
    }

    #[inline]
    pub(super) fn watch(
        &self,
        listeners: &mut [Option<InputListener>],
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
        listeners: &[Option<InputListener>],
        number: usize,
        ring: &mut Ring,
    ) -> Option<(u32, Buffer)> {
        let token = *self.tokens.get(number)?;
        let listener = listeners[token as usize].as_ref()?;
        let buffer = ring.take_slot(listener.pool, listener.source.fd.as_fd())?;
        Some((token, buffer))
    }

    /// Removes the rings of listeners that are closing.
    pub(super) fn retain_open(&mut self, listeners: &[Option<InputListener>]) {
        self.tokens.retain(|&token| {
            let listener = listeners[token as usize].as_ref();
            listener.is_some_and(|listener| listener.state != ListenerState::Closing)
        });
    }
}
