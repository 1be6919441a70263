//! What can go wrong while the relay is set up or changed. A datagram never makes an error:
//! it is relayed, or dropped for a reason that is counted.

use std::borrow::Cow;
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
    #[error("{call} on {target}: {}", answer(source))]
    Os {
        /// What was tried, in the user's words or the kernel's.
        call: Cow<'static, str>,
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
    pub fn os(
        call: impl Into<Cow<'static, str>>,
        target: impl Into<String>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Os { call: call.into(), target: target.into(), source: source.into() }
    }
}

/// The kernel's answer in words; with the way out where there is a common one.
fn answer(source: &io::Error) -> String {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            "another program has this port; end it (`ss -ulpn` names it), or choose another".into()
        }
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => {
            "there is no route to it; add one (`ip route`)".into()
        }
        Some(number) => nix::errno::Errno::from_raw(number).desc().into(),
        None => source.to_string(),
    }
}

/// The result of a set-up step.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_names_the_way_out_and_no_number() {
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
