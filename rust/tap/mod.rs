//! A tap: what engines record of datagrams for a program that watches, in a ring that this program
//! maps read-only.
//!
//! ```text
//! filter   which datagrams a tap takes        record   what is recorded of one
//! ring     the memory: its writer and its reader
//! overwritten   the protocol between these
//! ```

mod filter;
mod overwritten;
mod record;
mod ring;
#[cfg(test)]
mod tests;

pub use filter::TapFilter;
pub use record::{RECORD_BYTES, Step, TapRecord};
pub use ring::{MIN_RING_WORDS, RingReader, RingWriter};

/// The most taps of one engine.
pub const MAX_TAPS: usize = 4;
