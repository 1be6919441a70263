//! How long the pool of buffers takes to hand a filled buffer out and to offer it again.
//!
//! The kernel fills the buffers with real datagrams. Only what happens in this process is timed:
//! reading the completion, taking the buffer, giving it back and, once a round, telling the
//! kernel. Sending and receiving happen between the rounds.

use std::hint::black_box;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use _native::engine::buffers::SizeClass;
use _native::sys::ring::{PoolId, ReceiveLayout, Ring, RingEvent};
use criterion::{Criterion, Throughput};

/// Bytes for all classes of buffers, so that the pool is the one of a relay by default.
const BUDGET_BYTES: usize = 32 << 20;
/// Datagrams in the socket at once: fewer than fit the receive buffer of any host.
const ROUND: u64 = 64;

fn main() -> io::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, class) in [("standard", SizeClass::Standard), ("super-frame", SizeClass::Super)] {
        let mut pool = Pool::new(class)?;
        let mut group = criterion.benchmark_group("pool");
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("take and give back, {name}"), |bencher| {
            bencher.iter_custom(|buffers| match pool.time(buffers) {
                Ok(spent) => spent,
                Err(error) => panic!("{error}"),
            });
        });
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

/// A ring with the buffers of one class, and a socket that fills them.
struct Pool {
    ring: Ring,
    id: PoolId,
    near: UdpSocket,
    far: UdpSocket,
}

impl Pool {
    fn new(class: SizeClass) -> io::Result<Self> {
        let near = UdpSocket::bind("127.0.0.1:0")?;
        let far = UdpSocket::bind("127.0.0.1:0")?;
        far.connect(near.local_addr()?)?;
        let mut ring = Ring::new()?;
        let id = ring.add_pool(class.buffers(BUDGET_BYTES)?)?;
        let mut pool = Self { ring, id, near, far };
        pool.listen()?;
        Ok(pool)
    }

    fn listen(&mut self) -> io::Result<()> {
        self.ring.receive(self.near.as_fd(), self.id, ReceiveLayout::Datagram, 0)
    }

    /// Uses as many buffers, and says how long the pool had to do with them.
    fn time(&mut self, buffers: u64) -> io::Result<Duration> {
        let (mut used, mut spent) = (0, Duration::ZERO);
        while used < buffers {
            for _ in 0..ROUND {
                self.far.send(b"datagram")?;
            }
            let mut left = ROUND;
            while left > 0 {
                self.ring.wait()?;
                let start = Instant::now();
                let (taken, armed) = self.use_what_is_there();
                spent += start.elapsed();
                left -= taken;
                if !armed {
                    self.listen()?;
                }
            }
            used += ROUND;
        }
        // Rounds are whole: their time is shared out among the buffers that were asked for.
        Ok(spent.mul_f64(buffers as f64 / used as f64))
    }

    /// Takes every filled buffer and gives it back; how many, and whether more will be filled.
    fn use_what_is_there(&mut self) -> (u64, bool) {
        let (mut taken, mut still_armed) = (0, true);
        while let Some(event) = self.ring.next_event() {
            match event {
                RingEvent::Received { buffer, armed, .. } => {
                    taken += 1;
                    still_armed &= armed;
                    self.ring.give_back(black_box(buffer));
                }
                RingEvent::Ended { .. } => still_armed = false,
                RingEvent::Woken | RingEvent::Readable { .. } | RingEvent::NotCancelled { .. } => {}
            }
        }
        self.ring.offer_buffers();
        (taken, still_armed)
    }
}
