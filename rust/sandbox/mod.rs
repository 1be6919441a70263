//! Gives rights up, for good: user, capabilities, files, system calls. This file is a map.
//!
//! ```text
//! privileges   user and groups, capabilities, no way back up
//! landlock     files, TCP ports, abstract sockets, signals
//! seccomp      what a worker and a control process call, after they have started
//! ```
//!
//! A process calls [`drop_privileges`], then [`apply_landlock`], opens what it needs that takes no right, starts
//! its threads, and calls [`apply_seccomp`] before it reads anything that it did not start with. All
//! of it holds for this process and can be taken back by nobody. It must not know what the process
//! does: docs/security.md says what is left to each.

mod landlock;
mod privileges;
mod seccomp;

pub use self::landlock::{FileAccess, apply_landlock};
pub use caps::Capability;
pub use privileges::{drop_privileges, forbid_new_privileges, limit_capabilities};
pub use seccomp::{Role, apply_seccomp};
