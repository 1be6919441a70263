//! The rings of the engines: their creation, and messages about errors and abandoned rings.

use std::io;

use crate::error::{Error, Result};
use crate::sys::ring::{FreshRing, Ring};

/// Rings for engines, created while the process has its privileges.
#[derive(Default)]
pub struct EngineRings(Vec<FreshRing>);

impl EngineRings {
    /// Creates `count` rings.
    ///
    /// # Errors
    /// [`Error::Permission`] if io_uring is not permitted; the text names what forbids it.
    pub fn create(count: u16) -> Result<Self> {
        (0..count).map(|_| create_ring()).collect::<Result<_>>().map(Self)
    }

    pub(in crate::relay) fn take(&mut self) -> Option<FreshRing> {
        self.0.pop()
    }
}

/// Tries to create a ring as an engine does.
///
/// # Errors
/// As [`EngineRings::create`].
pub fn try_io_uring() -> Result<()> {
    let ring = FreshRing::new().and_then(Ring::begin);
    ring.map(drop).map_err(|error| EngineFailure::from(&error).into_error())
}

/// Creates a ring for one engine.
pub(in crate::relay) fn create_ring() -> Result<FreshRing> {
    FreshRing::new().map_err(|error| EngineFailure::from(&error).into_error())
}

/// Why an engine ended, or could not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::relay) struct EngineFailure {
    /// The reason, with a remedy if one is known.
    pub(in crate::relay) text: String,
    /// Whether the kernel does not permit io_uring.
    is_refusal: bool,
}

impl EngineFailure {
    /// A failure that is not about permissions.
    pub(in crate::relay) fn other(text: String) -> Self {
        Self { text, is_refusal: false }
    }

    pub(in crate::relay) fn into_error(self) -> Error {
        if self.is_refusal { Error::Permission(self.text.into()) } else { Error::Engine(self.text) }
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

/// The warning about an interface whose packet rings were abandoned.
pub(in crate::relay) fn abandoned_rings_warning(name: &str) -> String {
    format!(
        "{name} receives frames that the kernel cannot put into a packet ring (UDP fragmentation \
         offload, from a virtual machine): mcr now receives there without one, which is slower"
    )
}
