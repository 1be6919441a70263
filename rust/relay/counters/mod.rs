//! The counters of a relay: slots of the counter pages and reports from them.
//!
//! ```text
//! slots   allocates slots                        groups  slots for groups without a matching rule
//! report  the counters of all engines, summed    pages   the counters of worker processes
//! flows   the senders to each rule, summed
//! copies  those of all outputs, summed
//! latency the times that datagrams took, summed
//! changes what happened between two readings
//! rates   what recent seconds counted            sampler the thread that samples them here
//! ```

pub(super) mod changes;
pub(super) mod copies;
pub(super) mod flows;
pub(super) mod groups;
pub(super) mod latency;
pub(super) mod pages;
pub(super) mod rates;
pub(super) mod report;
pub(super) mod sampler;
pub(super) mod slots;
