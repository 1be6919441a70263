//! The interfaces of this host, for Python.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use pyo3::prelude::*;

use crate::error::Error;
use crate::sockets::InterfaceRef;
use crate::sockets::interfaces;
use crate::sockets::netlink::links;
use crate::sockets::netlink::netfilter::Direction;
use crate::sockets::netlink::stacking::{self, Cards};
use crate::sockets::xdp::hooks;
use crate::sockets::xdp::obstacle::XdpObstacle;
use crate::sockets::xdp::survey::XdpSurvey;

/// A network interface of this network namespace, as the kernel lists it.
#[pyclass(name = "Interface", frozen, get_all, module = "mcr._native")]
pub(super) struct PyInterface {
    /// The primary name.
    name: String,
    /// The alternative names (ip-link(8), property add).
    altnames: Vec<String>,
    /// The kernel's index, from 1.
    index: u32,
    /// Whether it is administratively up.
    up: bool,
    /// Whether it supports multicast.
    multicast: bool,
    /// Whether it is the loopback.
    loopback: bool,
    /// Whether it has a carrier, so that datagrams can leave.
    carrier: bool,
    /// The MTU in bytes, including the IP header.
    mtu: u32,
    /// Whether generic receive offload is on; False if the device does not report it.
    gro: bool,
    /// The addresses, IPv4 first.
    addresses: Vec<IpAddr>,
    /// The broadcast addresses of its IPv4 networks.
    broadcasts: Vec<Ipv4Addr>,
}

/// Return the interfaces of the calling thread's network namespace, sorted by index.
///
/// Raises InterfaceError if the kernel does not list them.
#[pyfunction(name = "interfaces")]
pub(super) fn list(py: Python<'_>) -> PyResult<Vec<PyInterface>> {
    // Queries of a device wait for the kernel's lock on all devices; other threads continue.
    Ok(py.detach(interfaces::list)?.into_iter().map(PyInterface::from).collect())
}

/// The interfaces below and above an interface.
#[pyclass(name = "Layers", frozen, get_all, module = "mcr._native")]
pub(super) struct PyLayers {
    /// The names of the lowest interfaces that receive for it; its own name if no other does.
    cards: Vec<String>,
    /// Whether one of the interfaces that receive for it is in another network namespace.
    elsewhere: bool,
    /// The name of the bridge or bond that receives what arrives here; None without one.
    receiving_master: Option<String>,
    /// The number of groups in its table if it is a bridge with snooping, else None.
    snooped_groups: Option<u32>,
    /// Whether it asks for memberships itself, if it is such a bridge.
    asks_memberships: bool,
    /// The other hosts that ask for memberships on its links, if it is such a bridge.
    queriers: Vec<IpAddr>,
}

/// Return the layers of each interface of the calling thread's network namespace, by its name.
///
/// Raises InterfaceError if the kernel does not list them.
#[pyfunction(name = "layers")]
pub(super) fn list_layers(py: Python<'_>) -> PyResult<HashMap<String, PyLayers>> {
    let links = py.detach(links::list)?;
    let names = |cards: BTreeSet<u32>| {
        cards.into_iter().filter_map(|card| Some(links.get(&card)?.name.clone())).collect()
    };
    let each = links.values().map(|link| {
        let Cards { here, elsewhere } = stacking::cards(link.index, &links);
        let receiving_master =
            stacking::receiving_master(link.index, &links).map(|master| master.name.clone());
        let snooping = link.layers.snooping.as_ref();
        let snooped_groups = snooping.map(|bridge| bridge.groups);
        let asks_memberships = snooping.is_some_and(|bridge| bridge.asks);
        let queriers = snooping.map_or_else(Vec::new, |bridge| bridge.queriers.clone());
        (
            link.name.clone(),
            PyLayers {
                cards: names(here),
                elsewhere,
                receiving_master,
                snooped_groups,
                asks_memberships,
                queriers,
            },
        )
    });
    Ok(each.collect())
}

/// Switch generic receive offload of an interface on.
///
/// Raises RightsError without CAP_NET_ADMIN, InterfaceError if the device does not support it.
#[pyfunction]
pub(super) fn switch_gro_on(py: Python<'_>, interface: &str) -> PyResult<()> {
    Ok(py.detach(|| interfaces::switch_gro_on(interface))?)
}

/// Return whether an interface merges datagrams also if no socket requests it.
///
/// None if the device or the kernel does not have the feature (rx-udp-gro-forwarding).
#[pyfunction]
pub(super) fn udp_gro_forwarding(py: Python<'_>, interface: &str) -> Option<bool> {
    py.detach(|| interfaces::udp_gro_forwarding(interface))
}

/// Return why copies to groups of one IP version cannot leave an interface through AF_XDP, if they
/// cannot. Whether another program has the queue is not tried.
#[pyfunction]
pub(super) fn xdp_obstacle(
    py: Python<'_>,
    interface: &str,
    is_v4: bool,
) -> PyResult<Option<String>> {
    let obstacle = py.detach(|| {
        let links = links::list()?;
        let Some(link) = links.values().find(|link| link.name == interface) else {
            return Ok(Some(XdpObstacle::Removed));
        };
        let hooks =
            hooks::read(&InterfaceRef { index: link.index, name: interface }, Direction::Sent);
        Ok::<_, Error>(XdpSurvey::open()?.obstacle(link, 0, is_v4, &hooks))
    });
    Ok(obstacle?.map(|obstacle| obstacle.to_string()))
}

impl From<interfaces::HostInterface> for PyInterface {
    fn from(interface: interfaces::HostInterface) -> Self {
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
        } = interface;
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
