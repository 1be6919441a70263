//! Events: the results of the ring's operations.

use super::completion::Completion;
use super::{CANCEL, KIND_MASK, POLL, RECEIVE, Ring, WAKE, slots};
use crate::sys::buffers::Buffer;

/// A result reported by the ring.
#[derive(Debug)]
pub enum RingEvent {
    /// A receive filled a buffer.
    Received {
        /// As given to [`Ring::receive`].
        token: u32,
        /// The buffer, owned by the caller until it is given back.
        buffer: Buffer,
        /// Whether the receive continues by itself.
        armed: bool,
    },
    /// A receive ended without data.
    Ended {
        /// As given to [`Ring::receive`].
        token: u32,
        /// The errno; 0 if there is none.
        errno: i32,
    },
    /// A packet ring has frames, or its socket has an error; it is no longer watched.
    Readable {
        /// As given to [`Ring::watch_slots`].
        token: u32,
        /// Whether the socket has a pending error.
        failed: bool,
    },
    /// [`Ring::cancel`] has not found the receive: it has ended, or is about to continue.
    NotCancelled {
        /// As given to [`Ring::cancel`].
        token: u32,
    },
    /// The eventfd of [`Ring::watch`] was written; it is no longer watched.
    Woken,
}

impl Ring {
    /// The next event among the collected completions.
    #[inline(always)]
    pub fn next_event(&mut self) -> Option<RingEvent> {
        loop {
            let completion = self.next_completion()?;
            if let Some(event) = self.event(completion) {
                return Some(event);
            }
        }
    }

    #[inline(always)]
    fn event(&mut self, completion: Completion) -> Option<RingEvent> {
        let Completion { user_data, result, .. } = completion;
        match user_data & KIND_MASK {
            RECEIVE => {
                let armed = completion.continues();
                self.armed -= u32::from(!armed);
                Some(self.received(completion, armed))
            }
            POLL => {
                self.armed -= 1;
                let token = low_half(user_data);
                Some(RingEvent::Readable { token, failed: slots::poll_failed(result) })
            }
            WAKE => {
                self.armed -= 1;
                Some(RingEvent::Woken)
            }
            CANCEL if result < 0 => Some(RingEvent::NotCancelled { token: low_half(user_data) }),
            _ => None,
        }
    }

    #[inline(always)]
    fn received(&self, completion: Completion, armed: bool) -> RingEvent {
        let Completion { user_data, result, .. } = completion;
        let token = low_half(user_data);
        let [_, pool, ..] = user_data.to_be_bytes();
        match (completion.buffer(), u32::try_from(result)) {
            (Some(id), Ok(len)) => {
                let buffer = self.pools[usize::from(pool)].take(pool, id, len);
                RingEvent::Received { token, buffer, armed }
            }
            (_, Ok(_)) => RingEvent::Ended { token, errno: 0 },
            (_, Err(_)) => RingEvent::Ended { token, errno: -result },
        }
    }
}

#[inline]
pub(super) fn low_half(user_data: u64) -> u32 {
    let [.., a, b, c, d] = user_data.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}
