//! The Python module `mcr._native`, the core's interface to Python. Only this module uses PyO3.

mod broker;
mod counter_pages;
mod errors;
mod explain;
mod flows;
mod interfaces;
mod latency;
mod offload;
mod parse;
mod relay;
mod reports;
mod sandbox;
mod specs;
mod tap;
mod traffic;
mod wait;
mod worker;

/// The native core. `mcr` re-exports its public parts.
#[pyo3::pymodule]
mod _native {
    use pyo3::prelude::*;

    /// Imports the exceptions early, so that an error can always be raised later. A worker process
    /// loads this module without the package, and raises no exceptions.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let modules = module.py().import("sys")?.getattr("modules")?;
        if modules.contains("mcr")? {
            module.py().import("mcr.errors")?;
        }
        Ok(())
    }

    /// The reasons why copies are lost, as the counters name them.
    #[pymodule_export]
    const LOSSES: [&str; crate::stats::Loss::COUNT] = crate::stats::Loss::NAMES;

    /// Why copies may leave through sockets instead of AF_XDP: the words in reports.
    #[pymodule_export]
    const SOCKET_REASONS: [&str; crate::relay::SocketReason::NAMES.len()] =
        crate::relay::SocketReason::NAMES;

    /// Why the engine may relay a rule and not the kernel: the words in reports.
    #[pymodule_export]
    const ENGINE_REASONS: [&str; crate::relay::RuleWay::REASONS.len()] =
        crate::relay::RuleWay::REASONS;

    /// The version of the form of a broker's records.
    #[pymodule_export]
    const LEASE_FORM: u16 = crate::broker::RECORD_FORM;

    #[pymodule_export]
    use super::broker::Broker;
    #[pymodule_export]
    use super::counter_pages::{CounterPages, CounterReading, output_keys};
    #[pymodule_export]
    use super::explain::PyExplainer;
    #[pymodule_export]
    use super::interfaces::{
        PyInterface, PyLayers, list, list_layers, switch_gro_on, udp_gro_forwarding, xdp_obstacle,
    };
    #[pymodule_export]
    use super::offload::{
        PyXdpDevice, input_obstacle, left_features, restore_features, xdp_device,
    };
    #[pymodule_export]
    use super::parse::{PyDatagram, PyDiscard, parse_captured, parse_frame};
    #[pymodule_export]
    use super::relay::{RelayCore, try_io_uring};
    #[pymodule_export]
    use super::sandbox::{confine_control, drop_privileges, set_process_title, shrink_supervisor};
    #[pymodule_export]
    use super::tap::{PyTapRecord, TapReader};
    #[pymodule_export]
    use super::traffic::{ReceiverCore, SenderCore};
    #[pymodule_export]
    use super::worker::{export_counters, import_counters, make_page, page_layout, run_worker};
}
