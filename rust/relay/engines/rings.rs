//! The rings of the engines: their creation, and messages about errors and abandoned rings.

use std::io;

use crate::error::{Error, Result};
use crate::sys::ring::{FreshRing, Ring, RingKind};

/// Rings for engines, created while the process has its privileges.
#[derive(Default)]
pub struct EngineRings {
    made: Vec<FreshRing>,
    /// How the last one that was created receives and sends.
    kind: Option<RingKind>,
    /// Why that is not io_uring.
    refusal: Option<String>,
}

impl EngineRings {
    /// Creates `count` rings.
    ///
    /// # Errors
    /// The limit of locked memory or of descriptors is reached.
    pub fn create(count: u16) -> Result<Self> {
        let mut rings = Self::default();
        for _ in 0..count {
            let ring = rings.create_one()?;
            rings.made.push(ring);
        }
        Ok(rings)
    }

    /// How the rings receive and send; `None` before the first was created.
    #[must_use]
    pub fn kind(&self) -> Option<RingKind> {
        self.kind
    }

    /// Why they do without io_uring; `None` if they do not.
    pub(in crate::relay) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Takes one of the rings, or creates one.
    pub(in crate::relay) fn take(&mut self) -> Result<FreshRing> {
        self.made.pop().map_or_else(|| self.create_one(), Ok)
    }

    /// An io_uring or, where the kernel refuses that, a ring that does without.
    fn create_one(&mut self) -> Result<FreshRing> {
        let ring = match FreshRing::new() {
            Ok(ring) => ring,
            Err(error) => {
                let failure = EngineFailure::from(&error);
                if !failure.is_refusal {
                    return Err(failure.into_error());
                }
                self.refusal = Some(failure.text);
                FreshRing::by_poll()
            }
        };
        self.kind = Some(ring.kind());
        Ok(ring)
    }
}

/// The warning that engines do without io_uring.
pub(in crate::relay) fn poll_warning(refusal: &str) -> String {
    format!("{refusal}. Until then each send is a system call, which takes more processor time")
}

/// Tries to create an io_uring as an engine does.
///
/// # Errors
/// [`Error::Permission`] if io_uring is not permitted; the text names what forbids it.
pub fn try_io_uring() -> Result<()> {
    let ring = FreshRing::new().and_then(Ring::begin);
    ring.map(drop).map_err(|error| EngineFailure::from(&error).into_error())
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
                     and in a container allow io_uring_setup, io_uring_enter and \
                     io_uring_register in its seccomp profile"
                );
                Self { text, is_refusal: true }
            }
            Some(libc::EINVAL) => {
                let text = "io_uring of this kernel is too old: use Linux 6.1 or later".to_owned();
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
