//! The host's interfaces for Python.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use pyo3::prelude::*;

use crate::sockets::interfaces;
use crate::sockets::netlink::links;
use crate::sockets::netlink::stacking::{self, Cards};

/// One network interface of this network namespace, as the kernel lists it.
#[pyclass(name = "Interface", frozen, get_all, module = "mcr._native")]
pub(super) struct PyInterface {
    name: String,
    altnames: Vec<String>,
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
pub(super) fn list(py: Python<'_>) -> PyResult<Vec<PyInterface>> {
    // Asking a device waits for the kernel's lock on all devices; other threads need not.
    Ok(py.detach(interfaces::list)?.into_iter().map(PyInterface::from).collect())
}

/// Where the kernel receives for an interface that does not receive for itself, or who takes what
/// arrives at one.
#[pyclass(name = "Layers", frozen, get_all, module = "mcr._native")]
pub(super) struct PyLayers {
    /// The lowest interfaces that receive for it; just itself if no other does.
    cards: Vec<String>,
    /// Whether one that receives for it is in another network namespace.
    elsewhere: bool,
    /// The bridge or bond that takes what arrives here.
    receiving_master: Option<String>,
    /// How many groups it keeps, if it is a bridge that snoops.
    snooped_groups: Option<u32>,
}

/// Return how the interfaces of the calling thread's network namespace stand on each other.
#[pyfunction(name = "layers")]
pub(super) fn list_layers(py: Python<'_>) -> PyResult<HashMap<String, PyLayers>> {
    let links = py.detach(links::list)?;
    let names = |cards: BTreeSet<u32>| {
        cards.into_iter().filter_map(|card| Some(links.get(&card)?.name.clone())).collect()
    };
    let each = links.values().map(|link| {
        let Cards { here, elsewhere } = stacking::cards(link.index, &links);
        let receiving_master = stacking::receiving_master(link.index, &links)
            .map(|receiving_master| receiving_master.name.clone());
        let snooped_groups = link.layers.snooped_groups;
        (
            link.name.clone(),
            PyLayers { cards: names(here), elsewhere, receiving_master, snooped_groups },
        )
    });
    Ok(each.collect())
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

impl From<interfaces::HostInterface> for PyInterface {
    fn from(found: interfaces::HostInterface) -> Self {
        let interfaces::HostInterface {
            name,
            altnames,
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
        Self {
            name,
            altnames,
            index,
            up,
            multicast,
            loopback,
            carrier,
            mtu,
            gro,
            addresses,
            broadcasts,
        }
    }
}
