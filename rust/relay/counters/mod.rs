//! The counters of a relay: slots of the pages, and what stands in them. This file is a map.
//!
//! ```text
//! slots   which slots are in use, and by whom      groups  the slots of groups that no rule took
//! report  the counters of all engines, added up  pages   those of worker processes
//! ```

pub(super) mod groups;
pub(super) mod pages;
pub(super) mod report;
pub(super) mod slots;
