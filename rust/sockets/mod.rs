//! Every socket that the relay uses is opened here; the engine opens none. This file is a map.
//!
//! ```text
//! packet         AF_PACKET of the packet ingress   filter      its BPF program
//! udp_input      the udp ingress                   output      the sockets that copies leave by
//! joins          multicast memberships             gro_helper  sockets that receive nothing
//! mcast_options  the socket options of both        igmp_query  makes the kernel report them again
//! provider       all of that as one trait, since another process may do it
//! local          the provider that opens them in this process
//! ingress        which of the two ingresses        ring_shape  the size of packet rings
//! interfaces     the interfaces of this host       netlink     what the kernel says of them
//! nofile         the limit of open files           closer      closes AF_PACKET sockets
//! socket         what they share: creation, buffer sizes, addresses, the text of refusals
//! ```
//!
//! All of it acts in the calling thread's network namespace and with its rights, and knows
//! neither rules nor the engine.

pub mod closer;
pub mod filter;
pub mod gro_helper;
pub mod igmp_query;
pub mod ingress;
pub mod interfaces;
pub mod joins;
pub mod local;
mod mcast_options;
pub mod netlink;
pub(crate) mod nofile;
pub mod output;
pub mod packet;
pub mod provider;
pub mod ring_shape;
pub(crate) mod socket;
#[cfg(test)]
pub(crate) mod testnet;
pub mod udp_input;

/// A network interface, as the caller found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceRef<'a> {
    /// Its index, which the kernel knows it by.
    pub index: u32,
    /// Its name, for messages.
    pub name: &'a str,
}
