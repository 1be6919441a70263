//! The rules of a relay that the kernel relays in place of the engines. This file is a map.
//!
//! ```text
//! mode    the user's choice
//! ```

mod mode;

pub use mode::OffloadMode;
