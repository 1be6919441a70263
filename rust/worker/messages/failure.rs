//! The reason why a request failed, with a kind for control.

use std::fmt::Display;

use crate::error::Error;
use crate::relay::ChangeError;

/// Why a request failed.
#[derive(Debug, serde::Serialize)]
pub(in crate::worker) struct Failure {
    kind: FailureKind,
    rule: Option<String>,
    pub(in crate::worker) message: String,
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
        let (rule, message) = (Some(id.to_owned()), text.to_string());
        Self { kind: FailureKind::Rule, rule, message }
    }

    /// The request is not possible now.
    pub(in crate::worker) fn of_request(text: &str) -> Self {
        Self { kind: FailureKind::Rule, rule: None, message: text.to_owned() }
    }
}

impl From<ChangeError> for Failure {
    fn from(ChangeError { rule, error }: ChangeError) -> Self {
        let kind = match &error {
            Error::Permission(_) => FailureKind::Rights,
            Error::Engine(_) => FailureKind::Engine,
            Error::Os { source, .. } if is_limit(source) => FailureKind::Limit,
            Error::Os { .. } => FailureKind::Interface,
            Error::Invalid(_) => FailureKind::Rule,
        };
        Self { kind, rule, message: error.to_string() }
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
            (Error::Permission(String::new()), FailureKind::Rights),
            (Error::Invalid(String::new()), FailureKind::Rule),
            (Error::Engine(String::new()), FailureKind::Engine),
            (os(libc::EMFILE), FailureKind::Limit),
            (os(libc::ENODEV), FailureKind::Interface),
        ] {
            assert_eq!(Failure::from(ChangeError { rule: None, error }).kind, kind);
        }
    }
}
