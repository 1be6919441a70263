//! The reason why a request failed, with a kind for control.

use std::borrow::Cow;
use std::fmt::Display;

use crate::error::{Error, MissingRight};
use crate::relay::ChangeError;

/// Why a request failed.
#[derive(Debug, serde::Serialize)]
pub(in crate::worker) struct Failure {
    kind: FailureKind,
    rule: Option<String>,
    pub(in crate::worker) message: String,
    /// The capability that the daemon would need, or several; the message does not say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    capability: Option<Cow<'static, str>>,
    /// How the client can do without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    alternative: Option<Cow<'static, str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum FailureKind {
    Interface,
    Rights,
    Limit,
    Rule,
    Engine,
}

impl Failure {
    /// A rule is invalid.
    pub(in crate::worker) fn of_rule(id: &str, text: impl Display) -> Self {
        Self::plain(FailureKind::Rule, Some(id.to_owned()), text.to_string())
    }

    /// The request is not possible now.
    pub(in crate::worker) fn of_request(text: &str) -> Self {
        Self::plain(FailureKind::Rule, None, text.to_owned())
    }

    const fn plain(kind: FailureKind, rule: Option<String>, message: String) -> Self {
        Self { kind, rule, message, capability: None, alternative: None }
    }
}

impl From<ChangeError> for Failure {
    fn from(ChangeError { rule, error }: ChangeError) -> Self {
        let kind = match &error {
            Error::Permission(MissingRight { sentence, capability, alternative }) => {
                let (capability, alternative) = (capability.clone(), alternative.clone());
                let plain = Self::plain(FailureKind::Rights, rule, sentence.clone());
                return Self { capability, alternative, ..plain };
            }
            Error::Engine(_) => FailureKind::Engine,
            Error::Os { source, .. } if is_limit(source) => FailureKind::Limit,
            Error::Os { .. } => FailureKind::Interface,
            Error::Invalid(_) => FailureKind::Rule,
        };
        Self::plain(kind, rule, error.to_string())
    }
}

fn is_limit(error: &std::io::Error) -> bool {
    const LIMITS: [i32; 5] =
        [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EDQUOT];
    error.raw_os_error().is_none_or(|errno| LIMITS.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_kind() {
        let os = |errno| Error::os("a", "b", std::io::Error::from_raw_os_error(errno));
        for (error, kind) in [
            (Error::Permission(String::new().into()), FailureKind::Rights),
            (Error::Invalid(String::new()), FailureKind::Rule),
            (Error::Engine(String::new()), FailureKind::Engine),
            (os(libc::EMFILE), FailureKind::Limit),
            (os(libc::ENODEV), FailureKind::Interface),
        ] {
            assert_eq!(Failure::from(ChangeError { rule: None, error }).kind, kind);
        }
    }
}
