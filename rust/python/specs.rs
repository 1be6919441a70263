//! Specifications from Python, as JSON: the form in which a worker gets them too.

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::spec::RuleSpec;

/// Reads one specification, or an array of them.
pub(super) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| Error::Invalid(error.to_string()))
}

/// Reads the rules of a JSON array, and checks each.
pub(super) fn read_rules(json: &[u8]) -> Result<Vec<RuleSpec>> {
    let rules: Vec<RuleSpec> = read(json)?;
    for rule in &rules {
        let refused = |fault| Error::Invalid(format!("rule {} has {fault}", rule.id));
        rule.check().map_err(refused)?;
    }
    Ok(rules)
}
