//! What the kernel says about interfaces, addresses, routes and queueing disciplines (rtnetlink(7)).
//! The only module that knows the netlink crates. This file is a map.
//!
//! ```text
//! links     every change of links and addresses, and the list of all of them
//! link      a link or address as the kernel describes it
//! messages  the kernel's messages about them          groups   the multicast memberships
//! stacking  which interface stands on which           notices  that routes or the like changed
//! routes    the route and next hop of copies          qdiscs   which of these cut batches
//! ```

pub mod groups;
pub mod link;
pub mod links;
mod messages;
pub mod notices;
mod qdiscs;
pub mod routes;
pub mod stacking;
