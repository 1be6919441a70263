//! The native core of mcr, a multicast relay. This file is a map and holds no code.
//!
//! Dependencies point to the right and downwards only:
//!
//! ```text
//! python -> worker -> relay -> engine  -> rules, packet, tap, merge -> stats -> addr
//!                           -> sockets -> sys
//!                  -> broker -> offload, sockets
//!                  -> sandbox -> sys
//!        -> traffic -> sockets
//! offload -> sockets
//! ```
//!
//! `packet`, `rules`, `merge`, `stats` and `addr` are pure: they use neither sockets nor clocks. `sys` is
//! the only module with `unsafe`, `python` the only one that depends on PyO3.

pub mod addr;
pub mod broker;
pub mod engine;
pub mod error;
pub mod merge;
#[cfg(feature = "offload")]
pub mod offload;
pub mod packet;
#[cfg(feature = "python")]
pub mod python;
pub mod relay;
pub mod rules;
pub mod sandbox;
pub mod sockets;
pub mod spec;
pub mod stats;
pub mod sys;
pub mod tap;
pub mod traffic;
pub mod worker;
