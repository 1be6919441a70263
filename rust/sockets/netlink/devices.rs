//! What the drivers of interfaces can do for XDP (generic netlink, family `netdev`, since Linux
//! 6.3; <linux/netdev.h>). No query needs a privilege.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, parse_u16, parse_u64};

use super::messages::attributes;
use super::query::{QueryError, QuerySocket, attribute, request};
use crate::error::Result;

const TARGET: &str = "generic netlink";

/// Length of `struct genlmsghdr`; the attributes follow.
const HEADER_BYTES: usize = 4;

/// A socket for requests in the network namespace in which it was opened.
#[derive(Debug)]
pub struct DeviceSocket {
    queries: QuerySocket,
    /// The kernel's number of the family; `None` if the kernel has none.
    family: Option<u16>,
}

impl DeviceSocket {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// No descriptor is left, or generic netlink is unavailable.
    pub fn open() -> Result<Self> {
        let queries = QuerySocket::open(libc::NETLINK_GENERIC, TARGET)?;
        let family = family(&queries);
        Ok(Self { queries, family })
    }

    /// Whether the driver sends the frames that XDP programs redirect to the interface. False if
    /// the kernel does not say.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn sends_xdp(&self, ifindex: u32) -> io::Result<bool> {
        /// `NETDEV_XDP_ACT_NDO_XMIT`.
        const SENDS: u64 = 4;
        Ok(self.xdp_features(ifindex)?.unwrap_or(0) & SENDS != 0)
    }

    /// Whether the driver runs XDP programs itself, and lets them redirect; `None` if the kernel
    /// does not say.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn runs_xdp(&self, ifindex: u32) -> io::Result<Option<bool>> {
        /// `NETDEV_XDP_ACT_BASIC` and `NETDEV_XDP_ACT_REDIRECT`.
        const RUNS: u64 = 1 | 2;
        Ok(self.xdp_features(ifindex)?.map(|features| features & RUNS == RUNS))
    }

    fn xdp_features(&self, ifindex: u32) -> io::Result<Option<u64>> {
        /// `NETDEV_CMD_DEV_GET`, `NETDEV_A_DEV_IFINDEX`, `NETDEV_A_DEV_XDP_FEATURES`.
        const GET: u8 = 1;
        const IFINDEX: u16 = 1;
        const XDP_FEATURES: u16 = 3;
        let Some(family) = self.family else { return Ok(None) };
        let payload = [vec![GET, 1, 0, 0], attribute(IFINDEX, &ifindex.to_ne_bytes())].concat();
        let mut features = None;
        let answered = self.queries.ask(&request(family, NLM_F_REQUEST, &payload), |_, payload| {
            let [value] = attributes(payload, HEADER_BYTES, [XDP_FEATURES]);
            features = value.and_then(|value| parse_u64(value).ok());
        });
        match answered {
            Ok(()) => Ok(features),
            // The interface is gone.
            Err(QueryError::Refused(_)) => Ok(None),
            Err(QueryError::Missing(error)) => Err(error),
        }
    }
}

/// The number of the family `netdev`.
fn family(queries: &QuerySocket) -> Option<u16> {
    /// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_ID` and `CTRL_ATTR_FAMILY_NAME`.
    const CONTROL: u16 = 0x10;
    const GET_FAMILY: u8 = 3;
    const ID: u16 = 1;
    const NAME: u16 = 2;
    let payload = [vec![GET_FAMILY, 1, 0, 0], attribute(NAME, b"netdev\0")].concat();
    let mut found = None;
    let asked = queries.ask(&request(CONTROL, NLM_F_REQUEST, &payload), |_, payload| {
        let [id] = attributes(payload, HEADER_BYTES, [ID]);
        found = id.and_then(|id| parse_u16(id).ok());
    });
    asked.ok().and(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::testnet::{FAR, NEAR, interface, ip, with_cable};

    #[test]
    fn the_driver_of_a_cable_sends_frames_if_its_other_end_receives_them() {
        with_cable(|| {
            let devices = DeviceSocket::open().unwrap();
            let sends = |name| devices.sends_xdp(interface(name).index).unwrap();
            let set_gro = |on| {
                let socket = crate::sockets::socket::open(libc::AF_INET, libc::SOCK_DGRAM, FAR);
                let socket = socket.unwrap();
                crate::sys::netdev::set_gro(std::os::fd::AsFd::as_fd(&socket), FAR, on).unwrap();
            };
            set_gro(true);
            assert!(sends(NEAR));
            set_gro(false);
            assert!(!sends(NEAR));
            ip("link add bridge7 type bridge");
            assert!(!sends("bridge7"));
            assert!(!devices.sends_xdp(7777).unwrap());
            let runs = |name| devices.runs_xdp(interface(name).index).unwrap();
            assert_eq!([NEAR, "bridge7"].map(runs), [Some(true), Some(false)]);
            assert_eq!(devices.runs_xdp(7777).unwrap(), None);
        });
    }
}
