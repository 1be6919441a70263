//! The frame parser, for Python.

use std::net::IpAddr;

use pyo3::prelude::*;

use super::errors::ArgumentError;
use crate::packet::{self, ChecksumState, FrameMeta, LinkType};

/// The UDP datagram that a frame carries.
#[pyclass(name = "Datagram", frozen, get_all, eq, module = "mcr._native")]
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PyDatagram {
    /// The source address.
    source: IpAddr,
    /// The destination address.
    group: IpAddr,
    /// The source port, 0 to 65535.
    source_port: u16,
    /// The destination port, 0 to 65535.
    port: u16,
    /// The TTL, or the hop limit of IPv6, 0 to 255.
    ttl: u8,
    /// The differentiated services code point, 0 to 63.
    dscp: u8,
    /// The VLAN ID, 1 to 4094; 0 for an untagged frame and for a priority tag.
    vlan: u16,
    /// The UDP payload.
    payload: Vec<u8>,
}

/// Why a frame carries no datagram that can be relayed.
#[pyclass(name = "Discard", frozen, get_all, eq, module = "mcr._native")]
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PyDiscard {
    /// The reason, as the counters name it.
    reason: &'static str,
}

/// The result of [`parse_frame`].
#[derive(IntoPyObject)]
pub(super) enum Parsed {
    Datagram(PyDatagram),
    Discard(PyDiscard),
}

#[pymethods]
impl PyDatagram {
    fn __repr__(&self) -> String {
        let Self { source, source_port, group, port, payload, .. } = self;
        format!(
            "Datagram({source} port {source_port} to {group} port {port}, {} bytes)",
            payload.len()
        )
    }
}

#[pymethods]
impl PyDiscard {
    fn __repr__(&self) -> String {
        format!("Discard({})", self.reason)
    }
}

/// Parse an Ethernet frame as the `packet` ingress does.
///
/// Checksums are verified; a VLAN tag is read from the frame. Any bytes are accepted.
/// Raises ArgumentError for anything but bytes.
#[pyfunction]
pub(super) fn parse_frame(frame: &Bound<'_, PyAny>) -> PyResult<Parsed> {
    let Ok(bytes) = frame.extract::<&[u8]>() else {
        let given = frame.get_type().name()?;
        return Err(ArgumentError::new_err(format!("frame must be bytes, not {given}")));
    };
    Ok(parsed(bytes, packet::parse(bytes, UNVERIFIED)))
}

/// Parse a frame of a capture whose IP header begins at `network`.
///
/// `network` is the offset in bytes; None for an Ethernet frame, whose own header says it. With
/// `verify` a wrong UDP checksum is a reason to discard it. Any bytes are accepted.
#[pyfunction]
#[pyo3(signature = (frame, network, verify))]
pub(super) fn parse_captured(frame: &[u8], network: Option<u16>, verify: bool) -> Parsed {
    let checksum = if verify { ChecksumState::Unverified } else { ChecksumState::Ignored };
    let meta = FrameMeta { checksum, ..UNVERIFIED };
    let link = if network.is_some() { LinkType::Other } else { LinkType::Ethernet };
    parsed(frame, packet::parse_of(link, frame, meta, || network.unwrap_or(0)))
}

const UNVERIFIED: FrameMeta =
    FrameMeta { vlan: None, checksum: ChecksumState::Unverified, segment_size: 0 };

fn parsed(frame: &[u8], result: Result<packet::Datagram, packet::Discard>) -> Parsed {
    let datagram = match result {
        Ok(datagram) => datagram,
        Err(reason) => return Parsed::Discard(PyDiscard { reason: reason.name() }),
    };
    let start = datagram.payload.start as usize;
    let payload = frame.get(start..start + datagram.payload.len as usize);
    Parsed::Datagram(PyDatagram {
        source: datagram.source.ip(),
        group: datagram.group.ip(),
        source_port: datagram.source_port,
        port: datagram.port,
        ttl: datagram.ttl,
        dscp: datagram.dscp,
        vlan: datagram.vlan,
        payload: payload.unwrap_or_default().to_vec(),
    })
}
