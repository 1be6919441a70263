//! The Python module `mcr._native`: what the core offers, in Python's terms. The only module
//! that knows PyO3.

mod broker;
mod counter_pages;
mod errors;
mod interfaces;
mod parse;
mod relay;
mod sandbox;
mod specs;
mod traffic;
mod wait;
mod worker;

/// The native core; `mcr` re-exports what is public of it.
#[pyo3::pymodule]
mod _native {
    use pyo3::prelude::*;

    /// Without the exceptions nothing else could be refused properly later. A worker process loads
    /// this module without the package; what it runs raises none.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let modules = module.py().import("sys")?.getattr("modules")?;
        if modules.contains("mcr")? {
            module.py().import("mcr.errors")?;
        }
        Ok(())
    }

    /// Why copies may be lost: the names of the counters.
    #[pymodule_export]
    const LOSSES: [&str; crate::stats::Loss::COUNT] = crate::stats::Loss::NAMES;

    #[pymodule_export]
    use super::broker::Broker;
    #[pymodule_export]
    use super::counter_pages::{CounterPages, CounterReading};
    #[pymodule_export]
    use super::interfaces::{
        PyInterface, PyLayers, list, list_layers, switch_gro_on, udp_gro_forwarding,
    };
    #[pymodule_export]
    use super::parse::{PyDatagram, PyDiscard, parse_frame};
    #[pymodule_export]
    use super::relay::{RelayCore, try_io_uring};
    #[pymodule_export]
    use super::sandbox::{confine_control, drop_privileges, shrink_supervisor};
    #[pymodule_export]
    use super::traffic::{ReceiverCore, SenderCore};
    #[pymodule_export]
    use super::worker::{make_page, run_worker};
}
