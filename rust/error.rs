//! What can go wrong while the relay is set up or changed. A datagram never makes an error:
//! it is relayed, or dropped for a reason that is counted.

use std::io;

/// A refused set-up or change. Its text is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request itself is wrong, whatever the kernel thinks of it.
    #[error("{0}")]
    Invalid(String),
    /// A right is missing; the text names the capability.
    #[error("{0}")]
    Permission(String),
    /// The kernel refused a call on `target`.
    #[error("{call} on {target}: {source}")]
    Os {
        /// What was tried, in the user's words or the kernel's.
        call: &'static str,
        /// The interface, address or file that it was tried on.
        target: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The engine ended by itself: a panic, or a ring that the kernel took away.
    #[error("the engine stopped: {0}")]
    Engine(String),
}

impl Error {
    /// Wraps the kernel's answer to `call` on `target`.
    pub fn os(call: &'static str, target: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Os { call, target: target.into(), source: source.into() }
    }
}

/// The result of a set-up step.
pub type Result<T> = std::result::Result<T, Error>;
