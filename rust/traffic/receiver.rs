//! A receiver of test traffic: a group on one interface, from any or listed sources, or an address
//! of this host.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::poll::PollFlags;

use super::tally::{ReceiveReport, Tally};
use super::{RunLimits, pacing, realtime_ns};
use crate::addr::Addr;
use crate::error::{Error, Result};
use crate::sockets::{InterfaceRef, socket, udp_input};
use crate::stats::sequences::SequenceSpec;
use crate::sys::recv::{Inbox, ReceivedDatagrams};
use crate::sys::sockopt;

/// The input of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverSpec {
    /// A group, an address of this host, or a broadcast address.
    pub address: Addr,
    /// Whether `address` is a broadcast address.
    pub broadcast: bool,
    /// The UDP port.
    pub port: u16,
    /// The interface's index; 0 to receive an address on any interface.
    pub ifindex: u32,
    /// The interface's name, for messages.
    pub interface: String,
    /// The source addresses to receive from; empty for any. Only for a group.
    pub sources: Vec<Addr>,
    /// Whether the kernel may deliver several datagrams at once (UDP_GRO).
    pub gro: bool,
    /// How to read the numbers in the datagrams of each sender; `None` reads them not.
    pub sequence: Option<SequenceSpec>,
}

/// A socket, joined from the start, and the counts of what it has received.
///
/// Any thread may request a report; only one at a time may receive.
#[derive(Debug)]
pub struct Receiver {
    fd: OwnedFd,
    tally: Mutex<Tally>,
    queue: Mutex<ReceiveQueue>,
}

impl Receiver {
    /// Opens the socket and joins the group.
    ///
    /// # Errors
    /// [`Error::Invalid`] for sources of an address that is not a group; errors of opening the
    /// socket and joining.
    pub fn open(input: &ReceiverSpec) -> Result<Self> {
        let is_group = input.address.is_multicast();
        if !is_group && !input.sources.is_empty() {
            let reason =
                format!("sources: {} is not a group, so it cannot have sources", input.address);
            return Err(Error::Invalid(reason));
        }
        let name = if input.ifindex == 0 { "any interface" } else { &input.interface };
        let interface = InterfaceRef { index: input.ifindex, name };
        let wish = udp_input::UdpInputRequest::on(interface, input.address, input.port);
        let is_everywhere = input.ifindex == 0;
        let wish =
            udp_input::UdpInputRequest { is_broadcast: input.broadcast, is_everywhere, ..wish };
        let fd = udp_input::open(&wish)?.fd;
        let set = |level, name, value: libc::c_int, call| {
            sockopt::set(fd.as_fd(), level, name, value)
                .map_err(|error| Error::os(call, input.address.to_string(), error))
        };
        set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1, "enabling timestamps")?;
        set(libc::SOL_UDP, libc::UDP_GRO, input.gro.into(), "setting UDP_GRO")?;
        if is_group {
            udp_input::join(fd.as_fd(), input.ifindex, input.address, &input.sources)?;
        }
        let tally = Mutex::new(Tally::new(input.sequence));
        Ok(Self { fd, tally, queue: Mutex::default() })
    }

    /// Receives until a limit is reached or `stop` is set. Datagrams beyond `limits.count` remain
    /// for the next run.
    ///
    /// # Errors
    /// [`Error::Invalid`] while another thread receives; [`Error::Os`] if the kernel refuses.
    pub fn run(&self, limits: RunLimits, stop: &AtomicBool) -> Result<()> {
        let Ok(mut queue) = self.queue.try_lock() else {
            return Err(Error::Invalid("this receiver is already receiving".to_owned()));
        };
        let start = Instant::now();
        let end = limits.end(start);
        let (mut left, mut heard) = (limits.count.unwrap_or(u64::MAX), start);
        while left > 0 && !stop.load(Ordering::Relaxed) {
            let count = queue.count(&mut self.tally(), left);
            left -= count;
            let now = Instant::now();
            if count > 0 {
                heard = now;
            }
            let idle_end = limits.idle.and_then(|idle| heard.checked_add(idle));
            let until = [end, idle_end].into_iter().flatten().min();
            if until.is_some_and(|until| until <= now) {
                break;
            }
            if queue.is_empty() && !queue.refill(&self.fd)? {
                pacing::wait_ready(self.fd.as_fd(), PollFlags::POLLIN, until);
            }
        }
        Ok(())
    }

    /// The counts so far.
    ///
    /// # Errors
    /// [`Error::Os`] if the kernel does not report its drops.
    pub fn report(&self) -> Result<ReceiveReport> {
        let dropped = socket::drops(self.fd.as_fd())
            .map_err(|error| Error::os("reading the drops", "the receiver", error))?;
        Ok(self.tally().report(dropped))
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        // The counts are consistent between any two statements; a panic elsewhere leaves them
        // usable.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The datagrams of the last call that are not counted yet.
#[derive(Debug, Default)]
struct ReceiveQueue {
    inbox: Inbox,
    next: usize,
    /// The counted bytes of message `next`.
    done_bytes: usize,
}

impl ReceiveQueue {
    fn is_empty(&self) -> bool {
        self.next == self.inbox.messages().len()
    }

    /// Receives more from the kernel; false if there is nothing.
    fn refill(&mut self, fd: &OwnedFd) -> Result<bool> {
        (self.next, self.done_bytes) = (0, 0);
        match self.inbox.fill(fd.as_fd()) {
            Ok(()) => Ok(true),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Ok(false)
            }
            Err(error) => Err(Error::os("receiving", "the socket", error)),
        }
    }

    /// Counts up to `limit` datagrams; returns how many.
    fn count(&mut self, tally: &mut Tally, limit: u64) -> u64 {
        let mut count = 0;
        while let Some(&message) = self.inbox.messages().get(self.next) {
            let arrived_ns = message.arrived_ns.unwrap_or_else(realtime_ns);
            let first = self.done_bytes;
            let bytes = self.inbox.bytes(message);
            loop {
                if count == limit {
                    if self.done_bytes > first {
                        let counted = &bytes[first..self.done_bytes];
                        tally.read_numbers(message, counted, arrived_ns);
                    }
                    return count;
                }
                let rest = &bytes[self.done_bytes..];
                let datagram = &rest[..datagram_bytes(message, rest.len())];
                tally.add(datagram, arrived_ns);
                count += 1;
                if datagram.len() == rest.len() {
                    break;
                }
                self.done_bytes += datagram.len();
            }
            tally.read_numbers(message, &bytes[first..], arrived_ns);
            self.next += 1;
            self.done_bytes = 0;
        }
        count
    }
}

fn datagram_bytes(message: ReceivedDatagrams, rest: usize) -> usize {
    if message.segment_bytes == 0 { rest } else { message.segment_bytes.min(rest) }
}
