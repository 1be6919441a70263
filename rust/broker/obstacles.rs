//! The encoding of what is in the way of an XDP link.

use super::wire::WireFormat;
use crate::sockets::netlink::netfilter::Direction;
use crate::sockets::xdp::hooks::HostHook;
use crate::sockets::xdp::obstacle::XdpObstacle;

impl WireFormat for HostHook {
    fn write(&self, to: &mut Vec<u8>) {
        let none = String::new();
        let (kind, text) = match self {
            Self::Chain(name) => (0, name),
            Self::Table(name) => (1, name),
            Self::Function(name) => (2, name),
            Self::Program => (3, &none),
            Self::Policy => (4, &none),
            Self::Unreadable(why) => (5, why),
            Self::GroupProgram => (6, &none),
            Self::Received(what) => (7, what),
        };
        to.push(kind);
        text.write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let (kind, text) = (u8::read(from)?, String::read(from)?);
        Some(match kind {
            0 => Self::Chain(text),
            1 => Self::Table(text),
            2 => Self::Function(text),
            3 if text.is_empty() => Self::Program,
            4 if text.is_empty() => Self::Policy,
            5 => Self::Unreadable(text),
            6 if text.is_empty() => Self::GroupProgram,
            7 => Self::Received(text),
            _ => return None,
        })
    }
}

impl WireFormat for Direction {
    fn write(&self, to: &mut Vec<u8>) {
        let kind: u8 = match self {
            Self::Sent => 0,
            Self::Received { to_sockets: false } => 1,
            Self::Received { to_sockets: true } => 2,
        };
        kind.write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Some(match u8::read(from)? {
            0 => Self::Sent,
            kind @ (1 | 2) => Self::Received { to_sockets: kind == 2 },
            _ => return None,
        })
    }
}

impl WireFormat for XdpObstacle {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Removed => to.push(0),
            Self::NotEthernet(interface) => (1_u8, interface.clone()).write(to),
            Self::Down(interface) => (2_u8, interface.clone()).write(to),
            Self::NoQueue { interface, queue, queues } => {
                (3_u8, interface.clone()).write(to);
                (*queue, *queues).write(to);
            }
            Self::QueueInUse(queue) => (4_u8, *queue).write(to),
            Self::Discipline { interface, kind } => {
                (5_u8, interface.clone()).write(to);
                kind.write(to);
            }
            Self::Filter(interface) => (6_u8, interface.clone()).write(to),
            Self::Hook(hook) => (7_u8, hook.clone()).write(to),
            Self::MulticastRouting => to.push(8),
            Self::LocalMember(interface) => (9_u8, interface.clone()).write(to),
            Self::Refused(why) => (10_u8, why.clone()).write(to),
            Self::Filtered(interface) => (11_u8, interface.clone()).write(to),
            Self::Capture(interface) => (12_u8, interface.clone()).write(to),
        }
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Some(match u8::read(from)? {
            0 => Self::Removed,
            1 => Self::NotEthernet(String::read(from)?),
            2 => Self::Down(String::read(from)?),
            3 => Self::NoQueue {
                interface: String::read(from)?,
                queue: u32::read(from)?,
                queues: u32::read(from)?,
            },
            4 => Self::QueueInUse(u32::read(from)?),
            5 => Self::Discipline { interface: String::read(from)?, kind: String::read(from)? },
            6 => Self::Filter(String::read(from)?),
            7 => Self::Hook(HostHook::read(from)?),
            8 => Self::MulticastRouting,
            9 => Self::LocalMember(String::read(from)?),
            10 => Self::Refused(String::read(from)?),
            11 => Self::Filtered(String::read(from)?),
            12 => Self::Capture(String::read(from)?),
            _ => return None,
        })
    }
}
