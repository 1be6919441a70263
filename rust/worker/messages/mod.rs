//! The messages between a worker and control, as JSON. This file is a map.

pub(super) mod answers;
pub(super) mod requests;
