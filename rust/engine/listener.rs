//! A socket that an engine listens to, and the state of its reception.

use std::io;

use crate::engine::plan::Source;
use crate::engine::time_stamps::TimeStamps;
use crate::sys::ring::{PoolId, Ring};

/// A socket that is listened to, or is being closed.
pub(super) struct InputListener {
    pub(super) source: Source,
    /// Its buffer pool, or its packet ring.
    pub(super) pool: PoolId,
    pub(super) state: ListenerState,
    /// Consecutive failed receives.
    pub(super) failures: u8,
    /// Its time stamps, if they are wanted and it has no packet ring.
    pub(super) stamps: Option<TimeStamps>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ListenerState {
    /// The kernel delivers, or watches the packet ring.
    Armed,
    /// To be armed at the end of the turn, or when the packet ring is empty.
    Ended,
    /// No longer in the plan; the kernel still holds it.
    Closing,
    /// Given up after too many failures.
    Failed,
}

/// Cancels the kernel's use of a socket that is in no plan any more.
pub(super) fn end(
    listener: &InputListener,
    token: u32,
    is_armed: bool,
    ring: &mut Ring,
) -> io::Result<()> {
    if listener.source.ring.is_some() {
        ring.remove_slots(listener.pool);
        return if is_armed { ring.unwatch_slots(token) } else { Ok(()) };
    }
    if is_armed { ring.cancel(listener.pool, token) } else { Ok(()) }
}
