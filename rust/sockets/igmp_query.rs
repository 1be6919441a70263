//! A local IGMP query that makes the kernel report all IPv4 memberships of an interface, as if a
//! router had asked. The query does not leave the host, and no group is left or joined for it.
//!
//! When a carrier returns, Linux reports IPv6 memberships by itself, IPv4 memberships only on a
//! query.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;

use socket2::{SockAddr, SockRef};

use super::{InterfaceRef, socket};
use crate::error::{Error, Result};

/// An IPv4 header without options to all hosts (224.0.0.1), followed by the query. The kernel fills
/// in source, length and checksum (raw(7)).
///
/// A multicast packet with a TTL of 0 is looped back to this host and not sent (ip_mc_output).
#[rustfmt::skip]
const PACKET: [u8; 32] = [
    0x45, 0xc0, 0, 0,  0, 0, 0, 0,  0, 2, 0, 0,  0, 0, 0, 0,  224, 0, 0, 1,
    // A general IGMPv3 query with a response time of 0.1 s (RFC 3376, 4.1), followed by its
    // checksum. Robustness and interval of 0 mean the defaults. A host that has seen an IGMPv2
    // querier answers in that version.
    0x11, 1, 0xee, 0xfe,  0, 0, 0, 0,  0, 0, 0, 0,
];

/// Queries the memberships of the interface.
///
/// # Errors
/// [`Error::Permission`] without `CAP_NET_RAW`; [`Error::Os`] when the interface is gone.
pub fn ask(interface: &InterfaceRef<'_>) -> Result<()> {
    let target = interface.name;
    let owned = socket::open_raw(libc::AF_INET, target)?;
    socket::bind_to_interface(owned.as_fd(), interface.index, target)?;
    let all_hosts = SockAddr::from(SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), 0));
    let sent = SockRef::from(&owned).send_to(&PACKET, &all_hosts);
    sent.map(drop).map_err(|error| Error::os("querying the memberships", target, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::testnet::{in_namespace, interface};

    #[test]
    fn an_existing_interface_is_queried() {
        in_namespace(|| {
            ask(&interface("lo")).unwrap();
            ask(&InterfaceRef { index: 4711, name: "gone0" }).unwrap_err();
        });
    }
}
