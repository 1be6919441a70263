//! The AF_XDP sockets of an engine: their frames, and the counting of what became of each.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::plan::XdpLink;
use crate::sockets::provider::Socket;
use crate::stats::{self, Loss, Writer, output};
use crate::sys::xdp_socket::{FrameFate, XdpSender};

/// The number of frames that are handed to the kernel at once: so many that the system call is
/// cheap, so few that they stay in the cache between being written and being copied.
const BATCH_FRAMES: u32 = 64;
/// How long the frames of an ending engine may take to leave.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// The position of a link; it does not change while the link is in the plans.
pub(super) type LinkPlace = u16;

/// A socket and what waits in it.
struct LinkSender {
    id: u64,
    socket: Arc<Socket>,
    sender: XdpSender,
    /// The number of waiting frames at which they are handed to the kernel.
    full_at: u32,
    /// The reason for copies that find no room.
    loss: Loss,
}

/// The sockets, by place.
#[derive(Default)]
pub(super) struct Links {
    places: Vec<Option<LinkSender>>,
}

impl Links {
    pub(super) fn is_empty(&self) -> bool {
        self.places.iter().all(Option::is_none)
    }

    /// The place of the link with this id, if it could be mapped.
    pub(super) fn place(&self, id: u64) -> Option<LinkPlace> {
        let found = self.places.iter().position(|link| link.as_ref().is_some_and(|l| l.id == id));
        found.and_then(|place| LinkPlace::try_from(place).ok())
    }

    /// Whether the link with this id is at a place.
    #[inline]
    pub(super) fn has(&self, place: LinkPlace, id: u64) -> bool {
        matches!(self.places.get(usize::from(place)), Some(Some(link)) if link.id == id)
    }

    /// Maps new links and drops those that are not in the plan.
    pub(super) fn adopt(&mut self, links: &[XdpLink]) {
        for place in &mut self.places {
            let is_known = |link: &LinkSender| links.iter().any(|known| known.id == link.id);
            *place = place.take().filter(is_known);
        }
        for XdpLink { id, socket, umem, shape } in links {
            if self.place(*id).is_some() {
                continue;
            }
            // Without a mapping its outputs keep their sockets.
            let Ok(sender) = XdpSender::map(socket.as_fd(), umem.as_fd(), *shape) else { continue };
            let link = LinkSender {
                id: *id,
                socket: socket.clone(),
                sender,
                full_at: BATCH_FRAMES,
                loss: Loss::OutputFull,
            };
            match self.places.iter_mut().find(|place| place.is_none()) {
                Some(place) => *place = Some(link),
                None => self.places.push(Some(link)),
            }
        }
    }

    /// Queues a frame with a payload of `bytes` for the output with this counter slot.
    ///
    /// # Errors
    /// The reason why there is no room.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        place: LinkPlace,
        (slot, bytes): (u32, u32),
        counters: &mut Writer,
        mut write: impl FnMut(&mut [u8]) -> Option<usize>,
    ) -> Result<(), Loss> {
        let link = self.places.get_mut(usize::from(place)).and_then(Option::as_mut);
        let link = link.ok_or(Loss::NoCarrier)?;
        let tag = u64::from(slot) << 32 | u64::from(bytes);
        if link.sender.push(tag, &mut write) {
            if link.sender.waiting() >= link.full_at {
                link.flush(counters);
            }
            return Ok(());
        }
        if link.is_ready() {
            link.flush(counters);
            if link.sender.push(tag, write) {
                return Ok(());
            }
        }
        Err(link.loss)
    }

    /// Hands all waiting frames to the kernel, as far as it takes them.
    pub(super) fn flush(&mut self, counters: &mut Writer) {
        for link in self.places.iter_mut().flatten() {
            if link.is_ready() {
                link.flush(counters);
            }
            link.full_at = BATCH_FRAMES;
        }
    }

    /// Whether frames wait that the kernel has refused so far.
    pub(super) fn has_waiting(&self) -> bool {
        self.places.iter().flatten().any(|link| link.sender.waiting() > 0)
    }

    /// The position behind the last frame of a link.
    pub(super) fn position(&self, place: LinkPlace) -> u32 {
        let link = self.places.get(usize::from(place)).and_then(Option::as_ref);
        link.map_or(0, |link| link.sender.position())
    }

    /// Whether every frame of a link before a position has left, as far as its driver reports.
    pub(super) fn has_passed(
        &mut self,
        place: LinkPlace,
        position: u32,
        counters: &mut Writer,
    ) -> bool {
        let Some(Some(link)) = self.places.get_mut(usize::from(place)) else { return true };
        link.flush(counters);
        link.sender.has_passed(position)
    }

    /// Waits until every frame of all links has left, but not longer than `patience`.
    pub(super) fn drain(&mut self, patience: Duration, counters: &mut Writer) {
        let start = Instant::now();
        for place in 0..self.places.len() {
            let Ok(place) = LinkPlace::try_from(place) else { return };
            let last = self.position(place);
            while !self.has_passed(place, last, counters) && start.elapsed() < patience {
                thread::yield_now();
            }
        }
    }

    /// Counts the waiting frames of the links that `is_ending` selects as lost; they never leave.
    pub(super) fn withdraw(&mut self, is_ending: impl Fn(u64) -> bool, counters: &mut Writer) {
        for link in self.places.iter_mut().flatten().filter(|link| is_ending(link.id)) {
            link.withdraw(Loss::OutputFull, counters);
        }
    }

    /// Gives all frames time to leave, and counts the others as lost.
    pub(super) fn finish(&mut self, counters: &mut Writer) {
        if self.has_waiting() {
            let start = Instant::now();
            while self.has_waiting() && start.elapsed() < LAST_WAIT {
                self.flush(counters);
                thread::yield_now();
            }
            self.withdraw(|_| true, counters);
        }
    }
}

#[cfg(test)]
impl Links {
    /// Makes a link send on another socket, such as one that takes nothing.
    pub(super) fn replace_socket(&mut self, place: usize, socket: Arc<Socket>) -> Arc<Socket> {
        std::mem::replace(&mut self.places[place].as_mut().unwrap().socket, socket)
    }
}

impl LinkSender {
    /// Whether something waits, and the kernel has not refused it in this turn.
    fn is_ready(&self) -> bool {
        self.sender.has_entries() && self.full_at <= BATCH_FRAMES
    }

    fn flush(&mut self, counters: &mut Writer) {
        let Self { socket, sender, .. } = self;
        let result = sender.flush(socket.as_fd(), |tag, fate| count(tag, fate, counters));
        match result {
            Ok(()) => self.loss = Loss::OutputFull,
            Err(error) => self.handle_refusal(&error, counters),
        }
    }

    /// Keeps the frames while the driver is full, and counts them as lost after another error.
    #[cold]
    fn handle_refusal(&mut self, error: &io::Error, counters: &mut Writer) {
        match error.raw_os_error() {
            None => (self.full_at, self.loss) = (u32::MAX, Loss::OutputFull),
            Some(libc::ENETDOWN | libc::ENXIO) => {
                self.loss = Loss::NoCarrier;
                self.withdraw(Loss::NoCarrier, counters);
            }
            Some(errno) => {
                let now_ms = counters.now_ms();
                self.sender.withdraw(|tag| {
                    let (slot, _) = split(tag);
                    let errno = u64::from(errno.unsigned_abs());
                    stats::count_send_error(counters.slot(slot), errno, 1, now_ms);
                });
            }
        }
    }

    fn withdraw(&mut self, loss: Loss, counters: &mut Writer) {
        let now_ms = counters.now_ms();
        self.sender.withdraw(|tag| {
            stats::count_loss(counters.slot(split(tag).0), loss, 1, now_ms);
        });
    }
}

/// Counts a frame that the kernel has taken.
#[inline]
fn count(tag: u64, fate: FrameFate, counters: &mut Writer) {
    let (slot, bytes) = split(tag);
    let now_ms = counters.now_ms();
    let words = counters.slot(slot);
    match fate {
        FrameFate::Sent => {
            words[output::SENT] += 1;
            words[output::SENT_BYTES] += u64::from(bytes);
        }
        FrameFate::Discarded => stats::count_loss(words, Loss::OutputFull, 1, now_ms),
    }
}

/// The counter slot and the payload's length in a tag.
#[inline]
fn split(tag: u64) -> (u32, u32) {
    let [slot, bytes] = [tag >> 32, tag & u64::from(u32::MAX)];
    (u32::try_from(slot).unwrap_or(0), u32::try_from(bytes).unwrap_or(0))
}
