//! All sockets of the relay; the engine opens none. This file is a map.
//!
//! ```text
//! packet         AF_PACKET of the packet ingress   filter      its BPF program
//! udp_input      the udp ingress                   output      sockets that send copies
//! joins          multicast memberships             gro_helper  helper sockets for GRO and ports
//! mcast_options  socket options of memberships     igmp_query  makes the kernel report them again
//! provider       all of the above as a trait, because another process may do it
//! local          the provider of this process
//! ingress        packet or udp                     egress      sockets or AF_XDP
//! ring_shape     the size of packet rings
//! interfaces     the interfaces of this host       netlink     kernel notifications and queries
//! nofile         the limit of open files           closer      closes AF_PACKET sockets
//! xdp            links that send frames
//! socket         shared basics: creation, buffer sizes, addresses, error texts
//! ```
//!
//! Everything here acts in the calling thread's network namespace and with its privileges, and must
//! not depend on rules or the engine.

pub mod closer;
pub mod device_features;
pub mod egress;
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
pub mod xdp;
#[cfg(test)]
mod xdp_socket_tests;

/// A network interface, as the caller found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceRef<'a> {
    /// The kernel's index.
    pub index: u32,
    /// The name, for messages.
    pub name: &'a str,
}
