//! A socket that an engine listens to, and how far the kernel delivers from it.

use std::io;

use crate::engine::plan::Source;
use crate::sys::ring::{PoolId, Ring};

/// One socket that is listened to, or was until a moment ago.
pub(super) struct Listener {
    pub(super) source: Source,
    /// Its buffers, or the number of its packet ring.
    pub(super) pool: PoolId,
    pub(super) state: ListenerState,
    /// Failed receives in a row.
    pub(super) failures: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ListenerState {
    /// The kernel delivers, or watches the packet ring.
    Armed,
    /// To be armed at the end of the turn, or when the packet ring is empty.
    Ended,
    /// No longer in the plan; the kernel still holds it.
    Closing,
    /// It failed again and again.
    Failed,
}

/// Lets the kernel go of a socket that no plan has any more.
pub(super) fn end(
    listener: &Listener,
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
