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

impl ChangeError {
    /// What is wrong with a rule of the change, in a sentence.
    pub(super) fn of_rule(id: &str, text: &str) -> Self {
        Self { rule: Some(id.to_owned()), error: Error::Invalid(text.to_owned()) }
    }
}
