//! Opens every socket that the relay uses; the engine opens none. This file is a map.
//!
//! ```text
//! packet      AF_PACKET of the packet ingress      filter     its BPF program
//! joins       the memberships                      gro_helper sockets that only stand there
//! udp_input   the udp ingress                      output     where copies leave
//! ingress     which of the two ingresses
//! membership  the requests that joins and udp_input make
//! igmp_query  has the kernel report its memberships anew
//! opener      all of that as one trait, since another process may do it; local: this one does
//! links       what the kernel tells about links and addresses; layers: which stands on which
//! ways        what it says of routes and next hops, and, with shaping, of what cuts batches
//! notices     that any of it has changed
//! descriptors the limit of open files               closer     closes what takes the kernel long
//! socket      what they share: creation, buffer sizes, addresses, the words for refusals
//! ```
//!
//! All of it acts in the calling thread's network namespace and with its rights, and knows
//! neither rules nor the engine.

pub mod closer;
pub(crate) mod descriptors;
pub mod filter;
pub mod gro_helper;
pub mod igmp_query;
pub mod ingress;
pub mod joins;
pub mod layers;
pub mod links;
pub mod local;
mod membership;
pub mod notices;
pub mod opener;
pub mod output;
pub mod packet;
mod shaping;
pub(crate) mod socket;
#[cfg(test)]
pub(crate) mod testnet;
pub mod udp_input;
pub mod ways;

/// A network interface, as the caller found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceRef<'a> {
    /// Its index, which the kernel knows it by.
    pub index: u32,
    /// Its name, for messages.
    pub name: &'a str,
}
