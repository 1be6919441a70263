//! The network that a relay follows: its links, addresses and routes. This file is a map.
//!
//! ```text
//! watch          the kernel's messages, read into the link_table; flags of carriers
//! link_table     the links and addresses at one moment
//! watcher        the thread that waits for changes
//! routes         where routing sends copies         announcements  when memberships are reported
//! blocked        why an input or output waits       reconcile      how what is open follows
//! status         the state of rules and interfaces, without counters
//! ```

pub(super) mod announcements;
pub(super) mod blocked;
pub(super) mod link_table;
mod reconcile;
pub(super) mod routes;
pub(super) mod status;
pub(super) mod watch;
pub(super) mod watcher;
