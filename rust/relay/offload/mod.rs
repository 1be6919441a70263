//! The rules of a relay that the kernel relays in place of the engines. This file is a map.
//!
//! ```text
//! mode       the user's choice                  way      who relays a rule
//! reason     why the engine does                candidates   what the kernel could relay
//! drivers    what an output's driver can do     input_hooks  programs on inputs' interfaces
//! input_users  others on this host that get the same frames
//! kernel_relay  the rules in the kernel         reconcile    when rules move
//! gates      moves from and to the engine  weighing  who relays a stream faster
//! copying_cpus  which CPU copies                drain        the end of its queue
//! totals     counts over all places of a rule   counting     reads and publishes them
//! ```

#[cfg(feature = "offload")]
mod candidates;
#[cfg(feature = "offload")]
mod copying_cpus;
#[cfg(feature = "offload")]
mod counting;
#[cfg(feature = "offload")]
mod drain;
#[cfg(feature = "offload")]
pub(super) mod drivers;
#[cfg(feature = "offload")]
mod gates;
#[cfg(feature = "offload")]
mod input_hooks;
#[cfg(feature = "offload")]
mod input_users;
#[cfg(feature = "offload")]
pub(super) mod kernel_relay;
mod mode;
#[cfg(feature = "offload")]
pub(super) mod reason;
#[cfg(feature = "offload")]
mod reconcile;
#[cfg(feature = "offload")]
mod totals;
mod way;
#[cfg(feature = "offload")]
mod weighing;

pub use mode::OffloadMode;
pub use way::RuleWay;
