//! The host's interfaces for Python.

use std::net::{IpAddr, Ipv4Addr};

use pyo3::prelude::*;

use crate::interfaces;

/// One network interface of this network namespace, as the kernel lists it.
#[pyclass(frozen, get_all, module = "mcr._native")]
pub(super) struct Interface {
    name: String,
    index: u32,
    up: bool,
    multicast: bool,
    loopback: bool,
    carrier: bool,
    mtu: u32,
    gro: bool,
    addresses: Vec<IpAddr>,
    broadcasts: Vec<Ipv4Addr>,
}

/// Return the interfaces of the calling thread's network namespace.
#[pyfunction(name = "interfaces")]
pub(super) fn list(py: Python<'_>) -> PyResult<Vec<Interface>> {
    // Asking a device waits for the kernel's lock on all devices; other threads need not.
    Ok(py.detach(interfaces::list)?.into_iter().map(Interface::from).collect())
}

/// Switch an interface's generic receive offload on.
#[pyfunction]
pub(super) fn switch_gro_on(py: Python<'_>, interface: &str) -> PyResult<()> {
    Ok(py.detach(|| interfaces::switch_gro_on(interface))?)
}

/// Return whether a device merges datagrams also where no socket asks for it, if it knows.
#[pyfunction]
pub(super) fn udp_gro_forwarding(py: Python<'_>, interface: &str) -> Option<bool> {
    py.detach(|| interfaces::udp_gro_forwarding(interface))
}

impl From<interfaces::Interface> for Interface {
    fn from(found: interfaces::Interface) -> Self {
        let interfaces::Interface {
            name,
            index,
            up,
            multicast,
            loopback,
            carrier,
            mtu,
            gro,
            addresses,
            broadcasts,
        } = found;
        Self { name, index, up, multicast, loopback, carrier, mtu, gro, addresses, broadcasts }
    }
}
