//! The error of a change of the rules.

use crate::error::Error;

/// Why a change was refused.
#[derive(Debug)]
pub struct ChangeError {
    /// The id of the rule that caused it, if one did.
    pub rule: Option<String>,
    /// The cause.
    pub error: Error,
}

impl From<Error> for ChangeError {
    fn from(error: Error) -> Self {
        Self { rule: None, error }
    }
}
