//! Errors of setting up or changing the relay. A datagram never causes an error: it is relayed, or
//! dropped for a counted reason.

use std::borrow::Cow;
use std::{fmt, io};

/// A refused setup or change. Its text is one sentence for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request itself is invalid.
    #[error("{0}")]
    Invalid(String),
    /// A privilege is missing.
    #[error("{0}")]
    Permission(MissingRight),
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

/// What is not permitted, and what would help. Its text is for a user who starts the relay; a
/// daemon words the help for its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRight {
    /// What is missing and for what, as a sentence.
    pub sentence: String,
    /// The capability that would help, or several; `None` if none would.
    pub capability: Option<Cow<'static, str>>,
    /// How to do without it, such as "leave it out".
    pub alternative: Option<Cow<'static, str>>,
}

impl MissingRight {
    /// A capability is missing.
    pub fn of(
        capability: &'static str,
        sentence: String,
        alternative: Option<&'static str>,
    ) -> Self {
        let alternative = alternative.map(Cow::Borrowed);
        Self { sentence, capability: Some(Cow::Borrowed(capability)), alternative }
    }
}

impl From<String> for MissingRight {
    /// Nothing that a capability would change.
    fn from(sentence: String) -> Self {
        Self { sentence, capability: None, alternative: None }
    }
}

impl fmt::Display for MissingRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sentence, capability, alternative } = self;
        f.write_str(sentence)?;
        if capability.is_some() {
            f.write_str("; run as root")?;
        }
        alternative.iter().try_for_each(|other| write!(f, ", or {other}"))
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

    #[test]
    fn a_capability_is_named_with_what_helps_without_it() {
        let lacks = |alternative| MissingRight::of("CAP_A", "CAP_A is missing".into(), alternative);
        assert_eq!(lacks(None).to_string(), "CAP_A is missing; run as root");
        assert_eq!(lacks(Some("omit it")).to_string(), "CAP_A is missing; run as root, or omit it");
        assert_eq!(MissingRight::from("too late".to_owned()).to_string(), "too late");
    }
}
