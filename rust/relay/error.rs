//! Why a change of the rules is refused.

use crate::error::Error;

/// Why a change is not made.
#[derive(Debug)]
pub struct ChangeError {
    /// The id of the rule that it is about, when it is about one.
    pub rule: Option<String>,
    /// What was refused.
    pub error: Error,
}

impl From<Error> for ChangeError {
    fn from(error: Error) -> Self {
        Self { rule: None, error }
    }
}
