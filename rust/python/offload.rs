//! What decides on this host whether the kernel can relay, for Python.

use pyo3::prelude::*;

use crate::error::{Error, Result};
use crate::sockets::InterfaceRef;
use crate::sockets::device_features::{self, LeftFeature};
use crate::sockets::interfaces::Devices;
use crate::sockets::netlink::devices::DeviceSocket;
use crate::sockets::netlink::link::LowerLink;
use crate::sockets::netlink::links;
use crate::sockets::netlink::netfilter::Direction;
use crate::sockets::netlink::stacking;
use crate::sockets::netlink::traffic::TrafficSocket;
use crate::sockets::xdp::hooks;
use crate::sockets::xdp::obstacle::XdpObstacle;
use crate::sockets::xdp::survey::XdpSurvey;

/// What an interface and its driver can do with XDP.
#[pyclass(name = "XdpDevice", frozen, get_all, module = "mcr._native")]
pub(super) struct PyXdpDevice {
    /// Whether the driver runs XDP programs itself; None if the kernel does not say.
    runs: Option<bool>,
    /// Whether the driver sends frames of XDP programs.
    sends: bool,
    /// The number of the XDP program that is attached; None without one.
    program: Option<u32>,
    /// The features (ethtool) that are on and merge frames before XDP programs get them.
    merging: Vec<&'static str>,
    /// Whether it is a veth.
    veth: bool,
    /// The name of the other end of a veth; None if that is in another network namespace.
    peer: Option<String>,
    /// The interface above it that gets its untagged frames; None without one.
    receiver_above: Option<String>,
}

/// Return what an interface of the calling thread's network namespace can do with XDP; None if it
/// does not exist.
///
/// Raises InterfaceError if the kernel does not answer.
#[pyfunction]
pub(super) fn xdp_device(py: Python<'_>, interface: &str) -> PyResult<Option<PyXdpDevice>> {
    Ok(py.detach(|| read(interface))?)
}

fn read(name: &str) -> Result<Option<PyXdpDevice>> {
    let links = links::list()?;
    let Some(link) = links.values().find(|link| link.name == name) else { return Ok(None) };
    let failed = |error| Error::os("querying", name, error);
    let devices = DeviceSocket::open()?;
    let peer = match link.layers.peer {
        Some(LowerLink::Here(index)) => links.get(&index).map(|peer| peer.name.clone()),
        _ => None,
    };
    let above = stacking::receiver_above(link.index, 0, &links);
    Ok(Some(PyXdpDevice {
        runs: devices.runs_xdp(link.index).map_err(failed)?,
        sends: devices.sends_xdp(link.index).map_err(failed)?,
        program: TrafficSocket::open()?.link_users(link.index).map_err(failed)?.program,
        merging: Devices::open()?.merging_before_xdp(name),
        veth: link.layers.peer.is_some(),
        peer,
        receiver_above: above.map(|above| above.name.clone()),
    }))
}

/// Return what else inspects the datagrams of one IP version that arrive at an interface, and would
/// miss those that the kernel relays: a word (`capture`, `filter`, `firewall` or `refused`) and a
/// sentence; None if nothing does.
///
/// `to_sockets`: whether they are received through UDP sockets, behind the firewall.
#[pyfunction]
pub(super) fn input_obstacle(
    py: Python<'_>,
    interface: &str,
    is_v4: bool,
    to_sockets: bool,
) -> PyResult<Option<(&'static str, String)>> {
    let obstacle = py.detach(|| {
        let links = links::list()?;
        let Some(link) = links.values().find(|link| link.name == interface) else {
            return Ok(None);
        };
        let of = Direction::Received { to_sockets };
        let hooks = hooks::read(&InterfaceRef { index: link.index, name: interface }, of);
        Ok::<_, Error>(XdpSurvey::open()?.input_obstacle(link, is_v4, &hooks))
    });
    Ok(obstacle?.map(|obstacle| {
        let word = match &obstacle {
            XdpObstacle::Capture(_) => "capture",
            XdpObstacle::Filtered(_) => "filter",
            XdpObstacle::Hook(_) => "firewall",
            _ => "refused",
        };
        (word, obstacle.to_string())
    }))
}

/// Switch on the features of interfaces of the calling thread's network namespace that a process of
/// mcr had switched off and left so, since it was killed or had no rights any more.
///
/// Returns pairs of interface and feature. Raises McrError if no descriptor is left.
#[pyfunction]
pub(super) fn restore_features(py: Python<'_>) -> PyResult<Vec<(String, String)>> {
    Ok(pairs(py.detach(device_features::restore_left)?))
}

/// Return what `restore_features` would switch on.
#[pyfunction]
pub(super) fn left_features(py: Python<'_>) -> PyResult<Vec<(String, String)>> {
    Ok(pairs(py.detach(device_features::left)?))
}

fn pairs(left: Vec<LeftFeature>) -> Vec<(String, String)> {
    left.into_iter().map(|one| (one.interface, one.feature)).collect()
}
