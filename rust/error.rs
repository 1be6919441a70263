//! Errors of setting up or changing the relay. A datagram never causes an error: it is relayed, or
//! dropped for a counted reason.

use std::borrow::Cow;
use std::io;

/// A refused setup or change. Its text is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request itself is invalid.
    #[error("{0}")]
    Invalid(String),
    /// A privilege is missing; the text names the capability.
    #[error("{0}")]
    Permission(String),
    /// The kernel refused a call on `target`.
    #[error("{call} on {target}: {}", describe(source))]
    Os {
        /// The attempted operation, in the user's words or the kernel's.
        call: Cow<'static, str>,
        /// The interface, address or file concerned.
        target: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The engine ended unexpectedly: by a panic, or because the kernel closed its ring.
    #[error("the engine stopped: {0}")]
    Engine(String),
}

impl Error {
    /// Wraps the kernel's error from `call` on `target`.
    pub fn os(
        call: impl Into<Cow<'static, str>>,
        target: impl Into<String>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Os { call: call.into(), target: target.into(), source: source.into() }
    }
}

/// The kernel's error in words, with the usual remedy if there is one.
fn describe(source: &io::Error) -> String {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            "another program has this port; stop it (`ss -ulpn` shows it), or choose another".into()
        }
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => {
            "there is no route to it; add one (`ip route`)".into()
        }
        Some(number) => nix::errno::Errno::from_raw(number).desc().into(),
        None => source.to_string(),
    }
}

/// The result of a setup step.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_the_remedy_and_no_number() {
        let refused = |number| {
            let source = io::Error::from_raw_os_error(number);
            Error::os("connecting", "192.0.2.1:7000", source).to_string()
        };
        assert_eq!(
            refused(libc::ENETUNREACH),
            "connecting on 192.0.2.1:7000: there is no route to it; add one (`ip route`)"
        );
        assert!(refused(libc::EADDRINUSE).contains("`ss -ulpn`"));
        assert_eq!(refused(libc::ENODEV), "connecting on 192.0.2.1:7000: No such device");
    }
}
