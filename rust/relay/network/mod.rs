//! The network that a relay follows: its links, addresses and routes.
//!
//! ```text
//! watch          reads the kernel's messages into the link_table; carrier flags
//! link_table     the links and addresses at one moment
//! watcher        the thread that waits for changes
//! routes         the routes of copies               announcements  schedules membership reports
//! blocked        why an input or output waits       reconcile      adapts sockets to the network
//! status         the status of rules and interfaces, without counters
//! ```

pub(super) mod announcements;
pub(super) mod blocked;
pub(super) mod link_table;
mod reconcile;
pub(super) mod routes;
pub(super) mod status;
pub(super) mod watch;
pub(super) mod watcher;
