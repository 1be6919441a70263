//! What a relay would do with a datagram, for Python.

use std::net::IpAddr;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::specs;
use crate::error::Error;
use crate::packet::{Datagram, Span};
use crate::relay::{CopyHost, CopyPreview, Explainer, TableMiss};

/// The rules of a relay, to find what it would do with a datagram. Sends nothing.
///
/// `rules` is a JSON array from `rules.spec.rule_specs`. The interfaces of inputs are compared by
/// `ifindex`, which may be any number here. Raises RuleError for invalid values.
#[pyclass(name = "RuleExplainer", frozen, module = "mcr._native")]
pub(super) struct PyExplainer {
    explainer: Explainer,
}

/// A datagram from Python: source and port, group and port, TTL, DSCP, VLAN and size in bytes.
type GivenDatagram = ((IpAddr, u16), (IpAddr, u16), u8, u8, u16, u16);

#[pymethods]
impl PyExplainer {
    #[new]
    fn new(rules: &[u8]) -> PyResult<Self> {
        Ok(Self { explainer: Explainer::new(specs::read_rules(rules)?) })
    }

    /// Look a datagram up that arrived on the interface with this number.
    ///
    /// `datagram` has the source and its port, the group and its port, TTL, DSCP, VLAN and size in
    /// bytes. Returns the indices of the rules that relay it, the reason if none does, and at most
    /// `most` other rules for the group: index, and why not (shadowed, disabled, interface, port,
    /// vlan or source).
    fn explain(
        &self,
        interface: u32,
        datagram: GivenDatagram,
        most: usize,
    ) -> (Vec<usize>, Option<&'static str>, Vec<(usize, &'static str)>) {
        let found = self.explainer.explain(interface, &read(datagram), most);
        let others =
            found.others.into_iter().map(|(index, miss): (_, TableMiss)| (index, miss.name()));
        (found.matched, found.reason.map(|reason| reason.name()), others.collect())
    }

    /// Return the copies of a datagram that the outputs of rules would send, as dictionaries.
    ///
    /// One list for each rule in `rules`, by its index. Reads links, routes and neighbours of the
    /// calling thread's network namespace. Raises InterfaceError if the kernel does not list them,
    /// RuleError for an index that no rule has.
    fn copies<'py>(
        &self,
        py: Python<'py>,
        rules: Vec<usize>,
        datagram: GivenDatagram,
    ) -> PyResult<Vec<Vec<Bound<'py, PyDict>>>> {
        let datagram = read(datagram);
        let copies = py.detach(|| {
            let host = CopyHost::read()?;
            let of = |index: &usize| {
                let rule = self.explainer.rules().get(*index);
                let rule =
                    rule.ok_or_else(|| Error::Invalid(format!("there is no rule {index}")))?;
                let outputs = 0..rule.outputs.len();
                Ok::<_, Error>(outputs.map(|output| host.copy(rule, output, &datagram)).collect())
            };
            rules.iter().map(of).collect::<Result<Vec<Vec<CopyPreview>>, Error>>()
        })?;
        let dicts = |of: Vec<CopyPreview>| of.into_iter().map(|each| copy_dict(py, each)).collect();
        copies.into_iter().map(dicts).collect()
    }
}

fn read(given: GivenDatagram) -> Datagram {
    let ((source, source_port), (group, port), ttl, dscp, vlan, size) = given;
    Datagram {
        source: source.into(),
        group: group.into(),
        source_port,
        port,
        ttl,
        dscp,
        vlan,
        payload: Span { start: 0, len: size.into() },
        segments: 1,
    }
}

fn copy_dict(py: Python<'_>, copy: CopyPreview) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("destination", copy.destination.ip())?;
    dict.set_item("port", copy.port)?;
    dict.set_item("source", copy.source.map(|source| source.ip()))?;
    dict.set_item("source_port", copy.source_port)?;
    dict.set_item("ttl", copy.ttl)?;
    dict.set_item("dscp", copy.dscp)?;
    dict.set_item("interface", copy.interface)?;
    dict.set_item("gateway", copy.gateway.map(|hop| hop.ip()))?;
    let text = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    dict.set_item("mac", copy.mac.map(text))?;
    dict.set_item("mac_state", copy.mac_state.name())?;
    dict.set_item("mtu", copy.mtu)?;
    dict.set_item("packets", copy.packets)?;
    let (loss, why) = copy.loss.map(|loss| (loss.reason, loss.text)).unzip();
    dict.set_item("loss", loss)?;
    dict.set_item("why", why)?;
    Ok(dict)
}
