//! What the drivers of outputs' interfaces can do, read once in each look at all rules.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::sockets::netlink::devices::DeviceSocket;

/// One look at the drivers.
pub(in crate::relay) struct Drivers<'a> {
    devices: &'a DeviceSocket,
    /// By the index of the interface.
    known: RefCell<BTreeMap<u32, bool>>,
}

impl<'a> Drivers<'a> {
    pub(in crate::relay) fn new(devices: &'a DeviceSocket) -> Self {
        Self { devices, known: RefCell::default() }
    }

    /// Whether the driver sends frames of XDP.
    pub(in crate::relay) fn sends_xdp(&self, ifindex: u32) -> bool {
        let read = || self.devices.sends_xdp(ifindex).unwrap_or(false);
        *self.known.borrow_mut().entry(ifindex).or_insert_with(read)
    }
}
