//! The engines of a relay.
//!
//! ```text
//! compile    compiles the engines' plans from the relay's state
//! rings      the io_urings of the engines            threads    the threads of the engines
//! placement  the CPUs of the threads                 pulse      shows whether an engine runs turns
//! ```

pub(super) mod compile;
mod placement;
pub(super) mod pulse;
pub(super) mod rings;
pub(super) mod threads;
