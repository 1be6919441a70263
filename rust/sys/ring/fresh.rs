//! Rings that are not used yet.

use std::io;

use io_uring::IoUring;

use super::{COMPLETIONS, SUBMISSIONS};

/// How a ring receives and sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingKind {
    /// By io_uring.
    Uring,
    /// By poll(2), and a system call for each send, where the kernel refuses io_uring.
    Poll,
}

impl RingKind {
    /// Its name, for people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => "io_uring",
            Self::Poll => "poll",
        }
    }
}

/// A ring that is not used yet, and can be used by one thread later.
///
/// The kernel charges the memory of an io_uring to its creator: not at all with CAP_IPC_LOCK,
/// otherwise to the user, whose processes share one limit (RLIMIT_MEMLOCK). So it is created before
/// privileges are dropped.
pub struct FreshRing(pub(super) Option<IoUring>);

impl FreshRing {
    /// A ring by io_uring.
    ///
    /// # Errors
    /// EPERM or ENOSYS if io_uring is refused (kernel.io_uring_disabled, a seccomp profile); EINVAL
    /// if the kernel is older than 6.1; ENOMEM if the limit is reached.
    pub fn new() -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .setup_r_disabled()
            .build(SUBMISSIONS)?;
        Ok(Self(Some(uring)))
    }

    /// A ring that does without io_uring.
    #[must_use]
    pub const fn by_poll() -> Self {
        Self(None)
    }

    /// How it will receive and send.
    #[must_use]
    pub const fn kind(&self) -> RingKind {
        if self.0.is_some() { RingKind::Uring } else { RingKind::Poll }
    }
}
