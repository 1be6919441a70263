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
    pub fn create(count: u16) -> Result<Self> {
        (0..count).map(|_| create_ring()).collect::<Result<_>>().map(Self)
    }

    pub(in crate::relay) fn take(&mut self) -> Option<FreshRing> {
        self.0.pop()
    }
}

/// Tries to make a ring as an engine does.
///
/// # Errors
/// As [`EngineRings::create`].
pub fn try_io_uring() -> Result<()> {
    let tried = FreshRing::new().and_then(Ring::begin);
    tried.map(drop).map_err(|error| EngineFailure::from(&error).into_error())
}

/// A ring for one engine.
pub(in crate::relay) fn create_ring() -> Result<FreshRing> {
    FreshRing::new().map_err(|error| EngineFailure::from(&error).into_error())
}

/// Why an engine ended, or could not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::relay) struct EngineFailure {
    /// With the fix, where there is one.
    pub(in crate::relay) text: String,
    /// Whether the kernel refuses io_uring to this process.
    is_refusal: bool,
}

impl EngineFailure {
    /// One that no right would have prevented.
    pub(in crate::relay) fn other(text: String) -> Self {
        Self { text, is_refusal: false }
    }

    /// For who started the engine.
    pub(in crate::relay) fn into_error(self) -> Error {
        if self.is_refusal { Error::Permission(self.text) } else { Error::Engine(self.text) }
    }
}

impl From<&io::Error> for EngineFailure {
    fn from(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::ENOSYS | libc::EACCES) => {
                let text = format!(
                    "io_uring is refused ({error}): set the sysctl kernel.io_uring_disabled to 0, \
                     and in a container allow io_uring in its seccomp profile"
                );
                Self { text, is_refusal: true }
            }
            Some(libc::ENOMEM) => Self::other(format!(
                "{error}: lower the buffers' bytes or raise the limit of locked memory (ulimit -l)"
            )),
            _ => Self::other(error.to_string()),
        }
    }
}

/// What is said of an interface whose packet rings were given up.
pub(in crate::relay) fn abandoned_rings_warning(name: &str) -> String {
    format!(
        "frames came on {name} that the kernel cannot put into a packet ring (UDP fragmentation \
         offload, from a virtual machine): it is received without one, which is slower"
    )
}
