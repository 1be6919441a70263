//! The native core of mcr, a multicast relay. This file is a map and holds no code.
//!
//! Dependencies point to the right and downwards only:
//!
//! ```text
//! python -> worker -> relay
//!        -> relay -> engine -> egress -> window, plan -> ingress, pool -> sys
//!                                     -> rewrite -> open, packet -> sys
//!                 -> broker -> open, pool -> sys
//!           relay, engine   -> rules, packet, stats -> addr
//!           traffic         -> open, sys
//!           confine         -> sys
//! ```
//!
//! `packet`, `rules`, `stats` and `addr` are pure: they know neither sockets nor clocks.
//! `sys` is the only place with `unsafe`; `python` the only one that knows PyO3.

pub mod addr;
pub mod broker;
pub mod confine;
mod egress;
pub mod engine;
pub mod error;
pub mod ingress;
pub mod interfaces;
pub mod open;
pub mod packet;
pub mod plan;
pub mod pool;
#[cfg(feature = "python")]
pub mod python;
pub mod relay;
pub mod rewrite;
pub mod rules;
pub mod stats;
pub mod sys;
pub mod traffic;
pub(crate) mod window;
pub mod worker;
