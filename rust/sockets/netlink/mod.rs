//! Interfaces, addresses, routes and queueing disciplines over rtnetlink(7). Only this module uses
//! the netlink crates. This file is a map.
//!
//! ```text
//! links     notifications and dumps of links and addresses
//! link      the reported state of a link or address
//! messages  a parser for these messages             groups   multicast memberships
//! stacking  lower and upper interfaces               notices  notifications about routes
//! routes    the route and next hop of copies         qdiscs   qdiscs that split batches
//! ```

pub mod groups;
pub mod link;
pub mod links;
mod messages;
pub mod notices;
mod qdiscs;
pub mod routes;
pub mod stacking;
