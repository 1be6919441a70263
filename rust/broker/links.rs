//! The granting of XDP links, and of answers about what a link would bypass.

use super::grants::{Granted, UNKNOWN};
use super::key::SocketKey;
use super::leases::SocketDetails;
use super::messages::{Answer, InterfaceId};
use super::server::WorkerSockets;
use crate::sockets::netlink::netfilter::Direction;
use crate::sockets::xdp::hooks::{self, HostHooks};
use crate::sockets::xdp::link;
use crate::sockets::xdp::obstacle::XdpObstacle;

/// The most links of one worker, one for each interface: each locks some MiB of memory.
const MAX_LINKS: usize = 32;

impl WorkerSockets {
    /// What the host does to datagrams that leave the interface.
    pub(super) fn hooks(interface: &InterfaceId, of: Direction) -> Answer {
        let HostHooks { v4, v6 } = hooks::read(&interface.as_ref(), of);
        Answer::Hooks { v4, v6 }
    }

    /// Opens a link, if nothing is in the way now. What is added to the interface later is watched
    /// by the worker alone.
    pub(super) fn xdp_link(&mut self, interface: &InterfaceId, queue: u32) -> Granted {
        self.check_room()?;
        if self.leases.links() >= MAX_LINKS {
            let text = format!("a worker may have {MAX_LINKS} XDP links");
            return Ok(Answer::NoXdpLink { why: XdpObstacle::Refused(text) });
        }
        Ok(match link::open(&interface.as_ref(), queue) {
            Ok((opened, shape)) => {
                let key = SocketKey::XdpLink { ifindex: interface.index };
                let what = SocketDetails::XdpLink { umem: opened.umem };
                Answer::XdpLink { lease: self.leases.add(key, opened.socket, what), shape }
            }
            Err(why) => Answer::NoXdpLink { why },
        })
    }

    /// Grants the memory of a link's frames.
    pub(super) fn xdp_memory(&mut self, lease: u64) -> Granted {
        self.leases.get(lease).and_then(|held| held.umem()).ok_or(UNKNOWN)?;
        Ok(Answer::XdpMemory { lease })
    }
}
