//! The messages between a worker and control, as JSON.
//!
//! ```text
//! requests  requests of control       answers  responses and events
//! failure   why a request failed
//! ```

use serde::{Deserialize, Serialize};

pub(super) mod answers;
pub(super) mod failure;
pub(super) mod requests;

/// The severity of a log record.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
}
