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
