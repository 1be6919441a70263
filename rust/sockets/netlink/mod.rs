//! Interfaces, addresses, routes and queueing disciplines over rtnetlink(7), and what else of the
//! kernel's is on the way of a datagram out of an interface. Only this module uses the netlink
//! crates. This file is a map.
//!
//! ```text
//! links     notifications and dumps of links and addresses
//! link      the reported state of a link or address
//! messages  a parser for these messages             groups     multicast memberships
//! stacking  lower and upper interfaces              notices    notifications about routes
//! routes    the route and next hop of copies        qdiscs     the queueing disciplines
//! traffic   disciplines and filters of an interface, multicast routing
//! netfilter chains and functions                    ipsec      policies
//! neighbours     link-layer addresses of next hops  query      requests and answers
//! group_notices  notifications about memberships
//! devices   what drivers can do for XDP
//! ```

pub mod devices;
pub mod group_notices;
pub mod group_users;
pub mod groups;
pub mod ipsec;
pub mod link;
pub mod links;
mod messages;
pub mod neighbours;
pub mod netfilter;
pub mod notices;
mod qdiscs;
mod query;
pub mod routes;
pub mod stacking;
pub mod traffic;

use query::QuerySocket;

use crate::error::{Error, Result};

/// Reads any bytes as messages of the kernel of every kind, for fuzzing.
#[cfg(fuzzing)]
pub fn check_messages(bytes: &[u8]) {
    use crate::addr::Addr;

    let _ = messages::read(bytes, drop);
    let _ = messages::each(bytes, |message| {
        let (kind, payload) = (message.message_type(), message.payload());
        let _ = groups::group(payload);
        let _ = neighbours::read(kind, payload);
        let _ = netfilter::function(payload);
        for to_sockets in [false, true] {
            let _ =
                netfilter::chain(payload, "eth0", netfilter::Direction::Received { to_sockets });
        }
        let _ = netfilter::chain(payload, "eth0", netfilter::Direction::Sent);
        let _ = routes::read_route(payload, Addr::v4([239, 1, 1, 1]));
        let _ = routes::read_path(payload);
        let _ = qdiscs::read_kind(payload);
        let _ = qdiscs::read(payload);
        Ok::<(), ()>(())
    });
}

/// `None` for a netlink protocol that the kernel does not have.
fn optional(opened: Result<QuerySocket>) -> Result<Option<QuerySocket>> {
    match opened {
        Ok(socket) => Ok(Some(socket)),
        Err(Error::Os { source, .. }) if source.raw_os_error() == Some(libc::EPROTONOSUPPORT) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
