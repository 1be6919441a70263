//! Sockets for a process that may not open any: the worker's [`BrokerClient`] requests them, the
//! supervisor's [`BrokerServer`] opens and configures them and keeps a duplicate.
//!
//! ```text
//! client       the worker's `SocketProvider`       wire, messages        the protocol
//! line         its connection to the supervisor    obstacles             reasons without a link
//! pipeline     requests sent in advance
//! server       the supervisor's request loop       policy                requests to reject
//! grants       opens or finds sockets              leases, memberships   open sockets
//! links        opens XDP links
//! key          the purpose of a socket             deletions             deleted interfaces
//! handover     sockets for another supervisor
//! kernel_client, kernel_grants, kernel_leases      the same for the relay in the kernel
//! ```
//!
//! A granted request is a **lease**. Its key gives the purpose and is the same in every incarnation
//! of a worker. When a worker dies, its sockets stay open and keep queueing; the next incarnation
//! gets the same socket for the same key. Sockets that it has not claimed when it sends
//! `ReleaseUnclaimed` are closed. Only XDP links, in which nothing waits, end with their worker.
//!
//! This module must not depend on rules or the contents of frames. The server trusts no byte of a
//! request: it never blocks, and a message that no client sends ends the connection.

mod client;
mod deletions;
mod grants;
mod handover;
#[cfg(feature = "offload")]
mod kernel_client;
#[cfg(feature = "offload")]
mod kernel_grants;
#[cfg(feature = "offload")]
mod kernel_leases;
mod key;
mod leases;
mod line;
mod links;
mod memberships;
mod messages;
mod obstacles;
mod pipeline;
mod policy;
mod server;
#[cfg(test)]
pub(crate) mod testbed;
#[cfg(test)]
mod tests;
mod wire;

pub use client::BrokerClient;
pub use handover::{RECORD_BYTES, RECORD_FORM};
#[cfg(feature = "offload")]
pub use kernel_client::KernelClient;
pub use server::BrokerServer;

pub use crate::sockets::ingress::Ingress;

/// Reads any bytes as a message of either side, for fuzzing: what is read is written as it was.
#[cfg(fuzzing)]
pub fn check_message(bytes: &[u8]) {
    for message in [
        messages::Request::from_bytes(bytes).map(|message| message.to_bytes()),
        messages::Answer::from_bytes(bytes).map(|message| message.to_bytes()),
    ] {
        assert!(message.is_none_or(|message| message == bytes));
    }
}
