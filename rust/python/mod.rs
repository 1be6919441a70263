//! The Python module `mcr._native`: what the core offers, in Python's terms. The only module
//! that knows PyO3.

mod confine;
mod errors;
mod interfaces;
mod parse;
mod relay;
mod resolved;
mod traffic;
mod wait;

/// The native core; `mcr` re-exports what is public of it.
#[pyo3::pymodule]
mod _native {
    use pyo3::prelude::*;

    /// Without the exceptions nothing else could be refused properly later.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.py().import("mcr.errors").map(drop)
    }

    #[pymodule_export]
    use super::confine::{confine_control, shrink_supervisor};
    #[pymodule_export]
    use super::interfaces::{Interface, list, switch_gro_on, udp_gro_forwarding};
    #[pymodule_export]
    use super::parse::{Datagram, Discard, parse_frame};
    #[pymodule_export]
    use super::relay::{RelayCore, try_io_uring};
    #[pymodule_export]
    use super::traffic::{ReceiverCore, SenderCore};
}
