//! A sender of test traffic: as fast as one thread can, or evenly spaced. If the send buffer is
//! full it waits; it drops nothing itself.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use socket2::SockRef;

use super::RunLimits;
use super::batch::ProbeBatch;
use super::pacing::{self, Pace};
use super::spacing::{Departures, Spacing};
use crate::error::{Error, Result};
use crate::sockets::output;
use crate::spec::OutputSpec;
use crate::sys::sockopt;

/// The requested send buffer. An interface queues 1000 frames by default (pfifo_fast); with this
/// size the sender reaches its own limit, at which it waits, before the interface's, which drops.
const SEND_BUFFER_BYTES: libc::c_int = 256 << 10;

/// The pause after a refused datagram, which is lost. It lets the cause recover, and limits the
/// processor time spent on a dead network.
const REST: Duration = Duration::from_millis(1);

/// A socket and the state of its stream.
#[derive(Debug)]
pub struct Sender {
    fd: OwnedFd,
    batch: ProbeBatch,
    rate_pps: Option<f64>,
    /// The number of the next datagram.
    next: u64,
}

/// The result of one run. `sent + sum(errors)` is the count of numbers used.
#[derive(Clone, Debug, Default)]
pub struct SendReport {
    /// Datagrams accepted by the kernel.
    pub sent: u64,
    /// Their payload bytes.
    pub sent_bytes: u64,
    /// The duration of the run.
    pub seconds: f64,
    /// Datagrams per second: from the first to the last if they are paced, else over the run.
    pub rate_pps: f64,
    /// Datagrams that the kernel refused, by errno name. They are not sent again.
    pub errors: BTreeMap<String, u64>,
    /// ICMP errors about earlier datagrams. They cost no datagram.
    pub refused: u64,
    /// The evenness of a paced run.
    pub spacing: Option<Spacing>,
}

impl Sender {
    /// Opens a sender of datagrams of `size_bytes` to `target`: one stream with a random id, at
    /// `rate_pps` or as fast as possible.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a size that is too small for the header or exceeds the UDP maximum,
    /// and for a rate that is not positive; errors of opening the socket.
    pub fn open(target: &OutputSpec, size_bytes: usize, rate_pps: Option<f64>) -> Result<Self> {
        if let Some(rate) = rate_pps.filter(|rate| !rate.is_finite() || *rate <= 0.0) {
            return Err(Error::Invalid(format!("rate_pps must be above zero, not {rate}")));
        }
        let batch = ProbeBatch::new(random_name()?, size_bytes, target.address.is_v4())?;
        let socket = output::open(target)?;
        output::connect_to_peer(socket.fd.as_fd(), target)?;
        sockopt::set(socket.fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER_BYTES)
            .map_err(|error| Error::os("setting the send buffer", target.to_string(), error))?;
        let mut sender = Self { fd: socket.fd, batch, rate_pps, next: 0 };
        if size_bytes > usize::from(socket.max_segment) || !sender.segment_by(size_bytes) {
            sender.send_singly();
        }
        Ok(sender)
    }

    /// Sends until a limit is reached or `stop` is set. The numbers continue from the last run. A
    /// paced run raises the priority of the calling thread, which should be a dedicated one.
    pub fn run(&mut self, limits: RunLimits, stop: &AtomicBool) -> SendReport {
        let mut run = SendRun::new(limits, stop);
        match self.rate_pps {
            None => self.run_free(&mut run),
            Some(rate_pps) => self.run_paced(&mut run, rate_pps),
        }
        run.report(self.batch.size_bytes() as u64, self.rate_pps.is_some())
    }

    fn run_free(&mut self, run: &mut SendRun<'_>) {
        while run.is_running() {
            let count = run.left_of(self.batch.segments());
            self.send(run, count);
        }
    }

    fn run_paced(&mut self, run: &mut SendRun<'_>, rate_pps: f64) {
        pacing::raise_priority(rate_pps);
        let pace = Pace::new(run.start, rate_pps);
        while run.is_running() {
            let deadline = pace.deadline(run.used);
            let until = [deadline, run.end].into_iter().flatten().min();
            if !pacing::wait_until(until, run.stop) || !run.is_running() {
                return;
            }
            let (now, Some(deadline)) = (Instant::now(), deadline) else { return };
            // A late call also sends the datagrams that have become due meanwhile.
            let is_due = |number| pace.deadline(number).is_some_and(|deadline| deadline <= now);
            let more = (run.used + 1..).take_while(|number| is_due(*number));
            let count = 1 + more.take(run.left_of(self.batch.segments()) - 1).count();
            run.departures.note(now, deadline, count as u64);
            self.send(run, count);
        }
    }

    /// Sends up to `count` datagrams with one call, which is repeated while there is no room.
    fn send(&mut self, run: &mut SendRun<'_>, count: usize) {
        let mut is_retry = false;
        while run.is_running() {
            let (numbers, bytes) = self.batch.stamp(self.next, count);
            let Err(error) = SockRef::from(&self.fd).send(bytes) else {
                run.sent += numbers;
                run.refused += u64::from(is_retry);
                return self.advance(run, numbers);
            };
            match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                Errno::EAGAIN => pacing::wait_ready(self.fd.as_fd(), PollFlags::POLLOUT, run.end),
                Errno::EINTR => {}
                // It may be the error of an earlier datagram, returned instead of sending this one.
                errno if !is_retry && is_icmp_error(errno) => is_retry = true,
                errno if self.reduce_batch(errno) => {}
                errno => {
                    *run.errors.entry(format!("{errno:?}")).or_default() += numbers;
                    thread::sleep(REST);
                    return self.advance(run, numbers);
                }
            }
        }
    }

    fn advance(&mut self, run: &mut SendRun<'_>, numbers: u64) {
        self.next = self.next.wrapping_add(numbers);
        run.used += numbers;
    }

    /// Reduces the batch size if the error calls for that; false if a retry would not help.
    fn reduce_batch(&mut self, errno: Errno) -> bool {
        match errno {
            _ if self.batch.segments() == 1 => return false,
            // Older kernels accept fewer segments, and return this also if a segment exceeds the
            // MTU.
            Errno::EINVAL if self.batch.segments() > 2 => self.batch.halve(),
            // Larger than the MTU (which may have changed), or a device without support.
            Errno::EINVAL | Errno::EMSGSIZE | Errno::EIO => self.send_singly(),
            _ => return false,
        }
        true
    }

    fn send_singly(&mut self) {
        self.batch.send_singly();
        // The option would only refuse datagrams that do not fit; others are sent in the same way.
        self.segment_by(0);
    }

    /// Sets the size at which the kernel segments a call's data; false if it cannot.
    fn segment_by(&self, size_bytes: usize) -> bool {
        libc::c_int::try_from(size_bytes).is_ok_and(|size| {
            sockopt::set(self.fd.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, size).is_ok()
        })
    }
}

/// One run: its limits and its counts.
#[derive(Debug)]
struct SendRun<'a> {
    stop: &'a AtomicBool,
    start: Instant,
    end: Option<Instant>,
    count: u64,
    used: u64,
    sent: u64,
    refused: u64,
    errors: BTreeMap<String, u64>,
    departures: Departures,
}

impl<'a> SendRun<'a> {
    fn new(limits: RunLimits, stop: &'a AtomicBool) -> Self {
        let start = Instant::now();
        Self {
            stop,
            start,
            end: limits.end(start),
            count: limits.count.unwrap_or(u64::MAX),
            used: 0,
            sent: 0,
            refused: 0,
            errors: BTreeMap::new(),
            departures: Departures::new(),
        }
    }

    fn is_running(&self) -> bool {
        self.used < self.count
            && !self.stop.load(Ordering::Relaxed)
            && self.end.is_none_or(|end| Instant::now() < end)
    }

    fn left_of(&self, segments: usize) -> usize {
        usize::try_from(self.count - self.used).map_or(segments, |left| left.min(segments))
    }

    fn report(self, size_bytes: u64, paced: bool) -> SendReport {
        let seconds = self.start.elapsed().as_secs_f64();
        let span = self.departures.span().as_secs_f64();
        let (count, over) =
            if paced { (self.sent.saturating_sub(1), span) } else { (self.sent, seconds) };
        SendReport {
            sent: self.sent,
            sent_bytes: self.sent * size_bytes,
            seconds,
            rate_pps: if over > 0.0 { count as f64 / over } else { 0.0 },
            errors: self.errors,
            refused: self.refused,
            spacing: self.departures.spacing(),
        }
    }
}

/// Errors that an ICMP message leaves on a connected socket for the next call.
fn is_icmp_error(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNREFUSED
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::ENOPROTOOPT
            | Errno::EPROTO
            | Errno::EACCES
    )
}

fn random_name() -> Result<u32> {
    let mut name = [0; 4];
    let file = "/dev/urandom";
    std::fs::File::open(file)
        .and_then(|mut random| std::io::Read::read_exact(&mut random, &mut name))
        .map_err(|error| Error::os("reading", file, error))?;
    Ok(u32::from_ne_bytes(name))
}
