//! Converts the core's errors to the exceptions of `mcr.errors`.

use pyo3::prelude::*;

use crate::error::Error;

mod classes {
    #![allow(missing_docs, reason = "they are documented in Python, where they are defined")]
    pyo3::import_exception!(mcr.errors, ArgumentError);
    pyo3::import_exception!(mcr.errors, EngineError);
    pyo3::import_exception!(mcr.errors, InterfaceError);
    pyo3::import_exception!(mcr.errors, RightsError);
    pyo3::import_exception!(mcr.errors, RuleError);
}
pub(super) use classes::{ArgumentError, EngineError};
use classes::{InterfaceError, RightsError, RuleError};

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid(_) => RuleError::new_err(text),
            Error::Permission(_) => RightsError::new_err(text),
            Error::Os { source, .. } => os_error(text, source.raw_os_error()),
            Error::Engine(_) => EngineError::new_err(text),
        }
    }
}

/// An OSError with the number in `errno` and the text alone, without "[Errno 19]" in front.
fn os_error(text: String, errno: Option<i32>) -> PyErr {
    let error = InterfaceError::new_err(text);
    Python::attach(|py| match error.value(py).setattr("errno", errno) {
        Ok(()) => error,
        Err(other) => other,
    })
}
