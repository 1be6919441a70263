//! The leases of a broker as records, by which another supervisor takes the sockets over: those of
//! all workers wait there as after the death of their worker.
//!
//! A record has a fixed size and begins with the version of its form. XDP links end with their
//! worker, and memberships on sockets of their own are joined again before this process leaves
//! them, so neither has a record.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::deletions::is_there;
use super::key::SocketKey;
use super::leases::{LeaseState, LeasedSocket, PacketLease, SocketDetails};
use super::memberships::Member;
use super::server::BrokerServer;
use super::wire::WireFormat;
use crate::error::{Error, Result};

/// The size of a record in bytes: more than the largest lease takes.
pub const RECORD_BYTES: usize = 512;
/// The version of the form of records.
pub const RECORD_FORM: u16 = 1;

impl BrokerServer {
    /// The record and the socket of each lease; the sockets stay open here.
    pub fn leased(&self) -> impl Iterator<Item = ([u8; RECORD_BYTES], BorrowedFd<'_>)> {
        let workers = (0_u16..).zip(&self.workers);
        workers.flat_map(|(number, worker)| {
            let leases = worker.leases.in_order();
            leases.filter_map(move |held| Some((record(number, held)?, held.fd.as_fd())))
        })
    }

    /// Takes over a socket of another supervisor's broker. One whose interface is gone is closed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a record of another form, or a worker that does not exist; the
    /// kernel's.
    pub fn adopt(&mut self, record: &[u8], socket: OwnedFd) -> Result<()> {
        let invalid = || Error::Invalid("the record of a socket has another form".to_owned());
        let (number, lease) = HandedLease::parse(record).ok_or_else(invalid)?;
        if let Some(index) = lease.key.ifindex() {
            self.watch_deletion(index)?;
            if !is_there(index) {
                return Ok(());
            }
        }
        if let SocketDetails::Frames(PacketLease { group: Some(group), .. }) = &lease.details {
            self.last_group = self.last_group.max(*group);
        }
        let worker = self.workers.get_mut(usize::from(number)).ok_or_else(invalid)?;
        worker.leases.adopt(lease.key, socket, lease.details, lease.state);
        Ok(())
    }
}

/// A lease without its socket.
struct HandedLease {
    state: LeaseState,
    key: SocketKey,
    details: SocketDetails,
}

/// The record of a lease; `None` if it is not handed over.
fn record(worker: u16, held: &LeasedSocket) -> Option<[u8; RECORD_BYTES]> {
    let mut bytes = Vec::with_capacity(RECORD_BYTES);
    RECORD_FORM.write(&mut bytes);
    worker.write(&mut bytes);
    let state: u8 = match held.state {
        // Its worker ends: whoever continues claims it.
        LeaseState::Claimed | LeaseState::Orphaned => 0,
        LeaseState::Unclaimed => 1,
        LeaseState::Retired => 2,
    };
    state.write(&mut bytes);
    held.key.write(&mut bytes);
    held.what.write_to(&mut bytes)?;
    bytes.resize(RECORD_BYTES.max(bytes.len()), 0);
    bytes.try_into().ok()
}

impl HandedLease {
    /// Parses a record; `None` if it has another form.
    fn parse(mut bytes: &[u8]) -> Option<(u16, Self)> {
        if bytes.len() != RECORD_BYTES || u16::read(&mut bytes)? != RECORD_FORM {
            return None;
        }
        let worker = u16::read(&mut bytes)?;
        let state = match u8::read(&mut bytes)? {
            0 => LeaseState::Orphaned,
            1 => LeaseState::Unclaimed,
            2 => LeaseState::Retired,
            _ => return None,
        };
        let key = SocketKey::read(&mut bytes)?;
        let details = SocketDetails::read_from(&mut bytes, &key)?;
        let is_end = bytes.iter().all(|byte| *byte == 0);
        is_end.then_some((worker, Self { state, key, details }))
    }
}

impl SocketDetails {
    /// `None` for what is not handed over.
    fn write_to(&self, to: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Frames(frames) => {
                (frames.receive_buffer_bytes as u64).write(to);
                frames.vnet_hdr.write(to);
                frames.ring.write(to);
                frames.asked.write(to);
                frames.takes_all.write(to);
                frames.group.write(to);
            }
            Self::Datagrams { receive_buffer_bytes: bytes, .. }
            | Self::Output { send_buffer_bytes: bytes } => (*bytes as u64).write(to),
            Self::Helper { .. } => {}
            Self::XdpLink { .. } => return None,
        }
        Some(())
    }

    fn read_from(from: &mut &[u8], key: &SocketKey) -> Option<Self> {
        Some(match key {
            SocketKey::Frames { .. } => Self::Frames(PacketLease {
                receive_buffer_bytes: read_size(from)?,
                vnet_hdr: bool::read(from)?,
                ring: WireFormat::read(from)?,
                asked: WireFormat::read(from)?,
                takes_all: bool::read(from)?,
                wants_all: false,
                group: WireFormat::read(from)?,
            }),
            // Its worker joins again, which changes nothing for a socket that is a member.
            SocketKey::Datagrams { .. } => Self::Datagrams {
                receive_buffer_bytes: read_size(from)?,
                member: Member::default(),
            },
            SocketKey::Output { .. } => Self::Output { send_buffer_bytes: read_size(from)? },
            SocketKey::GroHelper { .. }
            | SocketKey::GroHelperAnywhere { .. }
            | SocketKey::GroHelperForPort { .. }
            | SocketKey::PortGuard { .. } => Self::Helper { vote: None },
            SocketKey::XdpLink { .. } => return None,
        })
    }
}

fn read_size(from: &mut &[u8]) -> Option<usize> {
    usize::try_from(u64::read(from)?).ok()
}

impl WireFormat for SocketKey {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Frames { ifindex } => (1_u8, *ifindex).write(to),
            Self::Datagrams { ifindex, group, port, is_broadcast, is_everywhere } => {
                (2_u8, *ifindex).write(to);
                (*group, *port).write(to);
                (*is_broadcast, *is_everywhere).write(to);
            }
            Self::GroHelper { ifindex, group, port } => {
                (3_u8, *ifindex).write(to);
                (*group, *port).write(to);
            }
            Self::GroHelperAnywhere { group, port } => {
                to.push(4);
                (*group, *port).write(to);
            }
            Self::GroHelperForPort { v4, port } => {
                to.push(5);
                (*v4, *port).write(to);
            }
            Self::PortGuard { ifindex, address, port } => {
                (6_u8, *ifindex).write(to);
                (*address, *port).write(to);
            }
            Self::XdpLink { ifindex } => (7_u8, *ifindex).write(to),
            Self::Output { key, spec } => {
                (8_u8, *key).write(to);
                spec.write(to);
            }
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Some(match u8::read(from)? {
            1 => Self::Frames { ifindex: u32::read(from)? },
            2 => Self::Datagrams {
                ifindex: u32::read(from)?,
                group: WireFormat::read(from)?,
                port: u16::read(from)?,
                is_broadcast: bool::read(from)?,
                is_everywhere: bool::read(from)?,
            },
            3 => Self::GroHelper {
                ifindex: u32::read(from)?,
                group: WireFormat::read(from)?,
                port: u16::read(from)?,
            },
            4 => Self::GroHelperAnywhere { group: WireFormat::read(from)?, port: u16::read(from)? },
            5 => Self::GroHelperForPort { v4: bool::read(from)?, port: u16::read(from)? },
            6 => Self::PortGuard {
                ifindex: u32::read(from)?,
                address: WireFormat::read(from)?,
                port: u16::read(from)?,
            },
            7 => Self::XdpLink { ifindex: u32::read(from)? },
            8 => Self::Output { key: u64::read(from)?, spec: WireFormat::read(from)? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
