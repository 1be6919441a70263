//! Reads specifications from Python as JSON, the form in which workers receive them too.

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::spec::RuleSpec;

/// Reads one specification, or an array of them.
///
/// # Errors
/// [`Error::Invalid`] for text that is not JSON of this form.
pub(super) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| Error::Invalid(error.to_string()))
}

/// Reads the rules of a JSON array, and checks each of them.
///
/// # Errors
/// [`Error::Invalid`] as [`read`], or for a rule with invalid values.
pub(super) fn read_rules(json: &[u8]) -> Result<Vec<RuleSpec>> {
    let rules: Vec<RuleSpec> = read(json)?;
    for rule in &rules {
        let invalid = |fault| Error::Invalid(format!("rule {} has {fault}", rule.id));
        rule.check().map_err(invalid)?;
    }
    Ok(rules)
}
