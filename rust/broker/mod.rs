//! Sockets for a process that may open none: the worker's [`Client`] asks, the supervisor's
//! [`Server`] opens, sets up and keeps a duplicate. This file is a map.
//!
//! ```text
//! client       in the worker: an `SocketProvider` that asks          wire, messages   what both say
//! server       in the supervisor: takes requests, answers    policy           what is never granted
//! grants       opens what was asked for, or finds it          leases, memberships   what is held
//! key          what a socket is for
//! deletions    which interfaces it does not stand on any more
//! ```
//!
//! What is asked for is a **lease** with a key that says what it is for, and so is the same in
//! every incarnation of a worker. When a worker dies, its sockets stay open, and go on queueing;
//! who comes after it and asks for the same gets the same socket. What it has not asked for when
//! it says that it has settled, is closed.
//!
//! It must not know rules, nor what frames hold. The server trusts no byte of a request: it
//! never blocks, and a message that no client sends ends the connection.

mod client;
mod deletions;
mod grants;
mod key;
mod leases;
mod memberships;
mod messages;
mod policy;
mod server;
#[cfg(test)]
pub(crate) mod testbed;
#[cfg(test)]
mod tests;
mod wire;

pub use client::Client;
pub use server::Server;

pub use crate::sockets::ingress::Ingress;
