//! The AF_PACKET socket of one worker on one interface, from its creation until it queues the first
//! frame. It must not depend on rules, only on the destinations that they name.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use libc::c_int;
use nix::sys::signal::SigSet;

use super::{InterfaceRef, filter, socket};
use crate::addr::Addr;
use crate::error::{Error, MissingRight, Result};
use crate::packet::LinkType;
use crate::sys::packet_ring::{self, PacketRing, RingShape};
use crate::sys::{sockaddr, sockopt};
use filter::Pin;

/// The requested receive buffer in bytes.
pub const RECEIVE_BUFFER_BYTES: usize = 16 << 20;

/// Reassembles fragments, and ignores frames that the host sends. The socket option
/// PACKET_IGNORE_OUTGOING has no effect in a group; the group has a flag of its own.
const FANOUT_FLAGS: u32 =
    libc::PACKET_FANOUT_FLAG_DEFRAG | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
/// By a program ([`filter::spread`]), which keeps each flow at one socket of the group.
const BY_PROGRAM: u32 = libc::PACKET_FANOUT_CBPF;
/// By receive queue: the cheapest mode for a group of one socket. Hashing every frame took 5 % of
/// the core that delivers them.
const ALONE: u32 = libc::PACKET_FANOUT_QM;

/// An open AF_PACKET socket that queues the frames that its filter passes.
#[derive(Debug)]
pub struct PacketSocket {
    /// The descriptor, nonblocking.
    pub fd: OwnedFd,
    /// The actual receive buffer, in the unit of [`RECEIVE_BUFFER_BYTES`].
    pub receive_buffer_bytes: usize,
    /// Whether every frame has a `virtio_net_hdr` in front, and super-frames arrive whole.
    pub vnet_hdr: bool,
    /// The ring for the frames, if one was requested and could be created; the caller maps it.
    /// Frames too long for a slot wait in the socket's queue.
    pub ring: Option<RingShape>,
}

/// The fan-out group that a socket joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fanout {
    /// A group that no other socket joins.
    Alone,
    /// A new group for others to join, with an id that the kernel chooses.
    New,
    /// The group with this id, from [`fanout_id`]: the same interface, another worker.
    Join(u16),
}

/// Opens `count` sockets for the frames of an interface, each flow going to one of them. They pass
/// nothing before [`replace_filter`].
///
/// The number of sockets in the group decides which socket a flow goes to. A socket that passed
/// frames from the start would queue some that belong to another socket a moment later, and the
/// flow would come out of both, in any order.
///
/// Frames are received with the device's link header (SOCK_RAW), whatever its type. If the kernel
/// removes the link header (SOCK_DGRAM), it provides no `virtio_net_hdr` (net/packet/af_packet.c,
/// `packet_setsockopt`), and super-frames cannot be told from long datagrams. The kernel reports
/// the offset of the network header with each frame.
///
/// Nothing is queued before the socket joins the group either, because only the group ignores
/// outgoing frames and reassembles fragments.
///
/// # Errors
/// [`Error::Permission`] without CAP_NET_RAW; [`Error::Os`] if the interface is gone or no thread
/// can be started.
pub fn open_group(
    interface: &InterfaceRef<'_>,
    count: u16,
    ring: Option<RingShape>,
    spares: &mut SpareSockets,
) -> Result<Vec<PacketSocket>> {
    let mut sockets = Vec::with_capacity(count.into());
    for unbound in unbound_each(interface.name, count)? {
        sockets.push(bound(interface, ring, unbound, spares)?);
    }
    let mut fanout = if count == 1 { Fanout::Alone } else { Fanout::New };
    for socket in &sockets {
        enter(socket.fd.as_fd(), fanout, interface.name)?;
        if fanout == Fanout::New {
            fanout = Fanout::Join(fanout_id(socket.fd.as_fd())?);
        }
    }
    Ok(sockets)
}

/// Calls [`unbound`] `count` times in parallel, because each call waits some milliseconds for the
/// kernel.
fn unbound_each(target: &str, count: u16) -> Result<Vec<Result<PacketSocket>>> {
    let run = || {
        // Signals are for the main thread.
        SigSet::all().thread_block().ok();
        unbound(target)
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..count)
            .map(|_| thread::Builder::new().spawn_scoped(scope, run))
            .collect::<io::Result<_>>()
            .map_err(|error| Error::os("starting a thread", target, error))?;
        let mut sockets = vec![unbound(target)];
        let panicked = |_| Err(Error::Engine(format!("no packet socket for {target}")));
        sockets.extend(others.into_iter().map(|other| other.join().unwrap_or_else(panicked)));
        Ok(sockets)
    })
}

/// Binds a socket to its interface, and sets up a ring if possible. If the socket could not be
/// opened for lack of privileges, uses a spare one.
fn bound(
    interface: &InterfaceRef<'_>,
    ring: Option<RingShape>,
    unbound: Result<PacketSocket>,
    spares: &mut SpareSockets,
) -> Result<PacketSocket> {
    let (mut socket, is_spare) = match unbound {
        Err(Error::Permission(right)) => (spares.take(right)?, true),
        other => (other?, false),
    };
    let fd = socket.fd.as_fd();
    if let Err(error) = bind(fd, interface) {
        // An interface that is gone again must not use up a spare socket.
        spares.sockets.extend(is_spare.then_some(socket));
        return Err(error);
    }
    // Without a ring, frames are received one by one: slower, but nothing is lost.
    let ring = ring.filter(|_| socket.vnet_hdr).and_then(|shape| open_ring(fd, shape).ok());
    socket.ring = ring;
    Ok(socket)
}

/// A socket that is set up except for its interface. It queues nothing, and can never send.
fn unbound(target: &str) -> Result<PacketSocket> {
    let owned = socket::open(libc::AF_PACKET, libc::SOCK_RAW, target)?;
    let fd = owned.as_fd();
    let vnet_hdr = sockopt::set(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1_i32).is_ok();
    socket::set(fd, (libc::SOL_PACKET, libc::PACKET_AUXDATA), 1, "PACKET_AUXDATA", target)?;
    let receive_buffer_bytes = socket::receive_buffer(fd, RECEIVE_BUFFER_BYTES, target)?;
    socket::drop_all(fd, target)?;
    // It is handed to a process that parses network input, and must not be able to send for it.
    packet_ring::tx_disable(fd)
        .map_err(|error| socket::refused("disabling transmission", target, error))?;
    Ok(PacketSocket { fd: owned, receive_buffer_bytes, vnet_hdr, ring: None })
}

/// Sockets opened in advance, for interfaces that appear after the privilege is dropped: binding
/// one needs no privilege.
#[derive(Debug, Default)]
pub struct SpareSockets {
    sockets: Vec<PacketSocket>,
    /// Whether there ever were any.
    kept: bool,
}

impl SpareSockets {
    /// Opens `count` more.
    ///
    /// # Errors
    /// [`Error::Permission`] without CAP_NET_RAW.
    pub fn fill(&mut self, count: usize) -> Result<()> {
        self.kept = true;
        for _ in 0..count {
            self.sockets.push(unbound("a spare packet socket")?);
        }
        Ok(())
    }

    fn take(&mut self, refusal: MissingRight) -> Result<PacketSocket> {
        let used_up = "the packet sockets that were kept for new interfaces are used up: \
                       restart mcr";
        let why = |kept| if kept { used_up.to_owned().into() } else { refusal };
        self.sockets.pop().ok_or_else(|| Error::Permission(why(self.kept)))
    }
}

/// Whether this thread may open AF_PACKET sockets.
#[must_use]
pub fn is_permitted() -> bool {
    socket::open(libc::AF_PACKET, libc::SOCK_RAW, "the packet ingress").is_ok()
}

/// The id of the socket's fan-out group.
///
/// # Errors
/// [`Error::Os`] if `fd` is not an AF_PACKET socket.
pub fn fanout_id(fd: BorrowedFd<'_>) -> Result<u16> {
    Ok(fanout_of(fd)?.0)
}

/// Decides which socket of the group gets the datagrams for these destinations; the others are
/// spread by flow. A flow whose socket stays the same keeps its order. Does nothing for a group of
/// one socket.
///
/// # Errors
/// [`Error::Invalid`] if a socket of an older version has founded the group, or for more than
/// [`filter::MOST_PINS`] pins; [`Error::Os`] if the kernel refuses.
pub fn pin(fd: BorrowedFd<'_>, pins: &[Pin]) -> Result<()> {
    let [mode, _] = fanout_of(fd)?.1;
    if pins.len() > filter::MOST_PINS {
        let text = "several workers can merge at most 1000 inputs of an interface; start with \
                    workers 1";
        return Err(Error::Invalid(text.to_owned()));
    }
    match u32::from(mode) {
        ALONE => Ok(()),
        BY_PROGRAM => sockopt::set_program(
            fd,
            libc::SOL_PACKET,
            libc::PACKET_FANOUT_DATA,
            &filter::spread(pins),
        )
        .map_err(|error| socket::refused("spreading flows", "a packet socket", error)),
        _ if pins.is_empty() => Ok(()),
        _ => {
            let text = "the sockets of the version before cannot lead the inputs of a rule to one \
                        worker; restart mcr";
            Err(Error::Invalid(text.to_owned()))
        }
    }
}

/// The id of the socket's fan-out group, and its mode and flags.
fn fanout_of(fd: BorrowedFd<'_>) -> Result<(u16, [u8; 2])> {
    let mut value = 0_u32;
    sockopt::get(fd, libc::SOL_PACKET, libc::PACKET_FANOUT, &mut value)
        .map_err(|error| Error::os("reading the fan-out group", "a packet socket", error))?;
    // packet(7): the id is in the lower half, type and flags in the upper one.
    let [low, high, mode, flags] = value.to_le_bytes();
    Ok((u16::from_le_bytes([low, high]), [mode, flags]))
}

/// Whether the interface that the socket was bound to still exists; a new interface with the same
/// index does not count.
#[must_use]
pub fn has_interface(fd: BorrowedFd<'_>) -> bool {
    // The kernel sets the index to -1 when the interface is removed (net/packet/af_packet.c,
    // NETDEV_UNREGISTER).
    sockaddr::bound_interface(fd).is_ok_and(|index| index > 0)
}

/// The link layer type of the socket's interface.
///
/// # Errors
/// [`Error::Os`] if `fd` is not an AF_PACKET socket.
pub fn link_type(fd: BorrowedFd<'_>) -> Result<LinkType> {
    let hardware = sockaddr::bound_hardware(fd);
    hardware
        .map(LinkType::of)
        .map_err(|error| Error::os("reading the type of the interface", "a packet socket", error))
}

/// Switches to other destinations, atomically: no frame is lost or wrongly passed by the change.
///
/// # Errors
/// [`Error::Os`], naming net.core.optmem_max if the program is too large for it.
pub fn replace_filter(fd: BorrowedFd<'_>, blocks: &[(Addr, u8)]) -> Result<()> {
    let program = filter::destinations(blocks, link_type(fd)?);
    sockopt::attach_filter(fd, &program).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOMEM) => {
            Error::os("attaching a filter", "a packet socket (raise net.core.optmem_max)", error)
        }
        _ => socket::refused("attaching a filter", "a packet socket", error),
    })
}

/// Makes the interface receive all multicast as long as the socket is open, or stops that. The
/// kernel counts the requests.
///
/// # Errors
/// [`Error::Os`] if the interface is gone.
pub fn take_all_multicast(
    fd: BorrowedFd<'_>,
    interface: &InterfaceRef<'_>,
    on: bool,
) -> Result<()> {
    let call = if on { libc::PACKET_ADD_MEMBERSHIP } else { libc::PACKET_DROP_MEMBERSHIP };
    let request = libc::packet_mreq {
        mr_ifindex: link_index(interface)?,
        mr_type: u16::try_from(libc::PACKET_MR_ALLMULTI).unwrap_or_default(),
        mr_alen: 0,
        mr_address: [0; 8],
    };
    sockopt::set(fd, libc::SOL_PACKET, call, request)
        .map_err(|error| socket::refused("receiving all multicast", interface.name, error))
}

/// Sets up a ring; frames too long for a slot are queued whole.
fn open_ring(fd: BorrowedFd<'_>, shape: RingShape) -> io::Result<RingShape> {
    /// Not in libc (linux/if_packet.h).
    const PACKET_COPY_THRESH: c_int = 7;
    sockopt::set(fd, libc::SOL_PACKET, PACKET_COPY_THRESH, 1_i32)?;
    PacketRing::reserve(fd, shape).map(|()| shape)
}

fn bind(fd: BorrowedFd<'_>, interface: &InterfaceRef<'_>) -> Result<()> {
    sockaddr::bind_link_layer(fd, link_index(interface)?)
        .map_err(|error| socket::refused("binding a packet socket", interface.name, error))
}

/// The interface's index in the type of the kernel's link-layer calls.
fn link_index(interface: &InterfaceRef<'_>) -> Result<c_int> {
    c_int::try_from(interface.index)
        .map_err(|_| Error::Invalid(format!("no interface has the index {}", interface.index)))
}

fn enter(fd: BorrowedFd<'_>, fanout: Fanout, target: &str) -> Result<()> {
    // UNIQUEID is set only for the first socket: the kernel does not store it in the group.
    let value = match fanout {
        Fanout::Alone => (ALONE | FANOUT_FLAGS | libc::PACKET_FANOUT_FLAG_UNIQUEID) << 16,
        Fanout::New => (BY_PROGRAM | FANOUT_FLAGS | libc::PACKET_FANOUT_FLAG_UNIQUEID) << 16,
        Fanout::Join(id) => ((BY_PROGRAM | FANOUT_FLAGS) << 16) | u32::from(id),
    };
    sockopt::set(fd, libc::SOL_PACKET, libc::PACKET_FANOUT, value)
        .map_err(|error| socket::refused("joining a fan-out group", target, error))?;
    // Without a program all frames would go to the first socket.
    if fanout == Fanout::New { pin(fd, &[]) } else { Ok(()) }
}

#[cfg(test)]
mod ring_tests;
#[cfg(test)]
mod tests;
