//! Dropping of privileges, permanently: user, capabilities, files, system calls. This file is a
//! map.
//!
//! ```text
//! privileges   user and groups, capabilities, no regaining
//! landlock     files, TCP ports, abstract sockets, signals
//! seccomp      system calls of a worker and a control process after their start
//! ```
//!
//! A process calls [`drop_privileges`], then [`apply_landlock`], opens what needs no privilege,
//! starts its threads, and calls [`apply_seccomp`] before it reads any input that it was not
//! started with. All of this affects the whole process and is irrevocable. docs/security.md lists
//! what remains permitted to each process.

mod landlock;
mod privileges;
mod seccomp;

pub use self::landlock::{FileAccess, apply_landlock};
pub use caps::Capability;
pub use privileges::{drop_privileges, forbid_new_privileges, limit_capabilities};
pub use seccomp::{Role, apply_seccomp};
