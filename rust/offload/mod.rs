//! The relay inside the kernel: XDP programs that copy and rewrite the datagrams of some rules
//! before the network stack sees them. What they do not relay, they pass on unchanged.
//!
//! ```text
//! programs   loads them; names devices and CPUs; needs rights
//! opener     that as a trait: by this process or another one
//! hook       attaches to an input's interface      fans     devices that frames are copied to
//! rule       a rule in its form, and why one has none
//! table      puts and removes rules; needs descriptors only
//! routes     which slot takes a datagram           slot_maps  rules, their outputs and counters
//! counters   what was counted                      places     free places in the maps
//! layout     the bytes of keys and values          refusal    the library's errors
//! ```
//!
//! To relay a rule: [`KernelRule::of`] says whether the kernel can; [`Programs::fan`] names the
//! devices of its outputs; [`KernelTable::change`] puts it; a [`Hook`] on its input's interface has
//! to exist before. [`KernelTable::counters`] has what became of every datagram and copy.
//!
//! The programs are in `bpf/`. This module acts in the calling thread's network namespace, and must
//! not depend on the engine.

mod counters;
mod fans;
mod hook;
mod layout;
mod opener;
mod places;
mod programs;
mod refusal;
mod routes;
mod rule;
mod slot_maps;
mod table;
#[cfg(test)]
mod tests;

pub use counters::{CopyRefusal, OutputCounters, Pass, RuleCounters};
pub use fans::{Fan, Shape};
pub use hook::{Hook, HookMode};
pub use layout::Mode;
pub use opener::{Attachment, KernelOpener, LocalOpener};
pub use programs::{Limits, Programs};
pub use rule::{
    Endpoint, KernelOutput, KernelRule, MAX_OUTPUTS, Observed, Obstacle, OutputPath, Volume,
};
pub use table::{KernelTable, Put, Retired};
