//! The IPsec policies of this host (<linux/xfrm.h>).
//!
//! The kernel answers only processes with CAP_NET_ADMIN in the network namespace.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, parse_u32};

use super::messages::attributes;
use super::query::{QueryError, QuerySocket, request};
use crate::error::Result;

const TARGET: &str = "xfrm";

/// A socket for requests in the network namespace in which it was opened.
#[derive(Debug)]
pub struct IpsecSocket {
    queries: QuerySocket,
}

impl IpsecSocket {
    /// Opens it in the calling thread's network namespace; `None` from a kernel without IPsec.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn open() -> Result<Option<Self>> {
        super::optional(QuerySocket::open(libc::NETLINK_XFRM, TARGET))
            .map(|queries| queries.map(|queries| Self { queries }))
    }

    /// The number of policies for outgoing datagrams, of both IP versions.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN.
    pub fn outgoing_policies(&self) -> io::Result<u32> {
        const XFRM_MSG_GETSPDINFO: u16 = 0x25;
        const XFRMA_SPD_INFO: u16 = 1;
        let flags = [0; 4];
        let mut count = 0;
        let answered =
            self.queries.ask(&request(XFRM_MSG_GETSPDINFO, NLM_F_REQUEST, &flags), |_, payload| {
                let [info] = attributes(payload, flags.len(), [XFRMA_SPD_INFO]);
                // `struct xfrmu_spdinfo`: the numbers of incoming and of outgoing policies.
                let outgoing = info.and_then(|info| info.get(4..8));
                count = outgoing.and_then(|word| parse_u32(word).ok()).unwrap_or(0);
            });
        answered.map(|()| count).map_err(QueryError::into_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::testnet::{in_namespace, ip};

    #[test]
    fn policies_for_outgoing_datagrams_are_counted() {
        in_namespace(|| {
            let socket = IpsecSocket::open().unwrap().unwrap();
            assert_eq!(socket.outgoing_policies().unwrap(), 0);
            let add = |way: &str, destination: &str| {
                ip(&format!("xfrm policy add src 0.0.0.0/0 dst {destination} dir {way}"));
            };
            add("in", "239.0.0.0/8");
            assert_eq!(socket.outgoing_policies().unwrap(), 0);
            add("out", "239.0.0.0/8");
            add("out", "192.0.2.0/24");
            assert_eq!(socket.outgoing_policies().unwrap(), 2);
        });
    }
}
