//! The opening of XDP links in this process.

use std::io;
use std::thread;
use std::time::Duration;

use super::hooks;
use super::obstacle::XdpObstacle;
use super::survey::XdpSurvey;
use crate::sockets::InterfaceRef;
use crate::sockets::netlink::link::Link;
use crate::sockets::netlink::links;
use crate::sockets::netlink::netfilter::Direction;
use crate::sockets::socket::descriptors_used_up;
use crate::sys::xdp_socket::{self, XdpDescriptors, XdpShape};

/// Bytes of an Ethernet header.
const ETHERNET: u32 = 14;
/// For an MTU that fits no frame: longer datagrams leave through sockets.
const LARGEST: u32 = 4096;

/// How often, and after which pauses, a queue in use is tried: the kernel frees it a moment after
/// the last descriptor of its socket was closed (net/xdp/xsk_buff_pool.c, `xp_put_pool`).
const ATTEMPTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// Opens a link on a queue of an interface, after checking that no frame sent there misses what
/// this host does to datagrams.
///
/// # Errors
/// What is in the way; [`XdpObstacle::QueueInUse`] may pass: see [`until_free`].
pub fn open(
    interface: &InterfaceRef<'_>,
    queue: u32,
) -> Result<(XdpDescriptors, XdpShape), XdpObstacle> {
    let link = find(interface)?;
    let hooks = hooks::read(interface, Direction::Sent);
    let survey = XdpSurvey::open().map_err(|error| XdpObstacle::Refused(error.to_string()))?;
    for is_v4 in [true, false] {
        if let Some(obstacle) = survey.obstacle(&link, queue, is_v4, &hooks) {
            return Err(obstacle);
        }
    }
    let longest = link.mtu.saturating_add(ETHERNET).min(LARGEST);
    let shape = XdpShape::for_frames(longest)
        .ok_or_else(|| XdpObstacle::Refused("its MTU fits no frame".to_owned()))?;
    let opened = xdp_socket::open(interface.index, queue, shape);
    opened.map(|descriptors| (descriptors, shape)).map_err(|error| refused(&error, queue))
}

/// Repeats an attempt for a tenth of a second while the queue is in use.
///
/// # Errors
/// As the attempt.
pub fn until_free<T>(
    mut attempt: impl FnMut() -> Result<T, XdpObstacle>,
) -> Result<T, XdpObstacle> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(XdpObstacle::QueueInUse(_)) => thread::sleep(PAUSE),
            other => return other,
        }
    }
    attempt()
}

fn find(interface: &InterfaceRef<'_>) -> Result<Link, XdpObstacle> {
    let mut links = links::list().map_err(|error| XdpObstacle::Refused(error.to_string()))?;
    let link = links.remove(&interface.index);
    link.filter(|link| link.name == interface.name).ok_or(XdpObstacle::Removed)
}

fn refused(error: &io::Error, queue: u32) -> XdpObstacle {
    let text = |text: &str| XdpObstacle::Refused(text.to_owned());
    match error.raw_os_error() {
        Some(libc::EBUSY) => XdpObstacle::QueueInUse(queue),
        Some(libc::ENODEV | libc::ENXIO) => XdpObstacle::Removed,
        Some(libc::EPERM | libc::EACCES) => text("CAP_NET_RAW is missing: AF_XDP needs it"),
        Some(libc::EAFNOSUPPORT) => text("the kernel has no AF_XDP"),
        Some(libc::ENOBUFS) => text(
            "the limit of locked memory is too low for the frames; raise it (ulimit -l, or \
             LimitMEMLOCK= of the service)",
        ),
        Some(libc::EMFILE) => XdpObstacle::Refused(descriptors_used_up().to_string()),
        _ => XdpObstacle::Refused(format!("AF_XDP: {error}")),
    }
}
