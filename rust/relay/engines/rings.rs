//! The rings that engines work with: when they are made, and in which words they are refused or
//! given up. It must not know what an engine does with one.

use std::io;

use crate::error::{Error, Result};
use crate::sys::ring::{FreshRing, Ring};

/// Rings for engines, made while the process has all of its rights.
#[derive(Default)]
pub struct EngineRings(Vec<FreshRing>);

impl EngineRings {
    /// So many.
    ///
    /// # Errors
    /// [`Error::Permission`] where io_uring is refused; the text names what refuses it.
    pub fn make(count: u16) -> Result<Self> {
        (0..count).map(|_| fresh()).collect::<Result<_>>().map(Self)
    }

    pub(in crate::relay) fn take(&mut self) -> Option<FreshRing> {
        self.0.pop()
    }
}

/// Tries to make a ring as an engine does.
///
/// # Errors
/// As [`EngineRings::make`].
pub fn try_io_uring() -> Result<()> {
    let tried = FreshRing::new().and_then(Ring::begin);
    tried.map(drop).map_err(|error| refused(describe(&error)))
}

/// A ring for one engine.
pub(in crate::relay) fn fresh() -> Result<FreshRing> {
    FreshRing::new().map_err(|error| refused(describe(&error)))
}

/// The words that mark a refusal of io_uring among the ends of an engine.
const IO_URING_REFUSED: &str = "io_uring is refused";

/// What ended an engine, with the fix where there is one.
pub(in crate::relay) fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS | libc::EACCES) => format!(
            "{IO_URING_REFUSED} ({error}): set the sysctl kernel.io_uring_disabled to 0, and in a \
             container allow io_uring in its seccomp profile"
        ),
        Some(libc::ENOMEM) => format!(
            "{error}: lower the buffers' bytes or raise the limit of locked memory (ulimit -l)"
        ),
        _ => error.to_string(),
    }
}

/// The error of a text that [`describe`] has made.
pub(in crate::relay) fn refused(text: String) -> Error {
    if text.starts_with(IO_URING_REFUSED) { Error::Permission(text) } else { Error::Engine(text) }
}

/// What is said of an interface whose packet rings were given up.
pub(in crate::relay) fn are_left(name: &str) -> String {
    format!(
        "frames came on {name} that the kernel cannot put into a packet ring (UDP fragmentation \
         offload, from a virtual machine): it is received without one, which is slower"
    )
}
