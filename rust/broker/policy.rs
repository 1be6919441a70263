//! Requests that a genuine worker never sends, rejected before anything is done. What the kernel
//! refuses by itself, privileges aside, is left to it.

use std::io;

use super::deletions::is_there;
use super::messages::{InterfaceId, Request};
use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::sockets::filter;
use crate::sockets::ingress::Ingress;
use crate::sockets::ring_shape;
use crate::spec::OutputSpec;

/// The most outputs of a rule that the kernel relays, and the most devices that they are on
/// (`bpf/layout.h`).
const MAX_KERNEL_OUTPUTS: u32 = 64;
const MAX_DEVICES: usize = 8;

/// How a request violates the policy, if it does.
pub(super) fn violation(
    request: &Request,
    ingress: Ingress,
    buffer_bytes: usize,
) -> Option<&'static str> {
    if ingress_of(request).is_some_and(|of| of != ingress) {
        return Some("a socket of the other ingress");
    }
    if interface(request).is_some_and(|interface| interface.index == 0 || !interface.is_named()) {
        return Some("an invalid interface");
    }
    match request {
        Request::Frames { blocks, ring, .. } => {
            let is_ring = ring.is_none_or(|shape| ring_shape::is_packet_ring(shape, buffer_bytes));
            let ring = (!is_ring).then_some("an unexpected packet ring size");
            ring.or_else(|| filter_violation(blocks))
        }
        Request::Filter { blocks, .. } => filter_violation(blocks),
        Request::Pin { pins, .. } if pins.len() > filter::MOST_PINS => Some("too many pins"),
        Request::Join { group, sources, .. } | Request::Leave { group, sources, .. } => {
            join_violation(*group, sources)
        }
        Request::Datagrams { group, is_broadcast, is_everywhere, is_beside_own, .. }
            if (*is_everywhere || *is_beside_own) && (group.is_multicast() || *is_broadcast) =>
        {
            Some("a group as a local address")
        }
        Request::NarrowBy { sources, .. } if sources.is_empty() => {
            Some("a membership without sources")
        }
        Request::PortGuard { address, .. } if address.is_multicast() => {
            Some("a port guard on a group")
        }
        // Otherwise it would share a local address with the program that has it.
        Request::GroHelperAnywhere { group, .. } if !group.is_multicast() => {
            Some("a group that is not multicast")
        }
        Request::KernelFan { shape } => shape_violation(shape),
        Request::Output { spec, is_connected, .. } => output_violation(spec, *is_connected),
        _ => None,
    }
}

/// How a request for an XDP link violates the policy: a worker has the transmit queue of its own
/// number, and with `--egress socket` none.
pub(super) fn link_violation(
    request: &Request,
    worker: u16,
    links_allowed: bool,
) -> Option<&'static str> {
    match request {
        Request::XdpLink { .. } if !links_allowed => Some("an XDP link, which is not allowed"),
        Request::XdpLink { queue, .. } if *queue != u32::from(worker) => {
            Some("the transmit queue of another worker")
        }
        _ => None,
    }
}

/// Checks that the interface exists.
///
/// # Errors
/// ENODEV, as from the kernel.
pub(super) fn find(interface: &InterfaceId) -> Result<()> {
    if is_there(interface.index) {
        return Ok(());
    }
    let gone = io::Error::from_raw_os_error(libc::ENODEV);
    Err(Error::os("opening a socket", &*interface.name, gone))
}

/// The ingress that a request belongs to, or `None` if it is for both.
fn ingress_of(request: &Request) -> Option<Ingress> {
    match request {
        Request::Frames { .. }
        | Request::Filter { .. }
        | Request::Pin { .. }
        | Request::AllMulticast { .. }
        | Request::Join { .. }
        | Request::Leave { .. }
        | Request::GroHelper { .. }
        | Request::PortGuard { .. } => Some(Ingress::Packet),
        // Datagrams to a local address that arrive on another interface use UDP sockets with either
        // ingress.
        Request::Datagrams { is_everywhere: true, .. } => None,
        Request::Datagrams { .. }
        | Request::JoinBy { .. }
        | Request::LeaveBy { .. }
        | Request::NarrowBy { .. } => Some(Ingress::Udp),
        _ => None,
    }
}

/// The interface that a request depends on.
pub(super) fn interface(request: &Request) -> Option<&InterfaceId> {
    match request {
        Request::Frames { interface, .. }
        | Request::Join { interface, .. }
        | Request::GroHelper { interface, .. }
        | Request::PortGuard { interface, .. }
        | Request::Hooks { interface, .. }
        | Request::XdpLink { interface, .. }
        | Request::KernelHook { interface }
        | Request::Datagrams { interface, .. } => Some(interface),
        _ => None,
    }
}

fn shape_violation(shape: &[(u32, u16)]) -> Option<&'static str> {
    let outputs: u32 = shape.iter().map(|(_, count)| u32::from(*count)).sum();
    let is_valid = |(ifindex, count): &(u32, u16)| *ifindex > 0 && *count > 0;
    if !(1..=MAX_DEVICES).contains(&shape.len()) || outputs > MAX_KERNEL_OUTPUTS {
        Some("outputs that no rule in the kernel has")
    } else if !shape.iter().all(is_valid) || !shape.is_sorted_by(|one, next| one.0 < next.0) {
        Some("devices that are not sorted")
    } else {
        None
    }
}

fn filter_violation(blocks: &[(Addr, u8)]) -> Option<&'static str> {
    if blocks.len() > filter::MOST_BLOCKS {
        return Some("too many addresses for a filter");
    }
    let is_block = |(first, bits): &(Addr, u8)| *bits <= first.width();
    (!blocks.iter().all(is_block)).then_some("a block wider than its family")
}

fn join_violation(group: Addr, sources: &[Addr]) -> Option<&'static str> {
    let is_sender = |source: &Addr| source.is_v4() == group.is_v4() && !source.is_multicast();
    if !group.is_multicast() {
        Some("a group that is not multicast")
    } else if !sources.iter().all(is_sender) {
        Some("an invalid source")
    } else {
        None
    }
}

fn output_violation(spec: &OutputSpec, is_connected: bool) -> Option<&'static str> {
    let has_place = !is_connected || spec.ifindex != 0 || !spec.address.is_multicast();
    if spec.interface.is_empty() && spec.ifindex != 0 {
        Some("an interface without a name")
    } else if !has_place {
        Some("a group without an interface")
    } else {
        spec.check().err()
    }
}
