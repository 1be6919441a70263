//! The counters of a relay: slots of the counter pages and reports from them.
//!
//! ```text
//! slots   allocates slots                        groups  slots for groups without a matching rule
//! report  the counters of all engines, summed    pages   the counters of worker processes
//! ```

pub(super) mod groups;
pub(super) mod pages;
pub(super) mod report;
pub(super) mod slots;
