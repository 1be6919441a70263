//! The engines of a relay. This file is a map.
//!
//! ```text
//! compile  from what is open to the plans that engines work by
//! rings    the io_urings of the engines            threads  the threads that engines run in
//! ```

pub(super) mod compile;
pub(super) mod rings;
pub(super) mod threads;
