//! What a relay is told when it is made. It must not know how that is done.

use super::Ingress;

/// How a relay is set up, for its whole life.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where datagrams are taken from.
    pub ingress: Ingress,
    /// How many engines, each a thread.
    pub workers: u16,
    /// Bytes for the receive buffers of one engine.
    pub buffer_bytes: usize,
    /// The processor of each engine, in their order; empty to leave it to the kernel, or with
    /// several engines to take one after the other.
    pub cpus: Vec<usize>,
    /// Whether datagrams with a wrong UDP checksum are dropped, where the kernel has not done so.
    pub verify_checksums: bool,
}

impl Settings {
    /// One engine that drops what is damaged, on any processor.
    #[must_use]
    pub fn new(ingress: Ingress, buffer_bytes: usize) -> Self {
        Self { ingress, workers: 1, buffer_bytes, cpus: Vec::new(), verify_checksums: true }
    }
}
