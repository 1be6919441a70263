//! XDP links: AF_XDP sockets that send frames, past the network stack. This file is a map.
//!
//! ```text
//! survey    whether an interface lends itself to a link      obstacle   the reasons why not
//! hooks     what the host does to datagrams, and would not do to frames
//! link      opens the sockets                             control_group  BPF programs of it
//! ```

mod control_group;
pub mod hooks;
pub mod link;
pub mod obstacle;
pub mod survey;
#[cfg(test)]
mod tests;
