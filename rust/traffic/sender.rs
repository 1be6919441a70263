//! A sender of test traffic: as fast as one thread can, or evenly spaced. A full send buffer
//! makes it wait; it drops nothing itself. It must not know groups from hosts.

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

/// The send buffer asked for. An interface queues 1000 frames by default (pfifo_fast); with this
/// a sender meets its own limit, at which it waits, before the interface's, which drops.
const SEND_BUFFER_BYTES: libc::c_int = 256 << 10;

/// A refused datagram is lost. The next one leaves after this rest, so that what refused it may
/// recover, and a dead network costs no processor.
const REST: Duration = Duration::from_millis(1);

/// A socket, and where its stream of datagrams stands.
#[derive(Debug)]
pub struct Sender {
    fd: OwnedFd,
    batch: ProbeBatch,
    rate_pps: Option<f64>,
    /// The number that the next datagram gets.
    next: u64,
}

/// What one run of a sender did. `sent + sum(errors)` is how many numbers it used.
#[derive(Clone, Debug, Default)]
pub struct SendReport {
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Their payload bytes.
    pub sent_bytes: u64,
    /// How long the run took.
    pub seconds: f64,
    /// Datagrams per second: from the first to the last where they are paced, else over the run.
    pub rate_pps: f64,
    /// Datagrams that the kernel refused, by the name of its error. They are not sent again.
    pub errors: BTreeMap<String, u64>,
    /// ICMP errors that answered an earlier datagram. They cost none.
    pub refused: u64,
    /// How even a pace was.
    pub spacing: Option<Spacing>,
}

impl Sender {
    /// Opens a sender of datagrams of `size_bytes` to `target`: one stream, whose name is chosen
    /// here, at `rate_pps` or as fast as it goes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a size that cannot hold the header or exceeds what UDP carries,
    /// and for a rate that is not above zero; and what opening the socket meets.
    pub fn open(target: &OutputSpec, size_bytes: usize, rate_pps: Option<f64>) -> Result<Self> {
        if let Some(rate) = rate_pps.filter(|rate| !rate.is_finite() || *rate <= 0.0) {
            return Err(Error::Invalid(format!("rate_pps must be above zero, and is {rate}")));
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

    /// Sends until a limit is reached or `stop` is set. Numbers go on where the last run ended.
    /// A paced run raises the priority of the calling thread, which is best one of its own.
    pub fn run(&mut self, limits: RunLimits, stop: &AtomicBool) -> SendReport {
        let mut run = SendRun::new(limits, stop);
        match self.rate_pps {
            None => self.run_free(&mut run),
            Some(rate_pps) => self.run_paced(&mut run, rate_pps),
        }
        run.report(self.batch.size_bytes() as u64, self.rate_pps.is_some())
    }

    fn run_free(&mut self, run: &mut SendRun<'_>) {
        while run.goes_on() {
            let count = run.left_of(self.batch.segments());
            self.send(run, count);
        }
    }

    fn run_paced(&mut self, run: &mut SendRun<'_>, rate_pps: f64) {
        pacing::be_prompt(rate_pps);
        let pace = Pace::new(run.start, rate_pps);
        while run.goes_on() {
            let deadline = pace.deadline(run.used);
            let until = [deadline, run.end].into_iter().flatten().min();
            if !pacing::wait_until(until, run.stop) || !run.goes_on() {
                return;
            }
            let (now, Some(deadline)) = (Instant::now(), deadline) else { return };
            // One that is late takes those along whose time has come meanwhile.
            let is_due = |number| pace.deadline(number).is_some_and(|deadline| deadline <= now);
            let more = (run.used + 1..).take_while(|number| is_due(*number));
            let count = 1 + more.take(run.left_of(self.batch.segments()) - 1).count();
            run.departures.note(now, deadline, count as u64);
            self.send(run, count);
        }
    }

    /// Sends up to `count` datagrams with one call, and calls again while there is no room.
    fn send(&mut self, run: &mut SendRun<'_>, count: usize) {
        let mut answered = false;
        while run.goes_on() {
            let (numbers, bytes) = self.batch.stamp(self.next, count);
            let Err(error) = SockRef::from(&self.fd).send(bytes) else {
                run.sent += numbers;
                run.refused += u64::from(answered);
                return self.advance(run, numbers);
            };
            match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                Errno::EAGAIN => pacing::wait_ready(self.fd.as_fd(), PollFlags::POLLOUT, run.end),
                Errno::EINTR => {}
                // Perhaps it tells of an earlier datagram, and took the place of this one.
                errno if !answered && is_answer(errno) => answered = true,
                errno if self.shrinks(errno) => {}
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

    /// Learns from what the kernel says of a batch: true if a smaller one is worth a try.
    fn shrinks(&mut self, errno: Errno) -> bool {
        match errno {
            _ if self.batch.segments() == 1 => return false,
            // Older kernels take fewer segments, and say so, too, where one exceeds the MTU.
            Errno::EINVAL if self.batch.segments() > 2 => self.batch.halve(),
            // Over the MTU (which may have changed), or a device that cannot.
            Errno::EINVAL | Errno::EMSGSIZE | Errno::EIO => self.send_singly(),
            _ => return false,
        }
        true
    }

    fn send_singly(&mut self) {
        self.batch.send_singly();
        // A datagram that fits is sent the same way either way; the option only forbids others.
        self.segment_by(0);
    }

    /// Sets the size at which the kernel cuts what one call sends; false where it cannot.
    fn segment_by(&self, size_bytes: usize) -> bool {
        libc::c_int::try_from(size_bytes).is_ok_and(|size| {
            sockopt::set(self.fd.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, size).is_ok()
        })
    }
}

/// One run: its limits and its account.
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

    fn goes_on(&self) -> bool {
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

/// Errors that an ICMP message leaves on a connected socket, for the next call to find.
fn is_answer(errno: Errno) -> bool {
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
