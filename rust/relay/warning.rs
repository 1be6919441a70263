//! Warnings about the set-up of this host: each once, and what it is about.

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningSubject {
    /// How the engines receive and send.
    Engine,
    /// The sockets of an input.
    Input,
    /// Those of an output.
    Output,
    /// The interfaces of this host.
    Interface,
}

/// Adds a warning, unless the list contains it.
pub(super) fn warn_once(warnings: &mut Vec<String>, warning: String) {
    if !warnings.contains(&warning) {
        warnings.push(warning);
    }
}
