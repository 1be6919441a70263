//! The time stamps of a socket without a packet ring (SO_TIMESTAMPNS): with each receive the kernel
//! reports when it took the frame from the driver. That costs some percent of a receive, so a busy
//! socket reports it for a sixteenth of them.

use std::os::fd::BorrowedFd;

use crate::sys::sockopt;

/// The number of receives with time stamps before their rate is judged.
const STAMPED: u32 = 64;
/// The number of receives without, if the rate was high.
const SKIPPED: u32 = 15 * STAMPED;
/// The rate is high if [`STAMPED`] receives took less than this: 4000 a second.
const BUSY_MS: u64 = 16;
/// The longest time without time stamps, so that what comes after a burst is measured.
const LONGEST_MS: u64 = 250;

/// Whether a socket stamps what it receives, and until when.
pub(super) struct TimeStamps {
    are_on: bool,
    /// Receives until the rate is judged.
    left: u32,
    since_ms: u64,
}

impl TimeStamps {
    /// Has a socket stamp what it receives from now on.
    pub(super) fn begin(fd: BorrowedFd<'_>, now_ms: u64) -> Self {
        switch(fd, true);
        Self { are_on: true, left: STAMPED, since_ms: now_ms }
    }

    /// Counts a receive, and switches the time stamps on or off; whether this one may have one.
    #[inline]
    pub(super) fn count(&mut self, fd: BorrowedFd<'_>, now_ms: u64) -> bool {
        let may_have_one = self.are_on;
        self.left = self.left.saturating_sub(1);
        let age_ms = now_ms.saturating_sub(self.since_ms);
        if self.left == 0 || !self.are_on && age_ms > LONGEST_MS {
            self.judge(fd, age_ms, now_ms);
        }
        may_have_one
    }

    #[cold]
    fn judge(&mut self, fd: BorrowedFd<'_>, age_ms: u64, now_ms: u64) {
        let are_on = !self.are_on || age_ms >= BUSY_MS;
        if are_on != self.are_on {
            switch(fd, are_on);
        }
        let left = if are_on { STAMPED } else { SKIPPED };
        *self = Self { are_on, left, since_ms: now_ms };
    }
}

/// What the kernel refuses is not measured.
#[cold]
fn switch(fd: BorrowedFd<'_>, on: bool) {
    sockopt::set(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, i32::from(on)).ok();
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    fn stamps(socket: &UdpSocket) -> bool {
        let mut value: libc::c_int = 0;
        sockopt::get(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &mut value).unwrap();
        value != 0
    }

    /// How many of these receives, one each `every_us`, a socket stamps.
    fn stamped(receives: u64, every_us: u64) -> u64 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut state = TimeStamps::begin(socket.as_fd(), 0);
        let each = (0..receives).map(|receive| {
            let is_stamped = stamps(&socket);
            let may_have_one = state.count(socket.as_fd(), receive * every_us / 1000);
            assert_eq!(may_have_one, is_stamped);
            u64::from(is_stamped)
        });
        each.sum()
    }

    #[test]
    fn a_busy_socket_stamps_a_sixteenth_and_any_other_all() {
        assert_eq!(stamped(10 * 1024, 2), 10 * 64);
        assert_eq!(stamped(1000, 1000), 1000);
    }

    #[test]
    fn what_follows_a_burst_is_stamped() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut state = TimeStamps::begin(socket.as_fd(), 0);
        for _ in 0..100 {
            state.count(socket.as_fd(), 1);
        }
        assert!(!stamps(&socket));
        state.count(socket.as_fd(), 300);
        assert!(stamps(&socket));
    }
}
