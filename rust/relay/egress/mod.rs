//! The ways of outputs: their own sockets, or AF_XDP sockets that they share. This file is a map.
//!
//! ```text
//! way     the way of an output, and the reason      context  what decides on it beside the output
//! links   the AF_XDP sockets                        frames   an output's frames on them
//! readings  what was last read for that    reconcile  how all follow the interfaces
//! ```

pub(super) mod context;
pub(super) mod frames;
pub(super) mod links;
pub(super) mod readings;
mod reconcile;
pub(super) mod way;
